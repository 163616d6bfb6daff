"""`python -m benchmarks.paired --before PATH`: the cost of two checkouts on this machine, run in turns.

Each round runs the capacity bench and txpacer's bench of both checkouts, each with its own code and its own `.venv`
(`make install`). The order of the checkouts changes every round, so a machine that gets slower favours neither. It
prints medians, the ratio of the medians, and the lowest and highest ratio of a round.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from shared.process import ConfigError, run

HERE: Final = Path(__file__).resolve().parent.parent
# A ratio above this is marked.
TOLERANCE: Final = 1.03

# The figures of one step of the capacity bench: how the row reads, and its value in bench.json.
_STEP: Final[tuple[tuple[str, Callable[[dict[str, Any]], float]], ...]] = (
    ("CPU of all processes, ms per second of call", lambda step: step["cpu_total_ms"]),
    ("memory per call, kB", lambda step: step["call_kb"]),
    ("start to first sample, p50 ms", lambda step: step["start"]["p50"]),
    ("start to first sample, p99 ms", lambda step: step["start"]["p99"]),
    ("txpacer late, p99.9 below ms", lambda step: step["lateness"]["txpacer"][2]),
    ("gaps at the ear", lambda step: step["gaps"]),
)
# What `benchmarks.pacing_cost` prints.
_ALONE: Final = re.compile(
    r"speaking: (?P<cpu>[\d.]+) %.*?late by\s+p50 (?P<p50>[\d.]+)\s+p99 (?P<p99>[\d.]+)\s+p99\.9 (?P<p999>[\d.]+)", re.S
)


@dataclass
class Row:
    """One figure: its values before and after, one of each a round."""

    title: str
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        before, after = median(self.before), median(self.after)
        rounds = [new / old for old, new in zip(self.before, self.after, strict=True) if old]
        if not before or not rounds:
            return self.title, f"{before:.2f}", f"{after:.2f}", "-", ""
        ratio = after / before
        mark = " !" if ratio > TOLERANCE else ""
        return (
            self.title,
            f"{before:.2f}",
            f"{after:.2f}",
            f"{ratio:.3f}{mark}",
            f"{min(rounds):.2f} to {max(rounds):.2f}",
        )


def table(rows: Iterable[Row]) -> str:
    return aligned([("", "before", "after", "ratio", "rounds"), *(row.cells() for row in rows)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    )


def figures(steps: Sequence[dict[str, Any]], alone: str) -> dict[str, float]:
    """Every figure of one run of one checkout, by its title; `alone` is the output of `pacing_cost`."""
    found = {"memory at rest, MB": float(steps[0]["rest_mb"])}
    for title, value in _STEP:
        for step in steps:
            found[f"{title}, {step['calls']} calls"] = float(value(step))
    if match := _ALONE.search(alone):
        found["txpacer alone, % of a core"] = float(match["cpu"])
        for name, group in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999")):
            found[f"txpacer alone, late, {name} ms"] = float(match[group])
    return found


def measure(checkout: Path, chosen: argparse.Namespace, seed: int) -> tuple[dict[str, float], list[str]]:
    """Run both benches of `checkout`: its figures, and what makes them doubtful.

    Raises ConfigError when a bench fails.
    """
    with tempfile.TemporaryDirectory(prefix="paired-") as directory:
        calls = [str(each) for each in chosen.calls]
        bench = ["benchmarks.capacity", "--calls", *calls, "--seconds", str(chosen.seconds), "--seed", str(seed)]
        steps = json.loads(_run(checkout, [*bench, "--keep-going", "--json", "--out", directory]))["steps"]
    alone = _run(checkout, ["benchmarks.pacing_cost", "--lines", str(chosen.lines)]) if chosen.lines else ""
    doubts = [
        f"{step['calls']} calls: {what}"
        for step in steps
        for what, is_so in (
            ("the bench itself was late, gaps say nothing", step["is_void"]),
            ("the bench itself was late, single milliseconds say nothing", step["is_late"]),
            ("a process began or ended, CPU is incomplete", step["is_unsteady"]),
            (f"the host took {step['steal']:.1f} % of the time", step["steal"] > 1),
        )
        if is_so
    ]
    return figures(steps, alone), doubts


def _run(checkout: Path, module: Sequence[str]) -> str:
    python = checkout / ".venv/bin/python"
    if not python.exists():
        raise ConfigError(f"{checkout} has no .venv; run `make install` there")
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run([python, "-m", *module], cwd=checkout, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{module[0]} failed in {checkout}:\n{done.stderr[-2_000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paired", description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--after", type=Path, default=HERE, help="the checkout that is compared (default: this one)")
    parser.add_argument("--calls", type=int, nargs="+", default=[30, 100, 150], help="the steps of the capacity bench")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each step is measured")
    parser.add_argument("--lines", type=int, default=150, help="the lines of txpacer alone (0: leave it out)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out/paired.json"), help="where every round's figures go")
    chosen = parser.parse_args()
    sides = {"before": chosen.before.resolve(), "after": chosen.after.resolve()}
    rows: dict[str, Row] = {}
    for number in range(chosen.rounds):
        for side in list(sides) if number % 2 == 0 else reversed(sides):
            print(f"round {number + 1} of {chosen.rounds}: {side}, {sides[side]}", file=sys.stderr, flush=True)
            found, doubts = measure(sides[side], chosen, seed=number + 1)
            for doubt in doubts:
                print(f"  {doubt}", file=sys.stderr, flush=True)
            for title, value in found.items():
                row = rows.setdefault(title, Row(title))
                (row.before if side == "before" else row.after).append(value)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps({title: {"before": r.before, "after": r.after} for title, r in rows.items()}))
    print(table(rows.values()))
    print(f"\n! is more than {100 * (TOLERANCE - 1):.0f} % worse. Every round: {chosen.out}")


if __name__ == "__main__":
    run("paired", main)
