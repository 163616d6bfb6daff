"""`make bench`: how many calls this machine carries, and what each of them costs.

The number of calls rises in steps until the ear hears a gap, or silence after an interruption takes over 200 ms.
Callers and model run on the same machine, so their cost is part of what the machine carries.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from shared.process import ConfigError, run
from twentyms.stack import Stack, free_port

from .capacity_callers import ANSWER_MS, Callee
from .capacity_figures import Figures
from .capacity_profile import profiler
from .capacity_proxy import tls_in_front
from .capacity_report import draw, machine, table, write_json
from .capacity_run import REST_S, Bench, forget_settings, hear_exactly
from .pacing_run import go_before

STEPS: Final = (10, 30, 60, 100, 150, 200, 250, 300, 400, 500)
SILENCE_LIMIT_MS: Final = 200.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=list(STEPS), help="the steps")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each step is measured")
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--aibridges", type=int, default=1)
    parser.add_argument("--keep-going", action="store_true", help="carry out all steps whatever breaks")
    parser.add_argument("--tls", choices=("ordinary", "realtime"), help="HAProxy with TLS in front, so scheduled")
    parser.add_argument("--profile", action="store_true", help="write where each process spends its time (py-spy)")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="where bench.png and bench.json go")
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


@contextlib.contextmanager
def bench_of(
    steps: Sequence[int],
    directory: Path,
    out: Path,
    *,
    gateways: int = 1,
    aibridges: int = 1,
    tls: str | None = None,
) -> Iterator[tuple[Stack, Bench]]:
    """A pipeline that is ready for `steps`, and its bench. It writes its files to `directory` and its log to `out`."""
    behaviour = directory / "behaviour.json"
    behaviour.write_text(json.dumps({"answer_ms": ANSWER_MS}))
    env = {
        "GATEWAYS": str(gateways),
        "AIBRIDGE_WORKERS": str(aibridges),
        "MAX_CALLS": str(max(steps) + 10),
        "DATA_DIR": str(directory / "data"),
    }
    processes: tuple[str, ...] = ()
    if (gateways, aibridges) != (1, 1):
        processes = ("-c", f"all=1,gateway={gateways},aibridge={aibridges}")
    with contextlib.ExitStack() as up:
        if tls:
            public_port, gateway_port = free_port(), free_port()
            env |= {"PUBLIC_URL": f"http://127.0.0.1:{public_port}", "GATEWAY_PORT": str(gateway_port)}
            up.enter_context(tls_in_front(directory, public_port, gateway_port, realtime=tls == "realtime"))
        model = ("--behaviour", str(behaviour))
        stack = up.enter_context(Stack(env=env, model=model, processes=processes, log=out / "processes.log"))
        # Carrier and model stand for other machines. At an ordinary priority they would wait for the system's
        # processes.
        go_before(stack.model_pid)
        go_before()
        yield (
            stack,
            Bench(
                "twentyms",
                Callee(stack.webhook_url, stack.auth_token),
                stack.pipeline_pid,
                stack.model_pid,
                stack.model_port,
                os.getpid(),
                hear_exactly,
                stack.run_dir / "metrics",
                int(stack.env["METRICS_PORT"]),
            ),
        )


def measure(chosen: argparse.Namespace, directory: Path) -> list[Figures]:
    """Run every step until one breaks. The pipeline writes its files to `directory`."""
    during = profiler(chosen.out, chosen.seconds) if chosen.profile else None
    workers = {"gateways": chosen.gateways, "aibridges": chosen.aibridges}
    done: list[Figures] = []
    with bench_of(chosen.calls, directory, chosen.out, tls=chosen.tls, **workers) as (_, bench):
        rest_kb = bench.warm_up(seed=chosen.seed)
        for calls in chosen.calls:
            figures = bench.step(calls, chosen.seconds, rest_kb=rest_kb, seed=chosen.seed + calls, during=during)
            if done:
                figures.follow(done[-1])
            done.append(figures)
            broken = figures.broken(SILENCE_LIMIT_MS)
            found = "void, the bench itself was late" if figures.is_void else "; ".join(broken) or "no gap"
            print(f"{calls} calls: {found}", file=sys.stderr, flush=True)
            if broken and not chosen.keep_going:
                break
            time.sleep(REST_S)
    return done


def main() -> None:
    chosen = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    chosen.out.mkdir(parents=True, exist_ok=True)
    forget_settings()
    begun = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        done = measure(chosen, Path(directory))
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
