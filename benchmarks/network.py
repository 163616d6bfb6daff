"""`make bench-network`: gaps, silence after interruptions and history over bad paths, beside bridges without pacing.

Real TCP crosses each path (TUN devices; Linux and root), or a proxy that stalls. All systems are called at the same
time, each over a path of its own with the same seed. The carrier's ear is the judge.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Final

from shared.process import run
from simulator.network import tls, tun

from .capacity_report import machine
from .capacity_run import forget_settings
from .network_figures import Row
from .network_paths import ALL
from .network_paths import USUAL as USUAL_PATHS
from .network_report import draw, tables, write_json
from .network_run import SYSTEMS, run_path
from .network_run import USUAL as USUAL_SYSTEMS
from .peers.__main__ import install

# The calls end, and their processes come to rest.
REST_S: Final = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network", description=__doc__)
    parser.add_argument(
        "--paths", nargs="+", choices=("all", *ALL), default=list(USUAL_PATHS), metavar="PATH", help=", ".join(ALL)
    )
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=tuple(SYSTEMS),
        default=list(USUAL_SYSTEMS),
        metavar="NAME",
        help=", ".join(SYSTEMS),
    )
    parser.add_argument("--calls", type=int, default=10, help="for each system and path (default 10)")
    parser.add_argument("--seconds", type=float, default=24.0, help="of each call; it lasts 4 s longer (default 24)")
    parser.add_argument("--seed", type=int, default=1, help="of callers and paths (default 1)")
    parser.add_argument("--tls", action="store_true", help="TLS over each path, ended by HAProxy before the system")
    parser.add_argument("--out", type=Path, default=Path("out"), help="bench-network.md, .json, .svg, and logs")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on stdout, nothing else")
    chosen = parser.parse_args()
    names = list(ALL) if "all" in chosen.paths else chosen.paths
    if lack := tun.missing():
        left_out = [name for name in names if not ALL[name].behind_proxy]
        names = [name for name in names if ALL[name].behind_proxy]
        if left_out:
            print(f"{lack}. Left out: {', '.join(left_out)}.", file=sys.stderr)
        if not names:
            parser.error("no path is left; the paths behind a proxy (stalls-...) work everywhere")
    if chosen.tls and (lack := tls.missing()):
        parser.error(lack)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    forget_settings()
    out: Path = chosen.out.absolute()
    # The peers' environments are those of `make bench-peers`.
    work = out / "peers"
    work.mkdir(parents=True, exist_ok=True)
    systems = [SYSTEMS[name] for name in chosen.systems]
    for system in systems:
        if system.peer is not None:
            install(system.peer, work)
    command = f"python -m benchmarks.network --calls {chosen.calls} --seconds {chosen.seconds:g} --seed {chosen.seed}"
    command += " --tls" * chosen.tls
    begun, since = machine(), time.monotonic()
    rows: list[Row] = []
    for name in names:
        path = ALL[name]
        rows += run_path(
            path, systems, calls=chosen.calls, seconds=chosen.seconds, seed=chosen.seed, tls=chosen.tls, out=work
        )
        for row in rows[-len(systems) :]:
            void = f"; VOID, the bench itself was {row.late_ms:.0f} ms late" if row.is_void else ""
            print(f"{path.words}, {row.system}: {row.gap_ms:.0f} ms of gaps{void}", file=sys.stderr, flush=True)
        # After each path, so that a run that is stopped leaves what it has measured.
        write(rows, out, f"`{command}` on {begun} at the start; it took {(time.monotonic() - since) / 60:.0f} minutes")
        time.sleep(REST_S)
    print((out / f"bench-network.{'json' if chosen.json else 'md'}").read_text(), end="")


def write(rows: list[Row], out: Path, head: str) -> None:
    """The page, the figures and the picture of these rows."""
    page = f"# What callers heard over bad networks\n\n{head}. [network.md](network.md) explains it.\n\n{tables(rows)}"
    (out / "bench-network.md").write_text(page)
    write_json(rows, out / "bench-network.json", run=head)
    draw(rows, out / "bench-network.svg")


if __name__ == "__main__":
    run("bench-network", main)
