"""`python -m benchmarks.budget`: what a second of a call is spent on, part by part, and whether that is in the budget.

Each part's CPU time is split into what one more call adds and what a cell with calls takes anyway (wake-ups, ticks,
messages between the processes), by the first and the last step. "Calls a core" follows from that by arithmetic: each
process has a core for itself, and may use 80 % of it. Exit status 1: something is above its budget.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.process import run

from . import budget_floor
from .budget_threads import Work, between, look
from .capacity import bench_of
from .capacity_figures import Figures
from .capacity_report import machine
from .capacity_run import REST_S, forget_settings
from .capacity_usage import memory_kb, tree
from .paired import aligned

# At rest, after ten calls, MB (PSS). honcho is six processes.
REST_MB: Final = {
    "honcho": 28.0,
    "gateway": 32.0,
    "txpacer": 18.0,
    "aibridge": 30.0,
    "callbook": 58.0,
    "toolbox.idle": 6.0,
}
ALL_REST_MB: Final = 160.0
# At the last step, kB (PSS).
CALL_KB: Final = 160.0
# From the start of honcho to a gateway that takes calls.
READY_S: Final = 1.0
# The share of a core that a process may take.
CORE_SHARE: Final = 0.8
# What one more call may take, ms of CPU a second, as a multiple of the floor of its sockets.
CALL_TIMES_FLOOR: Final = 12.0


# The threads that limit how many calls a cell carries; the part is named as its process.
_PACED: Final = ("aibridge", "gateway", "txpacer")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[10, 30, 100], help="the steps, at least two")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each step is measured")
    parser.add_argument("--out", type=Path, default=Path("out/budget"), help="where the processes' log goes")
    return parser.parse_args()


class Steps:
    """The parts of the cell at each number of calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.figures: list[Figures] = []
        self._ms: list[dict[str, float]] = []
        self._wakes: list[dict[str, float]] = []

    def add(self, figures: Figures, seconds: float, parts: dict[str, Work]) -> None:
        self.calls.append(figures.calls)
        self.figures.append(figures)
        self._ms.append({part: 1_000 * work.cpu_s / seconds for part, work in parts.items()})
        self._wakes.append({part: work.wakes / seconds for part, work in parts.items()})

    def slope_ms(self, part: str | None = None) -> tuple[float, float]:
        """What one more call takes, and what the cell takes anyway, ms a second; of one part, or of all."""
        first, last = (
            sum(each.values()) if part is None else each.get(part, 0.0) for each in (self._ms[0], self._ms[-1])
        )
        more = (last - first) / (self.calls[-1] - self.calls[0])
        return more, first - more * self.calls[0]

    def table(self) -> str:
        heads = [f"ms, {calls} calls" for calls in self.calls] + [f"wakes/s, {calls}" for calls in self.calls]
        rows = [["CPU a second of each call", *heads, "one more call", "the cell anyway, ms/s", "calls a core"]]
        for part in (*sorted(self._ms[-1]), None):
            ms = [
                (sum(each.values()) if part is None else each.get(part, 0.0)) / calls
                for each, calls in zip(self._ms, self.calls, strict=True)
            ]
            wakes = [sum(each.values()) if part is None else each.get(part, 0.0) for each in self._wakes]
            if part is not None and max(ms) < 0.005:
                continue
            figures = [*(f"{value:.2f}" for value in ms), *(f"{value:.0f}" for value in wakes)]
            more, anyway = self.slope_ms(part)
            carried = f"{(1_000 * CORE_SHARE - anyway) / more:.0f}" if part in _PACED and more > 0 else "-"
            rows.append([part or "all", *figures, f"{more:.2f}", f"{anyway:.0f}", carried])
        return aligned(rows)


def above(found: Sequence[tuple[str, float, float]]) -> list[str]:
    """A line for each `(what, value, budget)` whose value is above its budget."""
    return [f"{what}: {value:.1f}, and the budget is {budget:g}" for what, value, budget in found if value > budget]


def main() -> None:
    chosen = arguments()
    chosen.out.mkdir(parents=True, exist_ok=True)
    forget_settings()
    begun = machine()
    floor = budget_floor.measure()
    steps = Steps()
    with contextlib.ExitStack() as up:
        directory = Path(up.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        stack, bench = up.enter_context(bench_of(chosen.calls, directory, chosen.out))
        rest_kb = bench.warm_up(seed=1)
        processes = tree(stack.pipeline_pid)
        rest_mb = {name: kb / 1_000 for name, kb in memory_kb(processes).items()}
        rest_rss_mb = sum(memory_kb(processes, "Rss").values()) / 1_000
        for calls in chosen.calls:
            seen: list[tuple[float, dict[str, Work]]] = []

            def during(processes: dict[int, str], seen: list[tuple[float, dict[str, Work]]] = seen) -> None:
                seen.append((time.monotonic(), look(processes)))
                time.sleep(chosen.seconds - 1)
                seen.append((time.monotonic(), look(processes)))

            figures = bench.step(calls, chosen.seconds, rest_kb=rest_kb, seed=calls, during=during)
            (began, before), (ended, after) = seen
            steps.add(figures, ended - began, between(before, after))
            time.sleep(REST_S)
        ready_s = stack.ready_s
    last = steps.figures[-1]
    floor_ms = floor.call_second_ms(last.talk_share)
    more_ms, _ = steps.slope_ms()
    found = [
        *((f"{name} at rest, MB", rest_mb.get(name, 0.0), most) for name, most in REST_MB.items()),
        ("all processes at rest, MB", sum(rest_mb.values()), ALL_REST_MB),
        (f"memory per call at {last.calls} calls, kB", last.call_kb, CALL_KB),
        ("from the start to ready, s", ready_s, READY_S),
        ("one more call, as a multiple of its sockets' floor", more_ms / floor_ms, CALL_TIMES_FLOOR),
    ]
    print(f"{begun} at the start\n\n{steps.table()}\n")
    print(
        f"The kernel alone: {floor.write_us:.1f} us a write, {floor.read_us:.1f} us a read, {floor.wake_us:.1f} us a "
        f"wake-up. The sockets of one call: {floor_ms:.2f} ms a second.\n"
    )
    print(aligned([["", "found", "budget"], *([what, f"{value:.1f}", f"{most:g}"] for what, value, most in found)]))
    print(f"\nMemory is PSS: a shared page is divided among its processes. RSS at rest: {rest_rss_mb:.0f} MB.")
    wrong = above(found)
    if wrong:
        print("\nAbove the budget:\n" + "\n".join(wrong), file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    run("budget", main)
