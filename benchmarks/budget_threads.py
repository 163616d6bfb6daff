"""What each thread of a process takes: CPU time, and how often it woke up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
# libzmq's own names: `ZMQbg/IO/n` carries the messages.
_ZEROMQ: Final = "ZMQ"


@dataclass(frozen=True)
class Work:
    """CPU seconds and wake-ups so far, or between two looks."""

    cpu_s: float = 0.0
    wakes: int = 0

    def plus(self, other: Work) -> Work:
        return Work(self.cpu_s + other.cpu_s, self.wakes + other.wakes)

    def since(self, before: Work) -> Work:
        return Work(self.cpu_s - before.cpu_s, self.wakes - before.wakes)


def look(processes: dict[int, str]) -> dict[str, Work]:
    """The work so far of each part: a process's main thread, its ZeroMQ threads, its other threads."""
    found: dict[str, Work] = {}
    for pid, name in processes.items():
        for task in (_PROC / str(pid) / "task").glob("*"):
            try:
                # proc_pid_schedstat: nanoseconds on a processor; the tick of `stat` is 10 ms.
                cpu_ns = int((task / "schedstat").read_text().split()[0])
                thread = (task / "comm").read_text()
                switches = next(
                    int(line.split()[1])
                    for line in (task / "status").read_text().splitlines()
                    if line.startswith("voluntary_ctxt_switches")
                )
            except OSError:  # it ended
                continue
            if int(task.name) == pid:
                part = name
            else:
                part = f"{name}, ZeroMQ" if thread.startswith(_ZEROMQ) else f"{name}, other threads"
            found[part] = found.get(part, Work()).plus(Work(cpu_ns / 1e9, switches))
    return found


def between(before: dict[str, Work], after: dict[str, Work]) -> dict[str, Work]:
    return {part: work.since(before.get(part, Work())) for part, work in sorted(after.items())}
