"""How a simulated Realtime model behaves: as the real one, or worse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """The defaults are those of a healthy gpt-realtime-2; each field forces one thing."""

    speed: float = 5.0  # audio is delivered this many times faster than real time (the real model: 3 to 10)
    first_delta_ms: int = 300  # from the creation of a response to its first audio, ms
    delta_ms: int = 100  # audio in one delta, ms
    ragged: bool = False  # deltas of random sizes instead: 1 byte, odd ones, many frames

    answer_ms: int = 0  # every utterance is cut or repeated to this length, ms; 0: as recorded
    clip: str = ""  # always speak this recording of voices/
    flood_times: int = 1  # every utterance is repeated this many times
    script: bool = False  # follow a script (script.py): greet, answer, call tools, say goodbye
    parrot: bool = False  # answer with the caller's last words, in the caller's voice
    preamble: bool = False  # first a short item of phase `commentary`; both items are closed together at the end
    transcript: Literal["early", "along", "late", "never"] = "along"  # of the model's words, against its audio
    no_audio: Literal["", "text", "empty"] = ""  # a response that holds text only, or nothing

    tool_call: str = ""  # a response calls these functions (names, with blanks between), unless it follows an output
    tool_arguments: str = "{}"  # JSON text that the call carries; "$call_id" in it becomes the call's id

    transcription: Literal["ok", "fail", "never"] = "ok"  # of the caller's words, when the session asks for it
    transcription_ms: int = 400  # from the commit to the transcription, ms

    detection_ms: int = 40  # this much of the caller's speech passes before the model notices it, ms
    stale_deltas_after_cancel: int = 0  # deltas that are still sent after a cancel
    stall_at_ms: int = 0  # after this much audio of an utterance, ms ...
    stall_ms: int = 0  # ... nothing comes for this long, ms; 0: no stall
    failure: str = ""  # every response fails with this error code instead of speaking

    recoverable_error_every_ms: int = (
        0  # an `error` event without consequence each time this many ms have passed; 0: never
    )
    fatal_error: str = ""  # an `error` with this code, e.g. insufficient_quota, and the server closes ...
    fatal_error_at_ms: int = 0  # ... after this much of the session, ms
    drop_utterance_at_ms: int | None = None  # the socket dies without a close frame after this much of an utterance, ms
    drop_session_at_ms: int | None = None  # the same after this much of the session, ms
    expire_after_ms: int = 3_600_000  # session_expired and close 1001; the real limit is 60 minutes

    refuse: Literal["", "key", "model", "rate_limit", "unavailable"] = ""  # the handshake: 401, 404, 429, 503
    handshake_ms: int = 0  # the handshake takes this much longer, ms

    responses: tuple[Behaviour, ...] = ()  # the first responses of a session behave like these, one by one

    def __post_init__(self) -> None:
        for name in ("speed", "delta_ms", "flood_times"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")

    def for_response(self, turn: int) -> Behaviour:
        """The behaviour of a session's response number `turn`, counted from 0."""
        return self.responses[turn] if turn < len(self.responses) else self

    @classmethod
    def embedded(cls, kind: Literal["talk", "parrot"]) -> Behaviour:
        """The model for a user without a key: it follows a script, or introduces itself and repeats its caller."""
        if kind == "parrot":
            return cls(parrot=True, responses=(cls(clip="introduction-parrot"),))
        return cls(script=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Behaviour:
        """Fields by name; the fields in `responses` override the outer ones. Raises ValueError with what is wrong."""
        try:
            fields: dict[str, Any] = json.loads(text)
            scripted = fields.pop("responses", [])
            return cls._of(fields | {"responses": [fields | each for each in scripted]})
        except (TypeError, AttributeError):
            raise ValueError("a behaviour is a JSON object") from None

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> Behaviour:
        names = set(cls.__dataclass_fields__)
        for each in (fields, *fields["responses"]):
            if unknown := set(each) - names:
                raise ValueError(f"no such behaviour: {', '.join(sorted(unknown))}")
        return msgspec.convert(fields, cls)


class Behaviours:
    """The behaviour of each session of a call: its list in order, then the last one for all further sessions."""

    def __init__(self) -> None:
        self._of: dict[str, list[Behaviour]] = {}

    def expect(self, call_sid: str, behaviours: Sequence[Behaviour]) -> None:
        self._of[call_sid] = list(behaviours)

    def __call__(self, request_id: str) -> Behaviour:
        left = self._of.get(request_id)
        if not left:
            return Behaviour()  # of no call: the probe of a starting worker
        return left.pop(0) if len(left) > 1 else left[0]
