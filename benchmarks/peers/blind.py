"""Judges a call by when the ear played audio, without recognising the audio, because some peers resample it.

Audio that arrives between the first deltas of two items belongs to the first item. A session belongs to the call whose
caller spoke when the session's voice activity detection said so, because a peer does not tell the model which call it
is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from benchmarks.capacity_figures import Figures, Spread
from proofs.judge import UNHEARD_END_NS
from shared.audio import BYTE_NS, SILENCE
from simulator.carrier.call import CallRecord

_MS: Final = 1_000_000
# The first part of the greeting may be protected, so an interruption in it does not count.
_PROTECTED_NS: Final = 500 * _MS
# A speech_started that comes later than this after the caller's speech began belongs to other speech.
_FAR_NS: Final = 1_000 * _MS


@dataclass
class _Item:
    """An audio item of the model; `plays` holds (arrival, begin, end) at the ear of each piece of it."""

    truth: dict[str, Any]
    created_ns: int
    plays: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def heard_ms(self) -> float:
        return min(sum(end - begin for _, begin, end in self.plays) / _MS, float(self.truth["sent_bytes"]) / 8)

    def is_heard_at(self, at_ns: int) -> bool:
        return any(begin <= at_ns < end for _, begin, end in self.plays)


def hear(figures: Figures, calls: Sequence[CallRecord], sessions: Sequence[dict[str, Any]]) -> None:
    """Fill the figures with what the ears of the calls played."""
    gaps: list[float] = []
    wire: list[float] = []
    silences: list[float] = []
    history: list[float] = []
    response: list[float] = []
    start: list[float] = []
    out: list[float] = []
    heard_ms = lasted_ms = 0.0
    figures.failed_calls = 0
    for call, session in zip(calls, _match(calls, sessions), strict=True):
        items = _items(call, session) if session else []
        if not any(item.plays for item in items):
            figures.failed_calls += 1
            continue
        assert session is not None
        first = next(item for item in items if item.plays)
        began_ns, ended_ns = first.plays[0][1], call.ended_ns
        own_ns = first.truth["first_delta_ns"] - first.created_ns
        start.append((first.plays[0][0] - call.started_ns - own_ns) / _MS)
        for item in items:
            heard_ms += item.heard_ms
            for (before_ns, _, end), (arrival_ns, begin, _) in pairwise(item.plays):
                wire.append((arrival_ns - before_ns) / _MS)
                if begin > end:
                    gaps.append((begin - end) / _MS)
            if item.plays and item.plays[0][0] == item.plays[0][1]:
                out.append((item.plays[0][0] - item.truth["first_delta_ns"]) / _MS)
            if item.plays and item.plays[-1][2] < ended_ns - UNHEARD_END_NS:
                history.append(abs(item.truth["held_ms"] - int(item.heard_ms)))
        lasted_ms += (ended_ns - call.started_ns) / _MS
        for speech in session["speech"]:
            at_ns = speech["started_ns"]
            interrupted = [item for item in items if item.is_heard_at(at_ns)]
            if interrupted and at_ns > began_ns + _PROTECTED_NS and at_ns < ended_ns - UNHEARD_END_NS:
                silences.append((max(item.plays[-1][2] for item in interrupted) - at_ns) / _MS)
            stopped_ns = speech["stopped_ns"]
            answers = [item for item in items if stopped_ns and 0 <= item.created_ns - stopped_ns < 50 * _MS]
            if answers and answers[0].plays:
                response.append((answers[0].plays[0][1] - stopped_ns) / _MS)
        figures.errors += len(session["errors"]) + len(call.warnings)
        figures.clears += len(call.ear.clears)
    figures.talk_share = heard_ms / max(1.0, lasted_ms)
    figures.gaps, figures.gap_ms, figures.gap_max_ms = len(gaps), sum(gaps), max(gaps, default=0.0)
    figures.wire_gaps_100, figures.wire_gap_max_ms = sum(ms > 100 for ms in wire), max(wire, default=0.0)
    figures.interruptions, figures.silence = len(silences), Spread.of(silences)
    figures.history_error = Spread.of(history)
    figures.response, figures.start, figures.turn_out = Spread.of(response), Spread.of(start), Spread.of(out)
    figures.see_lags(calls, sessions)


def _match(calls: Sequence[CallRecord], sessions: Sequence[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """The session of each call, assigned in the order of certainty; None for a call without one."""

    def distance(call: CallRecord, session: dict[str, Any]) -> float:
        noticed: list[int] = [speech["started_ns"] for speech in session["speech"]]
        said = [each.at_ns for each in call.said]
        if not noticed or not said:
            return float("inf")
        # Count both directions, because the few words of one call may all coincide with many words of another.
        away = [min(_FAR_NS, min(abs(at - each) for each in noticed)) for at in said]
        away += [min(_FAR_NS, min(abs(at - each) for each in said)) for at in noticed]
        return sum(away) / len(away)

    pairs = sorted(
        ((distance(call, session), c, s) for c, call in enumerate(calls) for s, session in enumerate(sessions)),
    )
    found: dict[int, int] = {}
    taken: set[int] = set()
    for away, c, s in pairs:
        if away < float("inf") and c not in found and s not in taken:
            found[c] = s
            taken.add(s)
    return [sessions[found[c]] if c in found else None for c in range(len(calls))]


def _items(call: CallRecord, session: dict[str, Any]) -> list[_Item]:
    created = {each["id"]: each["created_ns"] for each in session["responses"]}
    items = sorted(
        (
            _Item(item, created.get(item["response_id"], 0))
            for item in session["items"]
            if item["role"] == "assistant" and item["sent_bytes"]
        ),
        key=lambda item: item.truth["first_delta_ns"],
    )
    at = 0
    begins = [item.truth["first_delta_ns"] for item in items] + [call.ended_ns + 1]
    number = 0
    ear = call.ear
    for arrival_ns, begin_ns, size, heard in zip(
        ear.arrival_ns, ear.play_start_ns, ear.size_bytes, ear.heard_bytes, strict=True
    ):
        audio = ear.audio[at : at + size]
        at += size
        while number + 1 < len(items) and arrival_ns >= begins[number + 1]:
            number += 1
        if heard and items and arrival_ns >= begins[0] and audio.strip(SILENCE):
            items[number].plays.append((arrival_ns, begin_ns, begin_ns + heard * BYTE_NS))
    return items
