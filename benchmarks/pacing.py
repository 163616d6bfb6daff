"""`make bench-pacing`: how late frames are at txpacer, on the wire and at the ear, beside what the machine allows."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from shared.process import run

from .pacing_picture import draw
from .pacing_run import Lateness, Measured, go_before, measure, missing, stack

LINES: Final = (1, 50, 200)
# One call has 50 frames a second, so its p99.9 is its largest lateness.
SECONDS: Final = 12.0
QUICK_LINES: Final = (1, 50)
QUICK_SECONDS: Final = 6.0
# The pause between two measurements, in which calls end and the machine settles.
PAUSE_S: Final = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 and 50 lines, 6 s each")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on stdout, nothing else")
    parser.add_argument("--out", type=Path, default=Path("out/pacing"), help="where pacing.png and the logs go")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    lines, seconds = (QUICK_LINES, QUICK_SECONDS) if arguments.quick else (LINES, SECONDS)

    def say(text: str) -> None:
        print(text, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    loads = ["idle", "stress"]
    if missing("stress-ng"):
        say("stress-ng is not installed (Debian: apt install stress-ng): measuring the idle machine only.")
        loads.remove("stress")
    if missing("cyclictest"):
        say("cyclictest is not installed (Debian: apt install rt-tests): no baseline of this machine.")
    may_realtime = go_before()
    if not may_realtime:
        say("Real-time scheduling is not permitted here (docs/pacing.md): measuring without it only.")
    measured: list[Measured] = []
    for realtime in (True, False) if may_realtime else (False,):
        name = "real-time" if realtime else "ordinary"
        with stack(realtime=realtime, seconds=seconds, log=out / f"{name}.log") as up:
            for load in loads:
                for count in lines:
                    say(f"{load}, {count} lines, {name} scheduling ...")
                    measured.append(measure(up, load=load, lines=count, realtime=realtime, seconds=seconds))
                    time.sleep(PAUSE_S)
    draw(measured, out / "pacing.png")
    if arguments.json:
        print(json.dumps([asdict(each) for each in measured]))
    else:
        print()
        print("\n".join(table(measured)))
        print(f"\nMilliseconds of lateness. Picture: {out / 'pacing.png'}.")


def table(measured: list[Measured]) -> list[str]:
    """Rows of load, scheduling and lines; p50 / p99 / p99.9 / max at the pacer, on the wire and at the ear."""
    head = ("load", "scheduling", "lines", "cyclictest", "pacer", "wire", "ear", "gaps at the ear", "carrier", "steal")
    rows = [head]
    for each in measured:
        name = "real-time" if each.realtime else "ordinary"
        gaps = f"{each.gap_ms:.0f} ms" + (f" in {each.gap_calls} calls" if each.gap_calls else "")
        rows.append(
            (
                each.load,
                name,
                str(each.lines),
                _figures(each.cyclictest) if each.cyclictest else "-",
                _figures(each.pacer),
                _figures(each.wire),
                _figures(each.ear),
                # The lead hides the carrier's own lateness only up to the lead's length.
                gaps + (" (void)" if each.carrier_ms > 50 and each.gap_calls else ""),
                f"{each.carrier_ms:.0f}",
                f"{each.steal:.1f} %",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _figures(lateness: Lateness) -> str:
    return " / ".join(
        f"{value:.2f}" if value < 10 else f"{value:.0f}"
        for value in (lateness.p50, lateness.p99, lateness.p999, lateness.max)
    )


if __name__ == "__main__":
    run("bench-pacing", main)
