"""The CPU time and memory of a tree of processes, as the kernel accounts for them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name in brackets (proc(5), counted from 0): parent, own and reaped children's CPU.
_PPID, _UTIME, _STIME, _CUTIME, _CSTIME = 1, 11, 12, 13, 14


@dataclass(frozen=True)
class Usage:
    """CPU time so far, user and system, in seconds, by process name."""

    cpu_s: dict[str, float]

    def since(self, before: Usage) -> dict[str, float]:
        """The time of each process since `before`, idle processes included."""
        return {name: self.cpu_s[name] - before.cpu_s[name] for name in sorted(self.cpu_s)}


def tree(root: int) -> dict[int, str]:
    """`root` and its descendants: the name of each by its pid."""
    parents: dict[int, int] = {}
    for path in _PROC.iterdir():
        if path.name.isdigit() and (fields := _stat(int(path.name))):
            parents[int(path.name)] = int(fields[_PPID])
    found = {root: _name(root)}
    for pid in sorted(parents):
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root:
            found[pid] = _name(pid)
    return found


def cpu(processes: dict[int, str]) -> Usage:
    """CPU time of the processes. The kernel counts in steps of 10 ms, so measure over seconds."""
    total: defaultdict[str, float] = defaultdict(float)
    for pid, name in processes.items():
        if fields := _stat(pid):
            ticks = sum(int(fields[at]) for at in (_UTIME, _STIME, _CUTIME, _CSTIME))
            total[name] += ticks / _TICKS_PER_S
    return Usage(total)


def memory_kb(processes: dict[int, str], kind: Literal["Pss", "Rss"] = "Pss") -> dict[str, float]:
    """Memory by name. Pss: a shared page is divided among the processes that share it; Rss: it counts for each."""
    total: Counter[str] = Counter()
    for pid, name in processes.items():
        try:
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total[name] += next((int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")), 0)
    return dict(total)


def _stat(pid: int) -> list[str]:
    """The fields after the name; empty when the process is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _name(pid: int) -> str:
    """`python -m gateway` is called gateway; any other process by its executable."""
    try:
        arguments = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "?"
    if "-m" in arguments:
        return arguments[arguments.index("-m") + 1]
    return Path(arguments[0]).name or "?"
