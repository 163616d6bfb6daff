"""A line in virtual time: what every test of line, ear and utterance needs."""

from __future__ import annotations

import random
from collections.abc import Callable

from shared.messages import PROGRESS
from txpacer.core.lead import Lead
from txpacer.core.line import Line
from txpacer.core.reports import Cut

MS = 1_000_000
LEAD_MS = 120
GRID_NS = 5 * MS
T0 = 1_000_000 * MS
CALL = 7

Piece = tuple[int, bytes, int]


def make() -> Line:
    fixed = Lead(LEAD_MS * MS, min_ns=LEAD_MS * MS, max_ns=LEAD_MS * MS, step_ns=GRID_NS)
    return Line(fixed, grid_ns=GRID_NS, call=CALL)


def speech(ms: int, seed: int = 1) -> bytes:
    """Bytes in which every frame differs from every other."""
    return random.Random(seed).randbytes(ms * 8)


def withdraw(line: Line, through: int, now_ns: int, *, clear: bool = False) -> Cut:
    """The answer, which comes at once."""
    line.withdraw(through, now_ns, clear=clear)
    cut = line.reports[-1]
    assert isinstance(cut, Cut)
    return cut


def tick(line: Line, now_ns: int) -> list[Piece]:
    """What leaves at `now_ns`, as `(seq, audio, mark)`."""
    entries = line.tick(now_ns)
    assert {call for call, *_ in entries} <= {CALL}
    return [(seq, audio, 0 if mark == PROGRESS else mark) for _, seq, audio, mark in entries]


def frame_or_tick(line: Line, now_ns: int) -> list[Piece]:
    """The same, through `frame` at a deadline whenever the line gives one, as the pacer does."""
    due = line.next_due_ns()
    if due is not None and 0 <= now_ns - due < GRID_NS and (entry := line.frame()) is not None:
        return [entry[1:]]
    return tick(line, now_ns)


def run(
    line: Line, until_ns: int, *, start_ns: int = T0, step: Callable[[Line, int], list[Piece]] = tick
) -> list[tuple[int, int, bytes, int]]:
    """Step at every due time on the grid until `until_ns`; what came out, with its time."""
    out = []
    now = start_ns
    while True:
        out += [(now, *piece) for piece in step(line, now)]
        due = line.next_due_ns()
        if due is None:
            return out
        now = max(now, -(-due // GRID_NS) * GRID_NS)
        if now > until_ns:
            return out
