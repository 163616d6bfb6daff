"""What this node permits a process with deadlines: read from the kernel's files, and tried in children of this process.

Every fact may be missing: another system, an older kernel, a container that hides the file. Then it is None, and
`realtime_rules` says nothing about it. Nothing here needs root.
"""

from __future__ import annotations

import gzip
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from shared import isolation
from shared.isolation import PACER_PRIORITY

from .realtime_rules import Facts, Lateness

# As often as txpacer wakes up when calls are live, and long enough for a hundred of the scheduler's turns.
_SLEEP_S: Final = 0.002
_MEASURED_S: Final = 3.0
_READS: Final = 10_000
# linux/capability.h.
_CAPABILITIES: Final = {14: "IPC_LOCK", 23: "SYS_NICE"}


def gather(root: Path = Path("/")) -> Facts:
    """All facts; takes 3 s, in which timers are measured. `root` is where /proc and /sys are looked for."""
    status = _status(root)
    effective = int(status.get("CapEff", "0"), 16)
    before = _processor_times(root)
    started = [_begin(lambda: _measure(0)), _begin(lambda: _measure(PACER_PRIORITY))]
    ordinary, realtime = (_result(each) for each in started)
    after = _processor_times(root)
    quota_cpus, period_ms, periods, throttled = _quota(root)
    return Facts(
        system=sys.platform,
        uid=os.geteuid(),
        container=_container(root),
        is_rootless=_is_rootless(root),
        capabilities=frozenset(name for number, name in _CAPABILITIES.items() if effective >> number & 1),
        fifo_refusal=fifo_refusal(),
        rtprio_limit=_limit("RLIMIT_RTPRIO"),
        rt_group_scheduling=_rt_group_scheduling(root),
        rt_runtime_us=_number(root / "proc/sys/kernel/sched_rt_runtime_us"),
        nice=_result(_begin(_best_nice)),
        memory_refusal=_result(_begin(isolation.lock_memory)),
        memlock_limit=_limit("RLIMIT_MEMLOCK"),
        has_swap=len(_text(root / "proc/swaps").splitlines()) > 1 if _text(root / "proc/swaps") else None,
        huge_pages=_chosen(_text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
        quota_cpus=quota_cpus,
        quota_period_ms=period_ms,
        quota_periods=periods,
        throttled_periods=throttled,
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        cpus_of_machine=_count(_text(root / "sys/devices/system/cpu/online")),
        isolated_cpus=_text(root / "sys/devices/system/cpu/isolated"),
        preemption=_preemption(root),
        clock_source=_text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        clock_read_ns=_clock_read_ns(),
        timer_resolution_ns=round(time.clock_getres(time.CLOCK_MONOTONIC) * 1e9),
        busy=_pressure(_text(root / "proc/pressure/cpu")),
        stolen=_stolen(before, after),
        ordinary=Lateness(*ordinary) if ordinary else None,
        realtime=Lateness(*realtime) if realtime else None,
    )


def fifo_refusal() -> str:
    """Why this user may not have SCHED_FIFO; empty: permitted. Tried in a child: this process stays as it is."""
    refused: str | None = _result(_begin(lambda: isolation.realtime("auto", PACER_PRIORITY)))
    return "the attempt failed" if refused is None else refused


def _begin(what: Callable[[], Any]) -> tuple[int, int]:
    """Call `what` in a child process. Returns its id, and the pipe on which its result comes as JSON."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    with suppress(BaseException):  # the parent sees an empty result
        os.write(writer, msgspec.json.encode(what()))
    os._exit(0)


def _result(begun: tuple[int, int]) -> Any:
    """What the child returned; None when it failed."""
    child, reader = begun
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return msgspec.json.decode(told) if told else None


def _measure(priority: int) -> Sequence[float] | None:
    """Sleep again and again. Returns how late the median, 999 of 1,000, and the latest wake-up were, in ms."""
    if priority and isolation.realtime("auto", priority):
        return None
    isolation.exact_timers()
    late = []
    end = time.monotonic() + _MEASURED_S
    while (begun := time.monotonic()) < end:
        time.sleep(_SLEEP_S)
        late.append((time.monotonic() - begun - _SLEEP_S) * 1e3)
    late.sort()
    return late[len(late) // 2], late[int(len(late) * 0.999)], late[-1]


def _best_nice() -> int:
    """The lowest nice value that this user may take."""
    for value in range(-20, 0):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, value)
            return value
    return os.getpriority(os.PRIO_PROCESS, 0)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _limit(name: str) -> int | None:
    """A limit of this process, -1 for none; None where the system does not know it."""
    number = getattr(resource, name, None)
    if number is None:
        return None
    soft, _ = resource.getrlimit(number)
    return -1 if soft == resource.RLIM_INFINITY else soft


def _status(root: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in _text(root / "proc/self/status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _container(root: Path) -> str:
    """What kind of container this is; empty: none that shows itself."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "Kubernetes"
    if (root / ".dockerenv").exists():
        return "Docker"
    if (root / "run/.containerenv").exists():
        return "Podman"
    return ""


def _is_rootless(root: Path) -> bool:
    """Whether root here is an ordinary user outside: its capabilities then count for nothing in the scheduler."""
    fields = _text(root / "proc/self/uid_map").split()
    return bool(fields) and fields[:2] != ["0", "0"]


def _rt_group_scheduling(root: Path) -> bool | None:
    """Whether the kernel gives real-time budgets to control groups (CONFIG_RT_GROUP_SCHED)."""
    config = ""
    with suppress(OSError, EOFError):
        config = gzip.decompress((root / "proc/config.gz").read_bytes()).decode(errors="replace")
    config = config or _text(root / f"boot/config-{os.uname().release}")
    return "\nCONFIG_RT_GROUP_SCHED=y" in config if config else None


def _groups(root: Path) -> list[Path]:
    """The folders of this process's control group for the CPU, the innermost first."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, inner = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            mounts = [root / "sys/fs/cgroup"]
        elif "cpu" in controllers.split(","):
            mounts = [root / "sys/fs/cgroup" / controllers, root / "sys/fs/cgroup/cpu"]
        else:
            continue
        for mount in mounts:
            group = mount / inner.lstrip("/")
            # In a container the name may be the host's, which is not to be seen here: the mount is then the group.
            while group != mount:
                found.append(group)
                group = group.parent
            found.append(mount)
    return found


def _quota(root: Path) -> tuple[float | None, float | None, int | None, int | None]:
    """The smallest quota of all groups around this process, in CPUs; its period in ms; periods, all and throttled."""
    found: list[tuple[float, float, int | None, int | None]] = []
    for group in _groups(root):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        quota = quota or _text(group / "cpu.cfs_quota_us")
        period = period or _text(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            counted = dict(line.split()[:2] for line in _text(group / "cpu.stat").splitlines() if " " in line)
            periods, throttled = (
                int(counted[name]) if name in counted else None for name in ("nr_periods", "nr_throttled")
            )
            found.append((int(quota) / int(period), int(period) / 1e3, periods, throttled))
    return min(found) if found else (None, None, None, None)


def _chosen(text: str) -> str:
    """The chosen word of a file that reads `always [madvise] never`."""
    chosen = re.search(r"\[(\w+)\]", text)
    return chosen[1] if chosen else ""


def _count(ranges: str) -> int | None:
    """How many CPUs `0-3,8` are."""
    ends = [each.split("-") for each in ranges.split(",") if each]
    return sum(int(each[-1]) - int(each[0]) + 1 for each in ends) or None


def _preemption(root: Path) -> str:
    """Where the kernel lets go of a processor: rt, full, lazy, voluntary, none, dynamic (one of them), or unknown."""
    version = _text(root / "proc/version")
    built = re.search(r"PREEMPT\w*", version)
    names = {"PREEMPT_RT": "rt", "PREEMPT": "full", "PREEMPT_VOLUNTARY": "voluntary", "PREEMPT_LAZY": "lazy"}
    if built and built[0] in names:
        return names[built[0]]
    told = re.search(r"\((\w+)\)", _text(root / "sys/kernel/debug/sched/preempt"))
    told = told or re.search(r"\bpreempt=(\w+)", _text(root / "proc/cmdline"))
    if told:
        return told[1]
    if built:
        return "dynamic"
    return "voluntary" if version else ""


def _clock_read_ns() -> float:
    begun = time.perf_counter_ns()
    for _ in range(_READS):
        time.monotonic_ns()
    return (time.perf_counter_ns() - begun) / _READS


def _pressure(text: str) -> float | None:
    """The share of the last 10 s in which somebody waited for a processor."""
    told = re.search(r"some avg10=([\d.]+)", text)
    return float(told[1]) / 100 if told else None


def _processor_times(root: Path) -> list[int]:
    """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal."""
    lines = _text(root / "proc/stat").splitlines()
    return [int(each) for each in lines[0].split()[1:9]] if lines else []


def _stolen(before: Sequence[int], after: Sequence[int]) -> float | None:
    """The share of the processors that the host of a virtual machine gave to others meanwhile."""
    if len(before) < 8 or len(after) < 8:
        return None
    spent = [now - then for then, now in zip(before, after, strict=True)]
    return spent[7] / max(1, sum(spent))
