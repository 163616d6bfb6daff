"""What keeps the rest of the machine off a process that has an instant to keep.

All of it is asked of the kernel once, at the start, and what it refuses is a reason in one line: a process that may not
have it works all the same, and its metrics say that it does without.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from pathlib import Path
from typing import Any, Final, Literal

import zmq

from .process import ConfigError

# SCHED_FIFO priorities, 1 to 99. The pacer before the gateway before aibridge (an interruption passes through it, and a
# line starves when it is kept waiting), and all below the kernel's own threads that serve
# interrupts (50 on a kernel with threaded interrupts): ours live on their work.
PACER_PRIORITY: Final = 40
GATEWAY_PRIORITY: Final = 20
BRIDGE_PRIORITY: Final = 10

# Young collections stay below 1 ms. A full one looks at the live calls only, and comes once in 4 million objects that
# stayed: 4 ms in a gateway with 150 calls and their other ends in the same process (22,000 objects).
_GC_THRESHOLDS: Final = (2_000, 20, 100)

# linux/prctl.h, asm-generic/mman.h, linux/capability.h.
_PR_SET_TIMERSLACK: Final = 29
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK: Final = 14


def realtime(setting: Literal["auto", "on", "off"], priority: int) -> str:
    """Put the calling thread under SCHED_FIFO; "" when it is, else why not.

    Threads and children that it starts later are not (SCHED_RESET_ON_FORK); `context` gives ZeroMQ's thread its own.
    Raises ConfigError when `setting` is "on" and the kernel refuses.
    """
    if setting == "off":
        return "TX_REALTIME=off"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except (OSError, AttributeError) as exc:  # other systems than Linux have no such call
        reason = "it is not permitted" if isinstance(exc, PermissionError) else str(exc)
        if setting == "on":
            raise ConfigError(
                f"TX_REALTIME=on, but real-time scheduling cannot be had ({reason}); give this user CAP_SYS_NICE or "
                "RLIMIT_RTPRIO (see docs/pacing.md), or set TX_REALTIME=auto"
            ) from None
        return reason
    return ""


def context(priority: int | None) -> zmq.Context[Any]:
    """A ZeroMQ context; with `priority`, its thread runs under SCHED_FIFO (which `realtime` has shown to be permitted).

    A message passes through that thread: left to the ordinary scheduler, it would wait there behind every busy process.
    """
    made: zmq.Context[Any] = zmq.Context()
    if priority is not None:
        made.set(zmq.THREAD_SCHED_POLICY, os.SCHED_FIFO)
        made.set(zmq.THREAD_PRIORITY, priority)
    return made


def pin(cpus: frozenset[int]) -> None:
    """Run on these CPUs only. Raises ConfigError when there are none of these numbers."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, AttributeError):
        there = ",".join(map(str, sorted(os.sched_getaffinity(0)))) if sys.platform == "linux" else "none"
        raise ConfigError(f"TX_CPU names a CPU that this process may not use; it may use {there}") from None


def exact_timers() -> None:
    """Wake at the instant asked for. Linux lets it pass by 50 us otherwise, to gather wake-ups."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def lock_memory() -> str:
    """Keep every page that was touched in memory; "" when so, else why not.

    Under a limit it is not even tried: what exceeds the limit later would then be refused to the allocator.
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
    """What is there now is never looked at again: a full collection takes 17 ms at 200,000 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


class QuietCollector:
    """Frees what ended calls left in cycles (the libraries' connections are such), while no call can hear the pause."""

    def __init__(self) -> None:
        self._is_owed = False

    def ended(self) -> None:
        """A call is over."""
        self._is_owed = True

    def quiet(self) -> None:
        """There is no call. To be said once a second, so that the sockets of the last one are gone, too."""
        if self._is_owed:
            self._is_owed = False
            gc.collect()
