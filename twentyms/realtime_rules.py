"""What the facts about a node mean for calls, and what to do: one rule for each thing. Pure.

The promise does not depend on any of it: the lead of a call hides 60 ms and more. But a node that permits these things
keeps the lead for the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from .finding import Finding

# The priority that txpacer asks for (shared/isolation.py).
_PRIORITY: Final = 40
# One process of a cell at its limit takes one core; txpacer and the rest share a second one.
_CPUS: Final = 2
# Reading the processor's own counter takes 50 ns from Python; a device that the host emulates takes microseconds.
_CLOCK_NS: Final = 1_000
# The kernel then wakes at its tick of 1 to 10 ms.
_COARSE_TIMER_NS: Final = 1_000_000
# design: txpacer is late by less than 1 ms in 999 of 1,000 frames. The shortest lead hides 60 ms (TX_LEAD_MIN_MS).
_LATE_MS: Final = 1.0
_HEARD_MS: Final = 60.0
_STOLEN: Final = 0.01
_BUSY: Final = 0.2
_SLOW_CLOCKS: Final = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")


@dataclass(frozen=True)
class Lateness:
    """How late wake-ups came, in ms: half of them, 999 of 1,000, and all."""

    p50_ms: float
    p999_ms: float
    most_ms: float


@dataclass(frozen=True)
class Facts:
    """What one node permits one user. None, or an empty text: not known there."""

    system: str
    uid: int
    # Docker, Kubernetes or Podman; empty: no container that shows itself.
    container: str
    # Root of a container which is an ordinary user of the machine.
    is_rootless: bool
    # Of SYS_NICE and IPC_LOCK, those in effect.
    capabilities: frozenset[str]
    # Why SCHED_FIFO was refused; empty: permitted.
    fifo_refusal: str
    # Limits: -1 is unlimited.
    rtprio_limit: int | None
    rt_group_scheduling: bool | None
    rt_runtime_us: int | None
    # The best nice value that this user may take.
    nice: int | None
    # Why memory cannot be locked; empty: it can.
    memory_refusal: str | None
    memlock_limit: int | None
    has_swap: bool | None
    # transparent_hugepage: always, madvise or never.
    huge_pages: str
    # The tightest CPU quota of the control groups around; how many of its periods ran, and were cut short.
    quota_cpus: float | None
    quota_period_ms: float | None
    quota_periods: int | None
    throttled_periods: int | None
    # CPUs that this process may use, and those of the machine.
    cpus: int | None
    cpus_of_machine: int | None
    isolated_cpus: str
    # rt, full, lazy, voluntary, none; dynamic: one of these, not told.
    preemption: str
    clock_source: str
    clock_read_ns: float
    timer_resolution_ns: int
    # The share of the last 10 s in which somebody waited for a processor, and what the host stole meanwhile.
    busy: float | None
    stolen: float | None
    # Measured: as an ordinary process, and under SCHED_FIFO.
    ordinary: Lateness | None
    realtime: Lateness | None


Setting = Literal["auto", "on", "off"]


def findings(facts: Facts, setting: Setting) -> list[Finding]:
    """What each rule says; `setting` is TX_REALTIME."""
    if facts.system != "linux":
        text = f"{facts.system} has no SCHED_FIFO for an ordinary process; calls work, and a busy machine will be heard"
        return [Finding("bad" if setting == "on" else "note", "system", text, "run calls for the public on Linux")]
    told = [_scheduling(facts, setting), *(rule(facts) for rule in _RULES)]
    return [each for each in told if each is not None]


def _scheduling(facts: Facts, setting: Setting) -> Finding:
    what = "SCHED_FIFO"
    if setting == "off":
        return Finding("note", what, "TX_REALTIME=off: not asked for", "set TX_REALTIME=auto")
    if not facts.fifo_refusal:
        return Finding("ok", what, "permitted: no ordinary process delays a frame")
    text = f"refused ({facts.fifo_refusal}), uid {facts.uid}, RLIMIT_RTPRIO {_told(facts.rtprio_limit)}, "
    text += "with CAP_SYS_NICE" if "SYS_NICE" in facts.capabilities else "without CAP_SYS_NICE"
    return Finding("bad" if setting == "on" else "note", what, text, _permit(facts))


def _permit(facts: Facts) -> str:
    """How to permit SCHED_FIFO here. What refuses is asked for in the kernel's order."""
    limit = facts.rtprio_limit or 0
    has_right = limit < 0 or limit >= _PRIORITY or ("SYS_NICE" in facts.capabilities and not facts.is_rootless)
    if facts.rt_runtime_us == 0:
        return "sysctl kernel.sched_rt_runtime_us=950000 on the node: 0 forbids real-time scheduling to everybody"
    if has_right and facts.rt_group_scheduling is not False:
        return (
            "the rights are there, so the control group refuses: a kernel with CONFIG_RT_GROUP_SCHED gives no group a "
            "real-time budget; take a node whose kernel is built without it"
        )
    if has_right:
        return "the rights are there, so a security policy refuses: look at the container's seccomp profile"
    if facts.is_rootless:
        return "a rootless container has the limits of the user who starts it: raise RLIMIT_RTPRIO to 40 for that user"
    if facts.container == "Kubernetes":
        return (
            "raise RLIMIT_RTPRIO to 40 in the node's container runtime (NRI plugin ulimit-adjuster), or run as uid 0 "
            "with SYS_NICE and IPC_LOCK alone: capabilities.add gives nothing to another user"
        )
    if facts.container:
        return f"start it with --ulimit rtprio=40 --ulimit memlock=-1 ({facts.container}); --cap-add helps root only"
    return "LimitRTPRIO=40 in the unit, or `USER - rtprio 40` in /etc/security/limits.d/twentyms.conf"


def _nice(facts: Facts) -> Finding | None:
    if facts.nice is None or not facts.fifo_refusal:
        return None
    if facts.nice < 0:
        text = f"{facts.nice} is permitted: a larger share of a busy processor, but no place before others"
        return Finding("note", "nice", text, f"without SCHED_FIFO, start the cell with `nice -n {facts.nice}`")
    return Finding("note", "nice", "no better than 0 is permitted: the cell waits like every process")


def _memory(facts: Facts) -> Finding | None:
    if facts.memory_refusal is None:
        return None
    if not facts.memory_refusal:
        return Finding("ok", "memory", "may be locked: no page of txpacer is ever fetched from a disk")
    text = f"may not be locked ({facts.memory_refusal})"
    if facts.has_swap is False:
        return Finding("ok", "memory", f"{text}, and this node has no swap that could take it")
    advice = "LimitMEMLOCK=infinity, --ulimit memlock=-1 or CAP_IPC_LOCK, or no swap on the node"
    return Finding("note", "memory", text, advice)


def _huge_pages(facts: Facts) -> Finding | None:
    if facts.huge_pages != "always":
        return Finding("ok", "huge pages", facts.huge_pages) if facts.huge_pages else None
    advice = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
    return Finding("note", "huge pages", "always: a new page may wait until the kernel has made room for 2 MB", advice)


def _quota(facts: Facts) -> Finding | None:
    if facts.quota_cpus is None or facts.quota_period_ms is None:
        return Finding("ok", "CPU quota", "none")
    text = f"{facts.quota_cpus:g} CPUs in every {facts.quota_period_ms:g} ms"
    periods, throttled = facts.quota_periods or 0, facts.throttled_periods or 0
    text += f"; used up in {throttled} of {periods} periods" if periods else ""
    advice = (
        "remove the CPU limit and keep the request: when a quota is used up, every ordinary process of the cell stands "
        "still until the next period (processes under SCHED_FIFO do not)"
    )
    if throttled or facts.quota_cpus < _CPUS:
        return Finding("bad" if throttled and facts.fifo_refusal else "note", "CPU quota", text, advice)
    return Finding("note", "CPU quota", text, advice)


def _affinity(facts: Facts) -> Finding | None:
    if facts.cpus is None:
        return None
    there = f" of {facts.cpus_of_machine}" if facts.cpus_of_machine else ""
    text = f"this process may use {facts.cpus}{there}"
    text += f"; isolated: {facts.isolated_cpus}" if facts.isolated_cpus else ""
    if facts.cpus < _CPUS:
        advice = "give the cell two: at its limit, gateway or aibridge takes one alone (MAX_CALLS is for two)"
        return Finding("note", "CPUs", text, advice)
    return Finding("ok", "CPUs", text)


def _kernel(facts: Facts) -> Finding | None:
    words = {
        "rt": "PREEMPT_RT: lets go at once, even in the kernel",
        "full": "preempts itself nearly everywhere",
        "lazy": "preempts itself for real-time processes",
        "dynamic": "can preempt itself; the chosen mode is shown to root only, in /sys/kernel/debug/sched/preempt",
    }
    if facts.preemption in words:
        return Finding("ok", "preemption", words[facts.preemption])
    if not facts.preemption:
        return None
    advice = "boot with preempt=full: a long system call of another process delays a frame by milliseconds"
    return Finding("note", "preemption", f"{facts.preemption}: only where the kernel offers it", advice)


def _clock(facts: Facts) -> Finding | None:
    text = f"{facts.clock_source or 'unknown'}, {facts.clock_read_ns:.0f} ns a reading"
    if facts.clock_source in _SLOW_CLOCKS or facts.clock_read_ns > _CLOCK_NS:
        advice = "choose tsc or the hypervisor's clock: /sys/devices/system/clocksource/clocksource0/"
        return Finding("note", "clock", f"{text}: every reading asks a slow device", advice)
    return Finding("ok", "clock", text)


def _steal(facts: Facts) -> Finding | None:
    if facts.stolen is None:
        return None
    if facts.stolen > _STOLEN:
        advice = "no setting inside helps: take a machine whose processors are not shared"
        return Finding("note", "steal", f"the host took {facts.stolen:.1%} of the processors", advice)
    return Finding("ok", "steal", f"{facts.stolen:.1%}")


def _load(facts: Facts) -> Finding | None:
    if facts.busy is None:
        return None
    text = f"somebody waited for a processor in {facts.busy:.0%} of the last 10 s"
    if facts.busy > _BUSY and facts.fifo_refusal:
        return Finding("note", "load", text, "permit SCHED_FIFO, or let fewer processes run on this node")
    return Finding("ok", "load", text)


def _timers(facts: Facts) -> Finding | None:
    used = facts.realtime or facts.ordinary
    if used is None:
        return None
    text = "; ".join(
        f"{name}: p50 {each.p50_ms:.2f}, p99.9 {each.p999_ms:.2f}, latest {each.most_ms:.2f} ms"
        for name, each in (("SCHED_FIFO", facts.realtime), ("ordinary", facts.ordinary))
        if each is not None
    )
    if used.most_ms > _HEARD_MS:
        return Finding("bad", "wake-ups late", text, "callers hear it: find what stops this machine, or take another")
    if facts.timer_resolution_ns >= _COARSE_TIMER_NS:
        return Finding("note", "wake-ups late", text, "boot with highres=on: timers end at the kernel's ticks only")
    if used.p999_ms > _LATE_MS:
        advice = "the lead hides it, and has less left for the network; permit SCHED_FIFO, or find what holds it up"
        return Finding("note", "wake-ups late", text, advice)
    return Finding("ok", "wake-ups late", text)


def _told(limit: int | None) -> str:
    return "unknown" if limit is None else "unlimited" if limit < 0 else str(limit)


_RULES: Final[tuple[Callable[[Facts], Finding | None], ...]] = (
    _nice, _memory, _huge_pages, _quota, _affinity, _kernel, _clock, _steal, _load, _timers,
)  # fmt: skip
