"""One measurement of how late frames are, with real processes and N calls that listen to one long answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from callbook.exporter import PagesCollector
from shared.audio import BYTE_NS, FRAME_NS
from shared.isolation import PACER_PRIORITY
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, Caller, HangUp
from simulator.carrier.client import Exchange
from simulator.carrier.ear import EarRecord
from twentyms.stack import Stack

# Calls begin at this rate, before the measurement.
ARRIVALS: Final = 12
# When a punctual frame arrives, the ear holds this: the lead minus the frame.
LEAD_MS: Final = 120
_MS: Final = 1_000_000
# Carrier and model stand for other machines. Where it is permitted, their priority is above the stress and above every
# process of the system except txpacer.
WORLD_PRIORITY: Final = 30


@dataclass(frozen=True)
class Lateness:
    """Percentiles in ms. Those of a histogram are interpolated as Prometheus does; `max` is a bucket's bound."""

    p50: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True)
class Measured:
    load: str
    lines: int
    realtime: bool
    frames: int
    # cyclictest, a C program that sleeps 5 ms at a time with txpacer's priority, shows the machine's own share.
    cyclictest: Lateness | None
    pacer: Lateness
    wire: Lateness
    ear: Lateness
    # Silence inside the answers, and the number of calls with such silence.
    gap_ms: float
    gap_calls: int
    # The carrier's own lateness. Above the lead, its figures of the ear are void.
    carrier_ms: float
    # Share of the time that the host of a virtual machine gave its processors to others, %.
    steal: float


Buckets = list[tuple[float, float]]


def of_samples(values_ms: list[float]) -> Lateness:
    values = sorted(values_ms) or [0.0]
    p50, p99, p999 = (values[min(len(values) - 1, int(q * len(values)))] for q in (0.5, 0.99, 0.999))
    return Lateness(p50, p99, p999, values[-1])


def of_histogram(buckets: Buckets) -> Lateness:
    """From (upper bound in seconds, cumulative count)."""
    total = buckets[-1][1]
    if not total:
        return of_samples([])
    largest = next(bound for bound, count in buckets if count == total)
    p50, p99, p999 = (_quantile(buckets, q * total) * 1e3 for q in (0.5, 0.99, 0.999))
    return Lateness(p50, p99, p999, largest * 1e3)


def _quantile(buckets: Buckets, rank: float) -> float:
    below_bound = below_count = 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == float("inf"):
                return below_bound
            return below_bound + (bound - below_bound) * (rank - below_count) / (count - below_count)
        below_bound, below_count = bound, count
    return below_bound


def read_histogram(directory: Path, name: str) -> Buckets:
    """The cumulative buckets of a histogram that exactly one process has."""
    for family in PagesCollector(directory).collect():
        if family.name == name:
            return [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
    raise LookupError(name)


def since(before: Buckets, after: Buckets) -> Buckets:
    return [(bound, count - earlier) for (_, earlier), (bound, count) in zip(before, after, strict=True)]


def _at_the_ear(record: EarRecord, from_ns: int) -> tuple[list[float], float]:
    """How late each frame since `from_ns` arrived (ms), and the silence between the first and the last one (ms)."""
    late: list[float] = []
    gap_ns = burst = 0
    end_ns = 0
    for arrival_ns, start_ns, size in zip(record.arrival_ns, record.play_start_ns, record.size_bytes, strict=True):
        if start_ns == arrival_ns:  # the ear was empty, so the lead has to be built up first
            gap_ns += start_ns - end_ns if end_ns else 0
            burst = LEAD_MS * _MS // FRAME_NS
        if burst:
            burst -= 1
        elif arrival_ns >= from_ns:
            late.append(max(0.0, LEAD_MS - 20 - (start_ns - arrival_ns) / _MS))
        end_ns = start_ns + size * BYTE_NS
    return late, gap_ns / _MS


@contextlib.contextmanager
def stack(*, realtime: bool, seconds: float, log: Path) -> Iterator[Stack]:
    """The pipeline, with a model that answers for longer than `seconds`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as behaviour:
        json.dump({"answer_ms": int((seconds + 20) * 1_000)}, behaviour)
        behaviour.flush()
        env = {"TX_REALTIME": "auto" if realtime else "off", "MAX_CALLS": "1000"}
        with Stack(env=env, log=log, model=("--behaviour", behaviour.name)) as up:
            go_before(up.model_pid)
            yield up


@contextlib.contextmanager
def stressed(seconds: float) -> Iterator[None]:
    """stress-ng on every core: arithmetic, memory and I/O at once."""
    cores = str(os.cpu_count() or 1)
    command = ["stress-ng", "--quiet", "--cpu", cores, "--vm", cores, "--vm-bytes", "64M", "--io", cores]
    command += ["--timeout", f"{seconds:.0f}s", "--temp-path", tempfile.gettempdir()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def measure(up: Stack, *, load: str, lines: int, realtime: bool, seconds: float) -> Measured:
    """Measure `lines` calls that listen for `seconds`."""
    metrics = up.run_dir / "metrics"
    names = ("twentyms_tx_lateness_seconds", "twentyms_gateway_frame_lateness_seconds")
    ramp = lines / ARRIVALS
    before: list[Buckets] = []
    steady_ns = 0

    async def settle() -> None:
        nonlocal steady_ns
        await asyncio.sleep(ramp + 1)
        before.extend(read_histogram(metrics, name) for name in names)
        steady_ns = time.monotonic_ns()

    async def calls() -> list[CallRecord]:
        async with Exchange() as exchange:

            async def one(number: int) -> CallRecord:
                await asyncio.sleep(number / ARRIVALS)
                # All end at the same time.
                caller = Caller(
                    (HangUp(AfterAnswer(ms=int((seconds + ramp + 1) * 1_000) - number * 1_000 // ARRIVALS)),)
                )
                return await exchange.place_call(up.webhook_url, up.auth_token, caller=caller)

            settling = asyncio.create_task(settle())
            made = await asyncio.gather(*(one(number) for number in range(lines)))
            await settling
            return made

    gc.collect()
    gc.freeze()
    gc.disable()
    stolen_before = steal()
    with contextlib.ExitStack() as loaded:
        if load == "stress":
            loaded.enter_context(stressed(seconds + ramp + 30))
        baseline = None if missing("cyclictest") else start_cyclictest(realtime=realtime, seconds=seconds + ramp + 1)
        records = uvloop.run(calls())
    stolen, passed = (after - earlier for earlier, after in zip(stolen_before, steal(), strict=True))
    gc.enable()
    pacer, wire = (
        of_histogram(since(earlier, read_histogram(metrics, name))) for name, earlier in zip(names, before, strict=True)
    )
    heard = [_at_the_ear(record.ear, steady_ns) for record in records]
    return Measured(
        load=load,
        lines=lines,
        realtime=realtime,
        frames=sum(len(record.ear.arrival_ns) for record in records),
        pacer=pacer,
        cyclictest=lateness_of(baseline) if baseline else None,
        wire=wire,
        ear=of_samples([late for each, _ in heard for late in each]),
        gap_ms=sum(gap for _, gap in heard),
        gap_calls=sum(gap > 0 for _, gap in heard),
        carrier_ms=max((lag.late_ns for record in records for lag in record.lags), default=0) / _MS,
        steal=100 * stolen / max(1, passed),
    )


def steal() -> tuple[int, int]:
    """Stolen time and total time of all processors since the start, in the kernel's units; zeros where unknown."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    except OSError:
        return 0, 0
    return fields[7], sum(fields)


def go_before(pid: int = 0) -> bool:
    """Raise the priority of carrier or model (0: this process, the carrier); False where that is not permitted."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(WORLD_PRIORITY))
    except (OSError, AttributeError):
        return False
    return True


def start_cyclictest(*, realtime: bool, seconds: float) -> subprocess.Popen[str]:
    command = ["cyclictest", "-q", "-t1", "-i5000", f"-D{seconds:.0f}", "-h100000"]
    command += ["-m", f"-p{PACER_PRIORITY}"] if realtime else ["--policy=other"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lateness_of(process: subprocess.Popen[str]) -> Lateness:
    output, _ = process.communicate(timeout=60)
    values: list[float] = []
    for line in output.splitlines():
        fields = line.split()
        if len(fields) == 2 and fields[0].isdigit():
            values += [int(fields[0]) / 1e3] * int(fields[1])
    return of_samples(values)


def missing(program: str) -> bool:
    return shutil.which(program) is None
