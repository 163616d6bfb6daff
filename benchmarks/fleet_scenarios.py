"""What happens to the fleet: one function for each question, with the figures that answer it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final

from .fleet_model import Counts, Fleet, Steps
from .fleet_parameters import Parameters

# The fleet has its usual calls for this long before anything happens.
QUIET_S: Final = 60.0
DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Sample:
    """One second: calls in all, of the emptiest, the usual and the fullest cell that takes calls, refusals so far."""

    at_s: float
    live: int
    least: int
    mean: float
    most: int
    refused: int
    handed_over: int


@dataclass(frozen=True)
class Result:
    """One run. `figures` are the answers beyond `counts`; `cell_calls` is the watched cell's calls at each sample."""

    scenario: str
    case: str
    counts: Counts
    live: int
    samples: list[Sample] = field(repr=False)
    figures: Mapping[str, float] = field(default_factory=dict)
    cell_calls: list[int] = field(default_factory=list, repr=False)

    @property
    def most(self) -> int:
        """The fullest cell, once the first minute is over."""
        return max(sample.most for sample in self.samples if sample.at_s >= min(QUIET_S, self.samples[-1].at_s))


def steady(fleet: Fleet) -> float:
    """The arrivals of `Parameters`, beginning with the calls that they keep alive. Returns the rate."""
    rate = fleet.p.arrivals_per_s
    fleet.settle(fleet.p.calls)
    fleet.env.process(fleet.arrivals(lambda _: rate, rate))
    return rate


def watched(fleet: Fleet, scenario: str, case: str, for_s: float, *, every_s: float = 1.0, cell: int = 0) -> Result:
    """Run the fleet for so long, and look at it every second."""
    samples: list[Sample] = []
    cell_calls: list[int] = []

    def look() -> Steps:
        while True:
            calls = [len(each.calls) for each in fleet.cells if each.is_alive and not each.is_draining] or [0]
            mean = sum(calls) / len(calls)
            counts = fleet.counts
            samples.append(
                Sample(fleet.now_s, fleet.live, min(calls), mean, max(calls), counts.refused, counts.handed_over)
            )
            cell_calls.append(len(fleet.cells[cell].calls))
            yield fleet.env.timeout(every_s)

    fleet.env.process(look())
    fleet.env.run(until=fleet.now_s + for_s)
    return Result(scenario, case, fleet.counts, fleet.live, samples, cell_calls=cell_calls)


# --- the questions ---


def stale_load(p: Parameters, seed: int) -> list[Result]:
    """Each HAProxy knows its own connections only, and weights that are up to a second old: what does that cost?"""
    # 3 % of room: what is badly spread is refused.
    tight = replace(p, max_calls=math.ceil(p.calls / p.cells * 1.03))
    least = replace(tight, draws=0, retries=3)
    cases = {
        "leastconn, one HAProxy that sees everything": replace(least, edges=1),
        f"leastconn, {p.edges} HAProxies": least,
        f"leastconn, {p.edges} HAProxies, weights 10 s old": replace(least, agent_s=10.0),
        f"leastconn, {p.edges} HAProxies, 20 retries": replace(least, retries=20),
        "random(1)": replace(tight, draws=1),
        "random(2), 3 retries": replace(tight, retries=3),
        "random(2)": tight,
        f"random(2), {4 * p.edges} HAProxies": replace(tight, edges=4 * p.edges),
        "random(2), weights 10 s old": replace(tight, agent_s=10.0),
    }
    found = []
    for case, parameters in cases.items():
        fleet = Fleet(parameters, seed)
        steady(fleet)
        found.append(watched(fleet, "stale load", case, 600.0))
    return found


def new_cell(p: Parameters, seed: int) -> list[Result]:
    """A cell that starts empty among full ones: how many new calls, each with a dial, does it get in a second?"""
    found = []
    for draws, name in ((2, "random(2)"), (0, "leastconn")):
        for has_ramp in (True, False):
            fleet = Fleet(replace(p, draws=draws), seed, has_ramp=has_ramp)
            steady(fleet)
            new = fleet.cells[0]
            fleet.empty(new)
            fleet.after(QUIET_S, fleet.start, [new])
            seen = watched(fleet, "a new cell", f"{name}, {'ramp' if has_ramp else 'no ramp'}", QUIET_S + 240.0)
            own = zip(seen.samples, seen.cell_calls, strict=True)
            full = (each.at_s - QUIET_S for each, calls in own if each.at_s > QUIET_S and calls >= 0.9 * each.mean)
            figures = {
                "new calls in its fullest second": max(n for second, n in new.taken.items() if second >= QUIET_S),
                "seconds until it has 90 % of the others' calls": next(full, math.inf),
            }
            found.append(replace(seen, figures=figures))
    return found


def cell_lost(p: Parameters, seed: int) -> list[Result]:
    """The power of one cell goes: 20 runs of each case, with other chance in each."""
    cases = {
        f"timeout connect {p.connect_s:g} s": p,
        "timeout connect 0.3 s": replace(p, connect_s=0.3),
        "one HAProxy": replace(p, edges=1),
    }
    found = []
    for case, parameters in cases.items():
        runs = []
        for number in range(20):
            fleet = Fleet(parameters, seed + number)
            steady(fleet)
            fleet.after(QUIET_S, fleet.kill, [fleet.cells[0]])
            runs.append(watched(fleet, "a cell lost", case, QUIET_S + 30.0))
        found.append(together(runs))
    return found


def together(runs: Sequence[Result]) -> Result:
    """The counts of several runs, added."""
    whole = Counts()
    for run in runs:
        for each in fields(Counts):
            setattr(whole, each.name, getattr(whole, each.name) + getattr(run.counts, each.name))
    first = runs[0]
    return replace(first, counts=whole, live=sum(run.live for run in runs))


def zone_lost(p: Parameters, seed: int) -> list[Result]:
    """The power of every cell of a zone goes: is there room for their calls, and does the model take them?"""
    found = []
    cell = p.calls / p.cells
    enough = math.ceil(cell * p.zones / (p.zones - 1) * 1.05)
    for max_calls in (p.max_calls, enough):
        for dials_per_s in (p.dials_per_s, 1_000.0):
            parameters = replace(p, max_calls=max_calls, dials_per_s=dials_per_s, dials_burst=dials_per_s)
            fleet = Fleet(parameters, seed)
            steady(fleet)
            fleet.after(QUIET_S, fleet.kill, [cell for cell in fleet.cells if cell.zone == 0])
            case = f"MAX_CALLS={max_calls}, {dials_per_s:g} dials/s"
            seen = watched(fleet, "a zone lost", case, QUIET_S + 120.0)
            found.append(replace(seen, figures={"dials in the fullest second": max(fleet.provider.dials.values())}))
    return found


def dial_bursts(p: Parameters, seed: int) -> list[Result]:
    """One cell dies: how many dials a second must the model accept?"""
    found = []
    rate = p.arrivals_per_s
    for limit in (1.1 * rate, 1.5 * rate, 2 * rate, 4 * rate):
        fleet = Fleet(replace(p, dials_per_s=limit, dials_burst=limit), seed)
        steady(fleet)
        fleet.after(QUIET_S, fleet.kill, [fleet.cells[0]])
        seen = watched(fleet, "a cell lost, by the model's limit", f"{limit:.0f} dials/s", QUIET_S + 120.0)
        found.append(replace(seen, figures={"dials refused": fleet.provider.refused}))
    return found


def store_lost(p: Parameters, seed: int) -> list[Result]:
    """The store is gone for some seconds and comes back empty; 10 s after it went, a cell dies."""
    found = []
    cases = (("gone for 9 s", 9.0), ("gone for 10.5 s", 10.5), ("gone for 60 s", 60.0))
    for case, gone_for_s in cases:
        fleet = Fleet(p, seed)
        steady(fleet)
        fleet.after(QUIET_S, fleet.store_gone, gone_for_s)
        fleet.after(QUIET_S + 10.0, fleet.kill, [fleet.cells[0]])
        found.append(watched(fleet, "a cell and the store lost", case, QUIET_S + 60.0))
    return found


def upgrade(p: Parameters, seed: int, *, at_once: int = 6) -> list[Result]:
    """Every cell is drained and started again, some at once, under full load."""
    fleet = Fleet(p, seed)
    steady(fleet)
    done: list[float] = []

    def roll() -> Steps:
        yield fleet.env.timeout(QUIET_S)
        for first in range(0, len(fleet.cells), at_once):
            yield fleet.env.process(fleet.drain(fleet.cells[first : first + at_once]))
        done.append(fleet.now_s - QUIET_S)

    fleet.env.process(roll())
    longest_s = QUIET_S + math.ceil(p.cells / at_once) * (p.drain_s + 60.0)
    case = f"{at_once} cells at once, DRAIN_SECONDS={p.drain_s:g}"
    seen = watched(fleet, "a rolling upgrade", case, longest_s, every_s=5.0)
    return [replace(seen, figures={"minutes": done[0] / 60 if done else math.inf})]


def day(p: Parameters, seed: int) -> list[Result]:
    """A day of a tenth of the fleet: calls rise tenfold from night to noon, and at noon the fleet is upgraded."""
    small = replace(p, cells=max(2, p.cells // 10), calls=p.calls // 10)
    most = small.arrivals_per_s

    def rate(at_s: float) -> float:
        return most * (0.55 - 0.45 * math.cos(2 * math.pi * at_s / DAY_S))

    fleet = Fleet(small, seed)
    fleet.env.process(fleet.arrivals(rate, most))

    def roll() -> Steps:
        yield fleet.env.timeout(DAY_S / 2)
        for cell in fleet.cells:
            yield fleet.env.process(fleet.drain([cell]))

    fleet.env.process(roll())
    return [watched(fleet, "a day", f"{small.cells} cells, {small.calls} calls at noon", DAY_S, every_s=60.0)]


SCENARIOS: Final[Mapping[str, Callable[[Parameters, int], list[Result]]]] = {
    "stale": stale_load,
    "new-cell": new_cell,
    "cell": cell_lost,
    "zone": zone_lost,
    "dials": dial_bursts,
    "store": store_lost,
    "upgrade": upgrade,
    "day": day,
}
