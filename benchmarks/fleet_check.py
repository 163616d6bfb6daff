"""Whether the simulation tells of a small fleet what real cells showed: the loss of one of them.

python -m proofs.fleet cut --calls 60 --times 20 > cut.txt; python -m benchmarks.fleet --check cut.txt
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from .fleet_model import Counts, Fleet
from .fleet_parameters import Parameters
from .network_figures import quantile

# Between two figures of the same thing: what this machine's own lateness and the carrier's steps may add.
SILENCE_S: Final = 0.5
# Standard deviations of the mean, of calls that chance deals to the lost cell.
SPREAD: Final = 3.0
LONG_CALL_S: Final = 3_600.0


@dataclass(frozen=True)
class Measured:
    """What real cells behind one HAProxy showed when one of them was cut off, over all repetitions."""

    cuts: int
    # At the same time.
    calls: int
    # Calls of the cut cells, and those that ended.
    touched: int
    ended: int
    silence_p50_s: float
    silence_most_s: float
    without_memory: int
    cells: int = 3
    max_calls: int = 150
    edges: int = 1


def read(text: str) -> Measured:
    """What `python -m proofs.fleet cut` printed. Raises ValueError for anything else."""
    counted = re.search(r"cuts (\d+), calls (\d+), of the cut cells (\d+), lost (\d+)", text)
    silent = re.search(r"silence at the ear (\d+) ms p50, (\d+) at most", text)
    untold = re.search(r"not told all of the conversation: (\d+)", text)
    if counted is None or silent is None or untold is None:
        raise ValueError("this is not what `python -m proofs.fleet cut` prints")
    cuts, calls, touched, ended = map(int, counted.groups())
    p50_s, most_s = (int(each) / 1_000 for each in silent.groups())
    return Measured(cuts, calls // cuts, touched, ended, p50_s, most_s, int(untold[1]))


def compared(text: str, seed: int) -> tuple[list[str], bool]:
    """A line for each figure, and whether all agree."""
    measured = read(text)
    counts, lost = simulated(measured, seed)
    mean = measured.calls / measured.cells
    margin = SPREAD * max(1.0, (mean * (1 - 1 / measured.cells) / measured.cuts) ** 0.5)
    figures = (
        ("calls of the lost cell, mean", measured.touched / measured.cuts, sum(lost) / len(lost), margin),
        ("silence, p50, s", measured.silence_p50_s, quantile(counts.silences, 0.5), SILENCE_S),
        ("silence, longest, s", measured.silence_most_s, max(counts.silences), 2 * SILENCE_S),
        ("calls that ended", measured.ended, counts.refused, 0),
        ("conversations without their memory", measured.without_memory, counts.without_story, 0),
    )
    lines, agrees = [], True
    for name, real, model, allowed in figures:
        is_near = abs(real - model) <= allowed
        agrees &= is_near
        lines.append(f"{'ok  ' if is_near else 'FAR '}  {name}: measured {real:.2f}, simulated {model:.2f}")
    return lines, agrees


def simulated(measured: Measured, seed: int) -> tuple[Counts, list[int]]:
    """The same loss in simulated time: calls arrive one after the other, stay, and one cell dies."""
    whole, lost = Counts(), []
    parameters = replace(
        Parameters(),
        cells=measured.cells,
        zones=1,
        edges=measured.edges,
        max_calls=measured.max_calls,
        mean_call_s=LONG_CALL_S,
    )
    for repetition in range(max(20, measured.cuts)):
        fleet = Fleet(parameters, seed + repetition)
        for number in range(measured.calls):
            fleet.after(0.5 * number, fleet.arrive, LONG_CALL_S)
        fleet.env.run(until=0.5 * measured.calls + 2)
        victim = fleet.cells[repetition % measured.cells]
        lost.append(len(victim.calls))
        fleet.kill([victim])
        fleet.env.run(until=fleet.now_s + 30)
        whole.refused += fleet.counts.refused
        whole.without_story += fleet.counts.without_story
        whole.silences += fleet.counts.silences
    return whole, lost
