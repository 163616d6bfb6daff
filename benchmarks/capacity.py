"""`make bench`: how many calls this machine carries, and what each of them costs.

Raises the number of calls in steps until the ear hears a gap, or silence after an interruption takes over 200 ms. The
callers and the model run on the same machine, so what they cost is part of what it carries.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from shared.process import ConfigError, run
from simulator.stack import Stack

from .capacity_callers import ANSWER_MS, Callee
from .capacity_figures import Figures
from .capacity_report import draw, machine, table, write_json
from .capacity_run import Bench, hear_exactly
from .pacing_run import go_before

STEPS: Final = (10, 30, 60, 100, 150, 200, 250, 300)
SILENCE_LIMIT_MS: Final = 200.0
# A few calls first: what is imported or allocated once is no call's memory.
WARM_UP_CALLS: Final = 2
WARM_UP_S: Final = 4.0
# For the processes to come to rest, behind the start and between two steps.
REST_S: Final = 2.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=list(STEPS), help="the steps")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each step is measured")
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--aibridges", type=int, default=1)
    parser.add_argument("--keep-going", action="store_true", help="carry out all steps whatever breaks")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="where bench.png and bench.json go")
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def measure(chosen: argparse.Namespace) -> list[Figures]:
    """Every step until one breaks."""
    behaviour = Path(tempfile.mkdtemp(prefix="bench-")) / "behaviour.json"
    behaviour.write_text(json.dumps({"answer_ms": ANSWER_MS}))
    env = {
        "GATEWAYS": str(chosen.gateways),
        "AIBRIDGE_WORKERS": str(chosen.aibridges),
        "MAX_CALLS": str(max(chosen.calls) + 10),
        "DATA_DIR": str(behaviour.parent / "data"),
    }
    processes: tuple[str, ...] = ()
    if (chosen.gateways, chosen.aibridges) != (1, 1):
        processes = ("-c", f"all=1,gateway={chosen.gateways},aibridge={chosen.aibridges}")
    done: list[Figures] = []
    with Stack(
        env=env, model=("--behaviour", str(behaviour)), processes=processes, log=chosen.out / "processes.log"
    ) as stack:
        bench = Bench(
            "twentyms",
            Callee(stack.webhook_url, stack.auth_token),
            stack.pipeline_pid,
            stack.model_pid,
            stack.model_port,
            os.getpid(),
            hear_exactly,
            stack.run_dir / "metrics",
        )
        # The world is elsewhere; here it would wait for the system, whose processes go before ordinary ones.
        go_before(stack.model_pid)
        go_before()
        time.sleep(REST_S)
        bench.step(WARM_UP_CALLS, WARM_UP_S, rest_kb=0, seed=chosen.seed)
        time.sleep(REST_S)
        rest_kb = bench.rest_kb()
        for calls in chosen.calls:
            figures = bench.step(calls, chosen.seconds, rest_kb=rest_kb, seed=chosen.seed + calls)
            done.append(figures)
            broken = figures.broken(SILENCE_LIMIT_MS)
            print(f"{calls} calls: {'; '.join(broken) or 'no gap'}", file=sys.stderr, flush=True)
            if broken and not chosen.keep_going:
                break
            time.sleep(REST_S)
    return done


def main() -> None:
    chosen = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    chosen.out.mkdir(parents=True, exist_ok=True)
    begun = machine()
    done = measure(chosen)
    if not done:
        raise ConfigError("no step was carried out")
    write_json(done, chosen.out / "bench.json", begun=begun, seconds=chosen.seconds)
    draw(done, chosen.out / "bench.png")
    if chosen.json:
        print((chosen.out / "bench.json").read_text(), end="")
    else:
        print(f"{begun} at the start\n\n{table(done)}\n\nThe picture is {chosen.out / 'bench.png'}.")


if __name__ == "__main__":
    run("bench", main)
