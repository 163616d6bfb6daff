"""What pacing costs: txpacer itself with 1,000 lines speaking, and one count in each kind of metric.

`python -m benchmarks.pacing_cost`. The lines are fed as fast as a model speaks (five times real time) by this process,
which is their aibridge and their gateway too.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Final

import zmq

from shared import bus
from shared.messages import Frames, GatewayHello, OpenLine, PacerToGateway, Speech, WireAck, decode, encode
from shared.metrics import Page, counter, histogram

SECONDS: Final = 10.0
# One delta of the model.
DELTA_MS: Final = 200
SPEED: Final = 5
_LATENESS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pacing(lines: int) -> tuple[float, float]:
    """Percent of a core that txpacer takes, and frames a second of a line."""
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
            return _talk(process.pid, frames, speech, lines)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            context.destroy(linger=0)


def _talk(pid: int, frames: zmq.Socket[bytes], speech: zmq.Socket[bytes], lines: int) -> tuple[float, float]:
    audio = random.randbytes(DELTA_MS * 8)
    # Each line gets its next delta when its turn comes: spread over the time that a delta lasts at five times speed,
    # until it is ten seconds ahead; after that at the speed of the ear.
    begin = time.monotonic()
    said = [0] * lines
    emitted = 0
    measured_from: tuple[float, float, int] | None = None
    poller = zmq.Poller()
    poller.register(frames, zmq.POLLIN)
    while (now := time.monotonic() - begin) < SECONDS + 3:
        if measured_from is None and now > 3:
            measured_from = (time.monotonic(), cpu_seconds(pid), emitted)
        batch = []
        for line in range(lines):
            heard = now - line * DELTA_MS / 1_000 / lines
            if heard > 0 and said[line] * DELTA_MS / 1_000 < min(heard * SPEED, heard + 10):
                said[line] += 1
                batch.append(Speech(line, 1, audio))
        if batch:
            speech.send(encode(batch))
        until = time.monotonic() + 0.02
        while (left := until - time.monotonic()) > 0:
            if not poller.poll(left * 1_000):
                break
            for message in decode(frames.recv(), PacerToGateway):
                if isinstance(message, Frames):
                    emitted += sum(len(entry[2]) for entry in message.entries) // 160
                    frames.send(encode([WireAck(message.batch, time.monotonic_ns(), ())]))
    assert measured_from is not None
    since, cpu, count = measured_from
    seconds = time.monotonic() - since
    return 100 * (cpu_seconds(pid) - cpu) / seconds, (emitted - count) / seconds / lines


def counting() -> list[tuple[str, float, float]]:
    """(what, ns of a counter, ns of a histogram)."""
    page = Page.in_memory((counter("c", "c"), histogram("h", "h", _LATENESS)))
    ours = (page.counter("c"), page.histogram("h"))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        # prometheus_client looks for this when it is first imported with a metric.
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
                [sys.executable, "-c", script, repr(_LATENESS)],
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
    lines = parser.parse_args().lines
    for name, counted, observed in counting():
        print(f"{name:<34} counter {counted:5.0f} ns   histogram {observed:5.0f} ns")
    share, rate = pacing(lines)
    print(f"txpacer, {lines} lines speaking: {share:.1f} % of a core at {rate:.1f} frames a second each")


if __name__ == "__main__":
    main()
