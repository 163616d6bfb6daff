"""Whether the simulation tells of a small fleet what real cells showed: the loss of one of them.

Real cells behind HAProxy write what they measured as JSON:

    {"cells": 3, "calls": 60, "edges": 1, "max_calls": 60, "lost": [20, 19, ...], "silences_s": [1.9, 2.1, ...],
     "refused": 0, "without_memory": 0}

`lost` is the number of calls of the lost cell in each repetition, `silences_s` each of their silences in all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from .fleet_model import Counts, Fleet
from .fleet_parameters import Parameters
from .network_figures import quantile

# Between two figures of the same thing: what this machine's own lateness and the carrier's steps may add.
SILENCE_S: Final = 0.5
# Standard deviations of the mean, of calls that chance deals to the lost cell.
SPREAD: Final = 3.0
LONG_CALL_S: Final = 3_600.0


class Measured(msgspec.Struct, frozen=True):
    """What real cells showed when one of them was lost, over all repetitions."""

    cells: int
    calls: int
    lost: list[int]
    silences_s: list[float]
    max_calls: int = 150
    edges: int = 1
    refused: int = 0
    without_memory: int = 0


def compared(text: bytes, seed: int) -> tuple[list[str], bool]:
    """A line for each figure, and whether all agree. Raises ValueError for a text that is not `Measured`."""
    measured = msgspec.json.decode(text, type=Measured)
    if not measured.lost or not measured.silences_s:
        raise ValueError("nothing was measured: `lost` or `silences_s` is empty")
    counts, lost = simulated(measured, seed)
    mean = measured.calls / measured.cells
    margin = SPREAD * max(1.0, (mean * (1 - 1 / measured.cells) / len(measured.lost)) ** 0.5)
    figures = (
        ("calls of the lost cell, mean", _mean(measured.lost), _mean(lost), margin),
        ("silence, p50, s", quantile(measured.silences_s, 0.5), quantile(counts.silences, 0.5), SILENCE_S),
        ("silence, longest, s", max(measured.silences_s), max(counts.silences), 2 * SILENCE_S),
        ("callers refused", measured.refused, counts.refused, 0),
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
    for repetition in range(max(20, len(measured.lost))):
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


def _mean(numbers: list[int]) -> float:
    return sum(numbers) / len(numbers)
