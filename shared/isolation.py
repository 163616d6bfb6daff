"""Isolation of a process with deadlines from the rest of the machine: scheduling, timers, memory, garbage collection.

Each function asks the kernel once, at the start of a process, and returns the reason when the kernel refuses. A process
works without any of them; its metrics say which ones it lacks.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final, Literal

import zmq

from .metrics import GC_PAUSE, Page
from .process import ConfigError

# SCHED_FIFO priorities, 1 to 99: txpacer before the gateway before aibridge, whose delay would starve a line or make an
# interruption late. All stay below the kernel's interrupt threads (50), whose work they depend on.
PACER_PRIORITY: Final = 40
GATEWAY_PRIORITY: Final = 20
BRIDGE_PRIORITY: Final = 10

# Young collections take less than 1 ms. A full collection comes once in 4 million surviving objects and visits the live
# calls only: 4 ms in a process with 150 calls of a gateway and their peers (22,000 objects).
_GC_THRESHOLDS: Final = (2_000, 20, 100)

# linux/prctl.h, asm-generic/mman.h, linux/capability.h.
_PR_SET_TIMERSLACK: Final = 29
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK: Final = 14


def realtime(setting: Literal["auto", "on", "off"], priority: int) -> str:
    """Put the calling thread under SCHED_FIFO. Returns "", or the reason why the thread is not.

    Later threads and children do not inherit it (SCHED_RESET_ON_FORK); `context` sets ZeroMQ's thread.
    Raises ConfigError when `setting` is "on" and the kernel refuses.
    """
    if setting == "off":
        return "TX_REALTIME=off"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except (OSError, AttributeError) as exc:  # AttributeError: not Linux
        reason = "it is not permitted" if isinstance(exc, PermissionError) else str(exc)
        if setting == "on":
            raise ConfigError(
                f"TX_REALTIME=on, but real-time scheduling is refused ({reason}); give this user CAP_SYS_NICE or "
                "RLIMIT_RTPRIO (see docs/pacing.md), or set TX_REALTIME=auto"
            ) from None
        return reason
    return ""


def context(priority: int | None) -> zmq.Context[Any]:
    """A ZeroMQ context. With `priority`, its thread runs under SCHED_FIFO, which `realtime` must have permitted.

    Every message passes through that thread. Under the ordinary scheduler it would wait for every busy process.
    """
    made: zmq.Context[Any] = zmq.Context()
    if priority is not None:
        made.set(zmq.THREAD_SCHED_POLICY, os.SCHED_FIFO)
        made.set(zmq.THREAD_PRIORITY, priority)
    return made


def pin(cpus: frozenset[int]) -> None:
    """Run on these CPUs only; empty: on any. Raises ConfigError for a CPU that does not exist or is not allowed."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, AttributeError):
        there = ",".join(map(str, sorted(os.sched_getaffinity(0)))) if sys.platform == "linux" else "none"
        raise ConfigError(f"TX_CPU names a CPU that this process may not use; it may use {there}") from None


def check_cpus(cpus: frozenset[int]) -> None:
    """Raises ConfigError where `pin` would."""
    if cpus:
        before = os.sched_getaffinity(0)
        pin(cpus)
        os.sched_setaffinity(0, before)


def exact_timers() -> None:
    """Wake at the requested instant. By default, Linux delays a wake-up by up to 50 us to gather several."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def lock_memory() -> str:
    """Keep every touched page in memory. Returns "", or the reason why not.

    Under RLIMIT_MEMLOCK it does not try: a later allocation beyond the limit would fail.
    """
    if sys.platform != "linux":
        return "this system has no mlockall"
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and not _has_capability(_CAP_IPC_LOCK):
        return f"RLIMIT_MEMLOCK is {soft // 1024} kB"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return os.strerror(ctypes.get_errno())
    return ""


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def freeze_collector() -> None:
    """Exclude all present objects from later collections: a full one takes 17 ms at 200,000 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


class CollectorPauses:
    """Measures every garbage collection of this process after `start`."""

    def __init__(self, page: Page) -> None:
        self._pause = page.histogram(GC_PAUSE.name)
        self._begun_ns = 0

    def start(self) -> None:
        gc.callbacks.append(self._on_phase)

    def _on_phase(self, phase: Literal["start", "stop"], _info: dict[str, int]) -> None:
        if phase == "start":
            self._begun_ns = monotonic_ns()
        else:
            self._pause.observe((monotonic_ns() - self._begun_ns) / 1e9)


class QuietCollector:
    """Collects the cycles that ended calls left (library connections are such) while no call can hear the pause."""

    def __init__(self) -> None:
        self._is_owed = False

    def ended(self) -> None:
        """A call is over."""
        self._is_owed = True

    def quiet(self) -> None:
        """There is no call. Call it once a second: by then the sockets of the last call are closed."""
        if self._is_owed:
            self._is_owed = False
            gc.collect()
