"""How long the caller heard the AI after their first sound, from the carrier's record of a call. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.audio import BYTE_NS
from simulator.carrier.call import CallRecord

_MS: Final = 1_000_000
# A shorter silence is a hesitation of the AI, which went on; the answer to the caller comes later.
_HESITATION_NS: Final = 700 * _MS


@dataclass(frozen=True)
class Stop:
    """One interruption: what the caller said into the AI's words, and how long the AI was heard from then on."""

    name: str
    after_ms: float


def stops(record: CallRecord) -> list[Stop]:
    """Every interruption of a call. What is said must begin with its first audible sound."""
    spoken = _spoken(record)
    found = []
    for said in record.said:
        end_ns = next((end_ns for begin_ns, end_ns in spoken if begin_ns <= said.at_ns < end_ns), None)
        if end_ns is not None:
            found.append(Stop(said.name, (end_ns - said.at_ns) / _MS))
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
