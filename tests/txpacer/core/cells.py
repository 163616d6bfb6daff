"""A virtual cell with one call that speaks, and helpers that read its reports."""

from __future__ import annotations

import random

from shared.audio import BYTE_NS
from shared.messages import PlayoutFinished, PlayoutShifted
from shared.metrics import Histogram

from ..virtual_lines import HOP_NS, MS, Lines

STALLS_MS = [5, 19, 21, 60, 119, 121, 500, 5_000]


def speech(ms: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(ms * 8)


def talking(ms: int = 10_000) -> Lines:
    """One call in the middle of an utterance of `ms`, one second after it began: a frame has just been paced."""
    cell = Lines()
    cell.open(1)
    cell.say(1, 1, speech(ms))
    cell.run(1_000)
    return cell


def written(cell: Lines) -> Lines:
    """The frame that was paced is on the wire now."""
    cell.run(HOP_NS // MS)
    return cell


def assert_the_ear_position_was_correct(cell: Lines) -> None:
    """The last utterance was reported as finished when it was, except for the hop, which no gateway reports."""
    record = cell.ear(1)
    (*_, finished) = cell.of(PlayoutFinished)
    assert isinstance(finished, PlayoutFinished)
    assert 0 <= record.play_start_ns[-1] + record.size_bytes[-1] * BYTE_NS - finished.ear_ns <= HOP_NS


def told_gap_ms(cell: Lines) -> float:
    return sum(r.gap_ns for r in cell.of(PlayoutShifted) if isinstance(r, PlayoutShifted) and r.audible) / MS


def histogram(metric: Histogram) -> list[float]:
    """Counts for each bucket, and the sum."""
    return list(metric._cells[metric._at : metric._sum_at + 1])
