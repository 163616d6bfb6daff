"""txpacer alone: its cost and lateness with 1,000 speaking lines, and the cost of one count in a metric.

`python -m benchmarks.pacing_cost --lines 200 --stress`, with TX_REALTIME=off or without. This process stands for
aibridge and gateway: it feeds the lines as fast as a model speaks (five times real time) and acknowledges the frames.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import timeit
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq

from shared import bus
from shared.messages import Frames, GatewayHello, OpenLine, PacerToGateway, Speech, WireAck, decode, encode
from shared.metrics import Page, counter, histogram

from .pacing_run import (
    Buckets,
    Lateness,
    go_before,
    lateness_of,
    missing,
    of_histogram,
    read_histogram,
    since,
    start_cyclictest,
    steal,
    stressed,
)

LATENESS: Final = "twentyms_tx_lateness_seconds"
SECONDS: Final = 10.0
# The length of one delta of the model.
DELTA_MS: Final = 200
SPEED: Final = 5
_BUCKETS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Paced:
    # txpacer's share of a core, percent.
    cpu: float
    # Frames a second of each line.
    rate: float
    lateness: Lateness


def pacing(lines: int) -> Paced:
    """Let `lines` speak for SECONDS."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        run_dir = Path(directory)
        process = subprocess.Popen(
            [sys.executable, "-m", "txpacer"], env={**os.environ, "RUN_DIR": directory, "LOG_LEVEL": "ERROR"}
        )
        try:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            frames = bus.dealer(context, bus.frames_url(run_dir), name="gateway", hwm=bus.FRAMES_HWM)
            speech = bus.dealer(context, bus.speech_url(run_dir), name="bridge", hwm=bus.SPEECH_HWM)
            time.sleep(1.0)
            frames.send(encode([GatewayHello("gateway")]))
            speech.send(encode([OpenLine(call, "gateway") for call in range(lines)]))
            return _talk(process.pid, run_dir / "metrics", frames, speech, lines)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            context.destroy(linger=0)


def _talk(pid: int, metrics: Path, frames: zmq.Socket[bytes], speech: zmq.Socket[bytes], lines: int) -> Paced:
    audio = random.randbytes(DELTA_MS * 8)
    # The lines get their deltas in turn, spread over the time that a delta lasts at five times real time. A line that
    # is ten seconds ahead gets them at the speed of the ear.
    begin = time.monotonic()
    said = [0] * lines
    emitted = 0
    measured_from: tuple[float, float, int, Buckets] | None = None
    poller = zmq.Poller()
    poller.register(frames, zmq.POLLIN)
    while (now := time.monotonic() - begin) < SECONDS + 3:
        if measured_from is None and now > 3:
            measured_from = (time.monotonic(), cpu_seconds(pid), emitted, read_histogram(metrics, LATENESS))
        batch = []
        for line in range(lines):
            heard = now - line * DELTA_MS / 1_000 / lines
            if heard > 0 and said[line] * DELTA_MS / 1_000 < min(heard * SPEED, heard + 10):
                said[line] += 1
                batch.append(Speech(line, 1, audio))
        if batch:
            speech.send(encode(batch))
        # As in the gateway: one acknowledgement for all batches of 20 ms.
        until = time.monotonic() + 0.02
        batch_number = 0
        while (left := until - time.monotonic()) > 0:
            if not poller.poll(int(left * 1_000)):
                break
            for message in decode(frames.recv(), PacerToGateway):
                if isinstance(message, Frames):
                    emitted += sum(len(entry[2]) for entry in message.entries) // 160
                    batch_number = message.batch
        if batch_number:
            frames.send(encode([WireAck(batch_number, time.monotonic_ns(), ())]))
    assert measured_from is not None
    from_s, cpu, count, buckets = measured_from
    seconds = time.monotonic() - from_s
    return Paced(
        cpu=100 * (cpu_seconds(pid) - cpu) / seconds,
        rate=(emitted - count) / seconds / lines,
        lateness=of_histogram(since(buckets, read_histogram(metrics, LATENESS))),
    )


def counting() -> list[tuple[str, float, float]]:
    """(what, ns of a counter, ns of a histogram)."""
    page = Page.in_memory((counter("c", "c"), histogram("h", "h", _BUCKETS)))
    ours = (page.counter("c"), page.histogram("h"))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        # prometheus_client reads this variable when it is first imported with a metric.
        script = (
            "import sys, timeit; from prometheus_client import Counter, Histogram\n"
            "c = Counter('c', 'c'); h = Histogram('h', 'h', buckets=eval(sys.argv[1]))\n"
            "for f in (c.inc, lambda: h.observe(0.0003)):\n"
            "    print(min(timeit.repeat(f, number=50_000, repeat=5)) / 50_000 * 1e9)"
        )
        rows = [("a page of this project", _ns(ours[0].inc), _ns(lambda: ours[1].observe(0.0003)))]
        for name, env in (
            ("prometheus_client", {}),
            ("its multiprocess files in memory", {"PROMETHEUS_MULTIPROC_DIR": directory}),
        ):
            done = subprocess.run(
                [sys.executable, "-c", script, repr(_BUCKETS)],
                env={**os.environ, **env},
                capture_output=True,
                text=True,
                check=True,
            )
            first, second = map(float, done.stdout.split())
            rows.append((name, first, second))
    return rows


def _ns(call: object) -> float:
    assert callable(call)
    return min(timeit.repeat(call, number=50_000, repeat=5)) / 50_000 * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing_cost", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000)
    parser.add_argument("--stress", action="store_true", help="with stress-ng on every core")
    arguments = parser.parse_args()
    lines = arguments.lines
    for name, counted, observed in counting():
        print(f"{name:<34} counter {counted:5.0f} ns   histogram {observed:5.0f} ns")
    may_realtime = go_before() and os.environ.get("TX_REALTIME") != "off"
    stolen_before = steal()
    with stressed(SECONDS + 20) if arguments.stress else contextlib.nullcontext():
        machine = None if missing("cyclictest") else start_cyclictest(realtime=may_realtime, seconds=SECONDS + 2)
        paced = pacing(lines)
        baseline = lateness_of(machine) if machine else None
    stolen, passed = (after - before for before, after in zip(stolen_before, steal(), strict=True))
    print(f"txpacer, {lines} lines speaking: {paced.cpu:.1f} % of a core, {paced.rate:.1f} frames a second each")
    for name, late in (("late by", paced.lateness), ("cyclictest", baseline)):
        if late is not None:
            print(f"{name:<10} p50 {late.p50:.2f}  p99 {late.p99:.2f}  p99.9 {late.p999:.2f}  max {late.max:.2f} ms")
    print(f"stolen by the host: {100 * stolen / max(1, passed):.1f} %")


if __name__ == "__main__":
    main()
