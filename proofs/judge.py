"""Judges one call: what the ear heard, against what the model said, when the caller spoke, and what the model believes.

The judge asks nothing of the system under test. The carrier's record says what was heard and when. The simulated
model's record says what was said, and what its conversation holds now. Both clocks are CLOCK_MONOTONIC of one machine.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from shared.audio import BYTE_NS, BYTES_PER_MS, FRAME_BYTES, FRAME_NS, MULAW_TO_LINEAR, ms_of
from simulator.carrier.call import CallRecord

from .inbound import Inbound, compare
from .spoken import (
    ErrorTruth,
    SessionTruth,
    SpeechTruth,
    Spoken,
    damages,
    gaps,
    listen,
    read_sessions,
    wire_gaps_ms,
)
from .verdict import ALREADY_ACTIVE, CANCEL_NOT_ACTIVE, Answer, Cut, ErrorSeen, Greeting, History, Interruption, Verdict

_MS: Final = 1_000_000
# Events of carrier and model that are this close together may be seen in either order.
_RACE_NS: Final = 2 * FRAME_NS
# Audio in flight when the call ended: the lead, and the model's next words.
_END_NS: Final = 300 * _MS
# An answer created later than this before the end need not have come to the ear: 300 ms to its first delta (the model's
# own time), the lead, and some lateness.
UNHEARD_END_NS: Final = 500 * _MS
# An answer later than this is no answer.
_ANSWER_NS: Final = 5_000 * _MS
# The same when no answer was requested. The server begins one by itself at once, unless a response is active.
_ASKED_NS: Final = 1_000 * _MS
# From the model's first delta to its first sample at the ear, where the line is free: the hops, a tick and a frame.
_ON_ITS_WAY_NS: Final = 250 * _MS

# How long after the end of a response its client may still cancel it: two hops and a busy machine.
_CROSSING_NS: Final = 50 * _MS


def judge(
    call: CallRecord,
    sessions: Sequence[dict[str, Any]],
    *,
    protect_ms: int = 500,
    keys_interrupt: bool = False,
    held_up_ms: float = 0.0,
) -> Verdict:
    """The verdict on one call, from the carrier's record and the model server's records of its session or sessions.

    `protect_ms` is the length of greeting that no interruption may cut. `keys_interrupt`: a key interrupts as speech
    does. `held_up_ms` is how long the path to the caller may delay audio. Raises msgspec.ValidationError for records
    that are not the model server's.
    """
    truths = read_sessions(sessions)
    spoken, pieces = listen(call, truths)
    speech = sorted((each for truth in truths for each in truth.speech), key=lambda each: each.started_ns)
    protection = _protection(spoken, protect_ms)
    speaks = _speaks_at(call, speech, protection[1])
    barging = speech
    if keys_interrupt:
        keys = _keys(call)
        # Whether more keys follow those over protected words is not known here.
        speaks |= dict.fromkeys((key.started_ns for key in keys), None)
        barging = sorted([*speech, *keys], key=lambda each: each.started_ns)
    interruptions = _interruptions(spoken, barging, protection, speaks)
    _excuse(spoken, barging, interruptions, protection, speaks)
    _excuse_at_end(spoken, call, int(held_up_ms * _MS))
    cuts = _cuts(spoken, call)
    heard = [piece for piece in pieces if piece.item >= 0 and piece.heard]
    wire = wire_gaps_ms(pieces)
    errors = [ErrorSeen(each.at_ns, each.code or "") for truth in truths for each in _unforced(truth)]
    answers, unanswered_ns = _answers(spoken, speech, call)
    return Verdict(
        call_sid=call.call_sid,
        outcome=call.outcome,
        duration_ms=(call.ended_ns - call.started_ns) / _MS,
        first_audio_ms=(heard[0].play_start_ns - call.started_ns) / _MS if heard else None,
        speech_ms=sum(piece.heard for piece in heard) / BYTES_PER_MS,
        gaps=gaps(spoken, heard),
        cuts=cuts,
        damages=tuple(sorted(damages(spoken, pieces), key=lambda each: each.at_ns)),
        inbound=_inbound(call, truths),
        interruptions=tuple(interruptions),
        greeting=_greeting(spoken, protection, interruptions, protect_ms),
        history=tuple(_history(spoken)),
        answers=answers,
        unanswered_ns=unanswered_ns,
        cancels=max((each.cancels for truth in truths for each in truth.responses), default=0),
        cancel_not_active=sum(each.code == CANCEL_NOT_ACTIVE for each in errors),
        errors=tuple(each for each in errors if each.code != CANCEL_NOT_ACTIVE),
        wire_gaps_100=sum(ms > 100 for ms in wire),
        wire_gaps_300=sum(ms > 300 for ms in wire),
        wire_gap_max_ms=max(wire, default=0.0),
        clears=len(call.ear.clears),
        warnings=tuple(f"{each.code} {each.text}" for each in call.warnings),
        lag_max_ms=max((lag.late_ns for lag in call.lags), default=0) / _MS,
        legs=call.legs,
        back_ms=tuple(_back_ms(call)),
    )


def _back_ms(call: CallRecord) -> Iterator[float]:
    """For each media stream after a dialled leg, how long the caller waited since that leg for the AI."""
    for stream in call.streams[1:]:
        before = [leg.ended_ns for leg in call.legs if leg.ended_ns <= stream.started_ns]
        if before:
            heard = (at_ns for at_ns in call.ear.play_start_ns if at_ns > stream.started_ns)
            yield (next(heard, call.ended_ns) - before[-1]) / _MS


def _inbound(call: CallRecord, truths: Sequence[SessionTruth]) -> Inbound | None:
    inputs = [truth.input_b64 for truth in truths if truth.input_b64 is not None]
    return compare(call, inputs, truths[-1].closed_ns) if inputs else None


def _keys(call: CallRecord) -> list[SpeechTruth]:
    """The keys, each as speech that begins with it: its frame arrives when it is full."""
    return [SpeechTruth(key.at_ns + FRAME_NS, key.at_ns + FRAME_NS) for key in call.keys]


def _unforced(truth: SessionTruth) -> Iterator[ErrorTruth]:
    """The errors of a session, without those that no client can avoid.

    The server causes one itself when a turn ends during a response. A cancel may cross the end of its response.
    """
    stops = {speech.stopped_ns for speech in truth.speech}
    for each in truth.errors:
        ends = (each.at_ns - (response.done_ns or 0) for response in truth.responses)
        if each.code == ALREADY_ACTIVE and each.at_ns in stops:
            continue
        if each.code == CANCEL_NOT_ACTIVE and any(0 <= since_ns <= _CROSSING_NS for since_ns in ends):
            continue
        yield each


def _protection(spoken: Sequence[Spoken], protect_ms: int) -> tuple[int, int]:
    """When the protected part of the greeting began and ended at the ear; (0, 0) when no greeting was heard."""
    pieces = [piece for each in _greeting_items(spoken) for piece in each.heard]
    left = protect_ms * BYTES_PER_MS
    for piece in pieces:
        if piece.heard >= left:
            return pieces[0].play_start_ns, piece.play_start_ns + left * BYTE_NS
        left -= piece.heard
    return (pieces[0].play_start_ns, pieces[-1].play_end_ns) if pieces else (0, 0)


def _greeting_items(spoken: Sequence[Spoken]) -> list[Spoken]:
    return [each for each in spoken if each.session == 0 and each.response.id == spoken[0].response.id]


def _speaks_at(call: CallRecord, speech: Sequence[SpeechTruth], at_ns: int) -> dict[int, bool | None]:
    """For each speech, by its start: was the caller still speaking at `at_ns`? None: either may be said.

    The server notices the end of speech half a second late, so the caller's own audio of the last 200 ms decides. It
    has to be clearly loud, or clearly quiet, against the loudest audio of the last second.
    """
    found: dict[int, bool | None] = {}
    for each in speech:
        stopped_ns = each.stopped_ns
        if stopped_ns is not None and stopped_ns < at_ns - _RACE_NS:
            found[each.started_ns] = False
        elif stopped_ns is not None and stopped_ns < at_ns + _RACE_NS:
            found[each.started_ns] = None
        else:
            found[each.started_ns] = True
            levels = _levels(call, at_ns)
            if levels:
                loudest = max(levels)
                if max(levels[-10:]) < max(140, loudest / 10):
                    found[each.started_ns] = False
                elif max(levels[-7:-1]) < max(400, loudest / 6):
                    found[each.started_ns] = None
    return found


def _levels(call: CallRecord, at_ns: int) -> list[float]:
    """Mean amplitudes of the caller's 20 ms frames in the second before `at_ns`; empty when unknown."""
    said = [each for each in call.said if each.at_ns < at_ns and each.audio]
    if not said:
        return []
    levels = []
    for back in range(50, 0, -1):
        from_ns = at_ns - back * FRAME_NS
        frame = b""
        for each in said:
            offset = (from_ns - each.at_ns) // BYTE_NS
            if 0 <= offset < len(each.audio):
                frame = each.audio[offset : offset + FRAME_BYTES]
        levels.append(sum(abs(MULAW_TO_LINEAR[code]) for code in frame) / len(frame) if frame else 0.0)
    return levels


def _interruptions(
    spoken: Sequence[Spoken],
    speech: Sequence[SpeechTruth],
    protection: tuple[int, int],
    speaks: dict[int, bool | None],
) -> list[Interruption]:
    began_ns, until_ns = protection
    withdrawn: set[str] = set()
    interruptions = []
    for each in speech:
        at_ns = each.started_ns
        if not any(item.is_being_heard(at_ns) and item.response.id not in withdrawn for item in spoken):
            continue
        is_protected = began_ns <= at_ns < until_ns
        effective_ns: int | None = max(at_ns, until_ns) if is_protected else at_ns
        if is_protected and not speaks[each.started_ns]:
            effective_ns = None
        # What else the model had begun to answer goes with the answer that is being heard.
        gone = {
            item.response.id
            for item in spoken
            if item.response.created_ns <= at_ns
            # A fresh session may hear a whole turn at once, and answer it in the same instant.
            and item.response.created_ns != each.stopped_ns
            and item.reach_at(at_ns) < len(item.coverage)
        } - withdrawn
        after: list[tuple[float, float]] = []
        if effective_ns is not None:
            withdrawn |= gone
            after = [
                (max(0, piece.play_start_ns - effective_ns) / _MS, (piece.play_end_ns - effective_ns) / _MS)
                for item in spoken
                if item.response.id in gone
                for piece in item.heard
                if piece.play_end_ns > effective_ns
            ]
        silence_ms = max((end for _, end in after), default=0.0)
        interruptions.append(
            Interruption(at_ns, effective_ns, is_protected, tuple(sorted(gone)), silence_ms, tuple(after))
        )
    return interruptions


def _excuse(
    spoken: Sequence[Spoken],
    speech: Sequence[SpeechTruth],
    interruptions: Sequence[Interruption],
    protection: tuple[int, int],
    speaks: dict[int, bool | None],
) -> None:
    """Note for each item that was not heard to its end which interruption was, or may have been, the reason."""
    unfinished = [item for item in spoken if item.reach < len(item.coverage)]
    for interruption in interruptions:
        at_ns = interruption.effective_ns
        if at_ns is None and speaks[interruption.at_ns] is None:
            at_ns = protection[1]  # it stopped just as the protection ended: either may have been seen first
        for item in unfinished:
            if at_ns is not None and item.response.id in interruption.response_ids:
                item.withdrawn_ns = item.withdrawn_ns or at_ns
    for each in speech:
        for item in unfinished:
            # Someone spoke when the first sample was on its way: the system may take that for an interruption.
            first_ns = item.began_ns if item.heard else _due_ns(item, spoken)
            if item.response.created_ns - _RACE_NS <= each.started_ns <= first_ns:
                item.withdrawn_ns = item.withdrawn_ns or each.started_ns


def _excuse_at_end(spoken: Sequence[Spoken], call: CallRecord, held_up_ns: int) -> None:
    """Note which items could not be heard to their end because the call ended.

    The end of an earlier stream excuses nothing: the rest of an item is due on the next stream.
    """
    if not call.streams:
        return
    end_ns = call.streams[-1].ended_ns
    in_flight_ns = _END_NS + held_up_ns
    was_busy = any(
        item.heard and item.began_ns <= end_ns <= item.ended_ns + in_flight_ns and item.withdrawn_ns is None
        for item in spoken
    )
    for item in spoken:
        if item.reach == len(item.coverage):
            continue
        if item.heard:
            item.ended_with_call = item.began_ns <= end_ns <= item.ended_ns + in_flight_ns
        else:
            created_ns = item.response.created_ns
            is_new = end_ns - created_ns < UNHEARD_END_NS + held_up_ns
            item.ended_with_call = created_ns > end_ns or was_busy or is_new


def _cuts(spoken: Sequence[Spoken], call: CallRecord) -> tuple[Cut, ...]:
    return tuple(
        Cut(
            item.ended_ns if item.heard else item.response.created_ns,
            item.truth.item_id,
            len(item.coverage) - item.reach,
        )
        for item in spoken
        if item.reach < len(item.coverage) and item.withdrawn_ns is None and not item.ended_with_call
    )


def _history(spoken: Iterable[Spoken]) -> Iterable[History]:
    """Each item whose end, or interruption, is before the end of its session; later the history cannot be corrected."""
    for item in spoken:
        if item.ended_with_call:
            continue
        if item.closed_ns is not None and item.withdrawn_ns is not None and item.withdrawn_ns >= item.closed_ns:
            continue
        yield History(item.truth.item_id, int(item.truth.held_ms), ms_of(item.heard_bytes))


def _greeting(
    spoken: Sequence[Spoken],
    protection: tuple[int, int],
    interruptions: Sequence[Interruption],
    protect_ms: int,
) -> Greeting | None:
    items = _greeting_items(spoken)
    if not items:
        return None
    total_ms = sum(len(item.coverage) for item in items) / BYTES_PER_MS
    heard_ms = sum(item.heard_bytes for item in items) / BYTES_PER_MS
    protected_ms = min(total_ms, protect_ms)
    ended = any(item.ended_with_call for item in items)
    is_breached = heard_ms < protected_ms and not ended and any(each.is_protected for each in interruptions)
    return Greeting(total_ms, heard_ms, protected_ms, *protection, is_breached)


def _due_ns(item: Spoken, spoken: Sequence[Spoken]) -> int:
    """When the first sample of an item that was never heard was due: after it was made, and the line was free."""
    made_ns = item.truth.first_delta_ns or item.response.created_ns
    busy = [other.ended_ns for other in spoken if other.heard and other.response.created_ns <= made_ns]
    return max([made_ns, *busy]) + _ON_ITS_WAY_NS


def _answers(
    spoken: Sequence[Spoken], speech: Sequence[SpeechTruth], call: CallRecord
) -> tuple[tuple[Answer, ...], tuple[int, ...]]:
    """How long each answer took, and the ends of the turns that got no answer in time."""
    items = sorted((item for item in spoken if item.heard), key=lambda item: item.began_ns)
    created = [item.response.created_ns for item in spoken]
    answers = []
    unanswered_ns = []
    for number, each in enumerate(speech):
        if each.stopped_ns is None:
            continue
        stopped_ns = each.stopped_ns
        until_ns = speech[number + 1].started_ns if number + 1 < len(speech) else call.ended_ns
        answer = next(
            (
                item
                for item in items
                if item.began_ns >= stopped_ns and item.response.created_ns >= stopped_ns - _RACE_NS
            ),
            None,
        )
        # The AI was still being heard: the caller waits from its end on.
        from_ns = max([stopped_ns, *(item.ended_ns for item in spoken if item.is_being_heard(stopped_ns))])
        if answer is not None and answer.began_ns <= until_ns:
            made_ns = max(0, answer.truth.first_delta_ns - answer.response.created_ns)
            answers.append(Answer(stopped_ns, (answer.began_ns - from_ns) / _MS, made_ns / _MS))
            continue
        is_asked = any(stopped_ns - _RACE_NS <= at_ns <= until_ns for at_ns in created)
        if until_ns - from_ns > (_ANSWER_NS if is_asked else _ASKED_NS):
            unanswered_ns.append(stopped_ns)
    return tuple(answers), tuple(unanswered_ns)
