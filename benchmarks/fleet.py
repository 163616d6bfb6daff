"""`python -m benchmarks.fleet`: 10,000 calls on 60 cells in simulated time, and what becomes of them.

The same seed gives the same report. Parameters and their sources: benchmarks/fleet_parameters.py. With `--check`, the
same rules carry out a run that real cells have been through, and both are compared (benchmarks/fleet_check.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from shared.process import run

from .fleet_check import compared
from .fleet_parameters import Parameters
from .fleet_report import draw, page, write_json
from .fleet_scenarios import SCENARIOS, Result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--scenarios", nargs="+", choices=tuple(SCENARIOS), default=list(SCENARIOS), metavar="NAME",
                        help=", ".join(SCENARIOS))  # fmt: skip
    parser.add_argument("--cells", type=int, default=Parameters().cells)
    parser.add_argument("--calls", type=int, default=Parameters().calls, help="at the same time, on average")
    parser.add_argument("--max-calls", type=int, default=Parameters().max_calls, help="of each cell")
    parser.add_argument("--dials-per-s", type=float, default=Parameters().dials_per_s, help="the model's limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out"), help="bench-fleet.md, .json and .svg")
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="what `python -m proofs.fleet cut` printed; nothing else is run"
    )
    chosen = parser.parse_args()
    if chosen.check is not None:
        lines, agrees = compared(chosen.check.read_text(), chosen.seed)
        print("\n".join(lines))
        sys.exit(0 if agrees else 1)
    parameters = replace(
        Parameters(),
        cells=chosen.cells,
        calls=chosen.calls,
        max_calls=chosen.max_calls,
        dials_per_s=chosen.dials_per_s,
        dials_burst=chosen.dials_per_s,
    )
    out: Path = chosen.out
    out.mkdir(parents=True, exist_ok=True)
    since = time.monotonic()
    found: dict[str, list[Result]] = {}
    for name in chosen.scenarios:
        found[name] = SCENARIOS[name](parameters, chosen.seed)
        print(f"{name}: {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)
    command = f"python -m benchmarks.fleet --cells {chosen.cells} --calls {chosen.calls} --seed {chosen.seed}"
    text = page(found, f"`{command}`: {chosen.calls:,} calls on {chosen.cells} cells in simulated time")
    (out / "bench-fleet.md").write_text(text)
    write_json(found, out / "bench-fleet.json", run=command)
    draw(found, out / "bench-fleet.svg")
    print(text)


if __name__ == "__main__":
    run("bench-fleet", main)
