"""How long the caller heard the AI after their first sound, from the carrier's record of a call. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.audio import BYTE_NS
from simulator.carrier.call import CallRecord

_MS: Final = 1_000_000
# A shorter silence is a hesitation of the AI, which went on; the answer to the caller comes later.
_HESITATION_NS: Final = 700 * _MS


@dataclass(frozen=True)
class Stop:
    """One interruption: what the caller said into the AI's words, and how long the AI was heard from then on.

    `known_ms`: how much of that passed until the line was paused or, without an early pause, until the model's report;
    None: the call's records have no interruption of that time.
    """

    name: str
    after_ms: float
    known_ms: float | None = None


def stops(record: CallRecord, interruptions: Sequence[Mapping[str, Any]] = (), *, epoch_ns: int = 0) -> list[Stop]:
    """Every interruption of a call. What is said must begin with its first audible sound.

    `interruptions` are those of the call's records; `epoch_ns` is when the carrier's clock, which is monotonic, was 0.
    """
    known_ns = [
        round(datetime.fromisoformat(each["paused_at"] or each["at"]).timestamp() * 1e3) * _MS - epoch_ns
        for each in interruptions
    ]
    spoken = _spoken(record)
    found = []
    for said in record.said:
        end_ns = next((end_ns for begin_ns, end_ns in spoken if begin_ns <= said.at_ns < end_ns), None)
        if end_ns is not None:
            known = next((at_ns for at_ns in known_ns if said.at_ns <= at_ns <= end_ns), None)
            known_ms = None if known is None else (known - said.at_ns) / _MS
            found.append(Stop(said.name, (end_ns - said.at_ns) / _MS, known_ms))
    return found


def _spoken(record: CallRecord) -> list[tuple[int, int]]:
    """From when to when the AI was heard, over its hesitations."""
    ear = record.ear
    spoken: list[tuple[int, int]] = []
    for begin_ns, size in zip(ear.play_start_ns, ear.heard_bytes, strict=True):
        end_ns = begin_ns + size * BYTE_NS
        if spoken and begin_ns - spoken[-1][1] < _HESITATION_NS:
            spoken[-1] = (spoken[-1][0], end_ns)
        elif size:
            spoken.append((begin_ns, end_ns))
    return spoken


def percentile(values: Sequence[float], percent: int) -> float:
    """Of sorted values, which must not be empty."""
    return values[min(len(values) - 1, len(values) * percent // 100)]
