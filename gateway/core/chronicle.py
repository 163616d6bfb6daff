"""The facts of each call for callbook, and when they are sent: none before the call's first frame has left.

Earlier facts, Twilio's callbacks included, wait here in memory, so that nothing slow begins for a call whose caller has
heard nothing yet. They are sent when the call ends without a frame, or when its media socket does not come.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from shared.facts import CallStatus, DialBegan, DialEnded, Fact, RecordingStatus, StreamBegan, StreamEnded
from shared.plan import CallPlan, Dial

from .plans import FIELD_MAX
from .tokens import LIFE_NS

# Calls between webhook and first frame: enough for 160 new calls a second. The oldest goes first.
EXPECTED_MAX: Final = 10_000
# Callbacks that may wait for a call's first frame: Twilio sends queued, initiated, ringing and in-progress.
CALLBACKS_MAX: Final = 16
# Twilio's words for a call that is over.
FINAL: Final = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})

_SID: Final = re.compile(r"[A-Za-z0-9]{2,64}", re.ASCII)


@dataclass
class _Expected:
    """A call whose first frame has not left yet."""

    # Its media socket may come until then; None: it came.
    until_ns: int | None
    # Its StreamBegan without the first frame; None until the media socket comes.
    began: StreamBegan | None = None
    callbacks: list[Fact] = field(default_factory=list)

    def facts(self, first_frame_ms: int) -> list[Fact]:
        """All waiting facts; `first_frame_ms` 0: there was no frame."""
        if self.began is None:
            return self.callbacks
        return [msgspec.structs.replace(self.began, first_frame_ms=first_frame_ms), *self.callbacks]


class Chronicle:
    """Each method returns the facts to send, in order. `_ns` is the monotonic clock, `_ms` the wall clock."""

    def __init__(self) -> None:
        self._expected: OrderedDict[str, _Expected] = OrderedDict()

    def expect(self, call_sid: str, now_ns: int) -> list[Fact]:
        """A webhook was answered with a media socket."""
        facts = self._let_go(now_ns)
        before = self._expected.pop(call_sid, None)
        expected = self._expected[call_sid] = _Expected(now_ns + LIFE_NS)
        if before is not None:
            expected.callbacks = before.callbacks
        return facts

    def stream_began(self, call_sid: str, stream_sid: str, plan: CallPlan, *, resumed: bool, started_ms: int) -> None:
        """The call's media socket is open here, whichever gateway answered the webhook."""
        expected = self._expected.setdefault(call_sid, _Expected(None))
        expected.until_ns = None
        expected.began = StreamBegan(
            call_sid, stream_sid, plan.account_sid, plan.from_number, plan.to_number, resumed, started_ms, 0
        )

    def first_frame(self, call_sid: str, at_ms: int) -> list[Fact]:
        """The first frame was written to Twilio's socket: slow work may start."""
        expected = self._expected.pop(call_sid, None)
        return expected.facts(at_ms) if expected is not None else []

    def stream_ended(self, fact: StreamEnded) -> list[Fact]:
        """The media socket is gone."""
        expected = self._expected.get(fact.call_sid)
        if expected is None or expected.began is None or expected.began.stream_sid != fact.stream_sid:
            return [fact]
        del self._expected[fact.call_sid]
        return [*expected.facts(0), fact]

    def dial_began(self, call_sid: str, order: Dial, at_ms: int) -> list[Fact]:
        """A webhook was answered with this order."""
        return [DialBegan(call_sid, order.to, order.caller_id, at_ms)]

    def dial_ended(
        self, call_sid: str, outcome: str, fields: Mapping[str, str], at_ms: int, *, caller_left: bool
    ) -> list[Fact]:
        """A webhook says how an order ended."""
        return [DialEnded(call_sid, outcome, _number(fields, "DialCallDuration", -1), caller_left, at_ms)]

    def callback(self, hook: str, fields: Mapping[str, str], at_ms: int, now_ns: int) -> list[Fact]:
        """A signed callback of Twilio's. A callback without news about a call is ignored."""
        facts = self._let_go(now_ns)
        fact = _recording(fields, at_ms) if hook == "recording" else _status(fields, at_ms)
        if fact is None:
            return facts
        expected = self._expected.get(fact.call_sid)
        if expected is not None and expected.began is None and _is_final(fact):
            # The call ended before its media socket came.
            del self._expected[fact.call_sid]
            return [*facts, *expected.callbacks, fact]
        if expected is None:
            return [*facts, fact]
        if len(expected.callbacks) < CALLBACKS_MAX:
            expected.callbacks.append(fact)
        return facts

    def _let_go(self, now_ns: int) -> list[Fact]:
        """Stop waiting for calls whose media socket did not come in its time."""
        facts: list[Fact] = []
        while self._expected:
            call_sid, expected = next(iter(self._expected.items()))
            if expected.until_ns is None:  # a live call; only its first frame is missing
                self._expected.move_to_end(call_sid)
                break
            if expected.until_ns > now_ns and len(self._expected) <= EXPECTED_MAX:
                break
            del self._expected[call_sid]
            facts += expected.callbacks
        return facts


def _is_final(fact: CallStatus | RecordingStatus) -> bool:
    return isinstance(fact, CallStatus) and fact.status in FINAL


def _status(fields: Mapping[str, str], at_ms: int) -> CallStatus | None:
    call_sid, status = fields.get("CallSid", ""), fields.get("CallStatus", "")
    if not _SID.fullmatch(call_sid) or not status:
        return None
    return CallStatus(
        call_sid,
        fields.get("AccountSid", "")[:FIELD_MAX],
        fields.get("From", "")[:FIELD_MAX],
        fields.get("To", "")[:FIELD_MAX],
        status[:FIELD_MAX],
        _number(fields, "CallDuration", -1),
        at_ms,
    )


def _recording(fields: Mapping[str, str], at_ms: int) -> RecordingStatus | None:
    call_sid, recording_sid = fields.get("CallSid", ""), fields.get("RecordingSid", "")
    if not _SID.fullmatch(call_sid) or not _SID.fullmatch(recording_sid):
        return None
    return RecordingStatus(
        call_sid,
        recording_sid,
        fields.get("RecordingStatus", "")[:FIELD_MAX],
        _number(fields, "RecordingDuration", -1),
        _number(fields, "RecordingChannels", 0),
        fields.get("ErrorCode", "")[:FIELD_MAX],
        at_ms,
    )


def _number(fields: Mapping[str, str], name: str, unknown: int) -> int:
    text = fields.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else unknown
