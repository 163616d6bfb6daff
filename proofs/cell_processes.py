"""The processes of one cell as the kernel sees them: which are alive, and what each holds open."""

from __future__ import annotations

import contextlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from callbook.database import SQLITE_CONNECTIONS_MAX

# The argument of `-m` in the command line.
MODULES: Final = {
    "txpacer": "txpacer",
    "aibridge": "aibridge",
    "gateway": "gateway",
    "callbook": "callbook",
    "toolbox": "toolbox",
    "toolbox.runners": "runner",
}


@dataclass(frozen=True)
class Process:
    """One process. `number` counts from 1 among its kind."""

    pid: int
    name: str
    number: int

    def usage(self) -> tuple[int, int, int]:
        """Resident kB, open descriptors, threads. Raises OSError when it is gone."""
        path = Path(f"/proc/{self.pid}")
        fields = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines() if ":" in line)
        return int(fields["VmRSS"].split()[0]), len(list((path / "fd").iterdir())), int(fields["Threads"])

    def descriptors(self) -> Counter[str]:
        """The number of open descriptors of each kind: files by their path without numbers, others by their type."""
        kinds: Counter[str] = Counter()
        for path in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                target = str(path.readlink())
            except OSError:  # closed just now
                continue
            kinds[re.sub(r"\d+", "N", target)] += 1
        return kinds


def excess(held: Counter[str], idle: Counter[str], *, children: int = 0) -> Counter[str]:
    """The descriptors of a process beyond those that its kind held when it was idle.

    A database's files may be open as often as connections were open at once: see SQLITE_CONNECTIONS_MAX. A process may
    have started `children` since, and have a socket and a pipe for each.
    """
    databases = (kind for kind in held if kind.endswith(("/calls.db", "/calls.db-wal", "/calls.db-shm")))
    own = idle + Counter(dict.fromkeys(("socket:[N]", "pipe:[N]"), children))
    return held - (own | Counter(dict.fromkeys(databases, SQLITE_CONNECTIONS_MAX)))


@dataclass(frozen=True)
class Connections:
    """The TCP ports of a process's connections: its own ends, and the peers' ends."""

    own: frozenset[int]
    others: frozenset[int]


def connections(pid: int) -> Connections:
    """The IPv4 connections of a process, stopped or not. Raises OSError when it is gone."""
    inodes = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        # A descriptor may be closed in the meantime.
        with contextlib.suppress(OSError):
            inodes.add(str(path.readlink()).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    own, others = (
        frozenset(int(row[column].partition(":")[2], 16) for row in rows if row[9] in inodes) for column in (1, 2)
    )
    return Connections(own, others)


def descriptors(run_dir: Path) -> dict[str, Counter[str]]:
    """The largest number of descriptors of each kind that a process of each name has open."""
    most: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in processes(run_dir):
        most[each.name] |= each.descriptors()
    return dict(most)


# Gauges of what a call creates, at least one in each process that serves calls.
LIVES: Final = ("gateway_calls", "bridge_calls", "bridge_sessions_open", "pacer_lines", "pacer_held_lines")


def lives(metrics: str, names: tuple[str, ...] = LIVES) -> dict[str, float]:
    """The series of these gauges in the text of /metrics; empty when one of them is missing."""
    found = {
        series.removeprefix("twentyms_"): float(value)
        for series, _, value in (line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#"))
        if series.partition("{")[0].removeprefix("twentyms_") in names
    }
    return found if {series.partition("{")[0] for series in found} == set(names) else {}


def processes(run_dir: Path) -> list[Process]:
    """The processes that run in `run_dir`, by name and number."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (path / "cmdline").read_bytes().decode().split("\0")
            variables = (path / "environ").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if f"RUN_DIR={run_dir}" not in variables or "-m" not in arguments:
            continue
        name = MODULES.get(arguments[arguments.index("-m") + 1])
        if name is not None:
            environment = dict(each.partition("=")[::2] for each in variables)
            number = environment.get("HONCHO_PROCESS_NAME", "").rpartition(".")[2]
            found.append(Process(int(path.name), name, int(number) if number.isdigit() else 1))
    return sorted(found, key=lambda each: (each.name, each.number))


def pacing_pids(run_dir: Path) -> set[int]:
    """The process that holds the lock of the txpacer that paces; empty while another one takes over."""
    lock = (run_dir / "txpacer.lock").stat()
    return {
        int(line.split()[4])
        for line in Path("/proc/locks").read_text().splitlines()
        if "->" not in line and line.split()[5].endswith(f":{lock.st_ino}")
    }


def pacing(run_dir: Path) -> Process:
    """The txpacer that paces, not the standby. Raises StopIteration when there is none."""
    owners = pacing_pids(run_dir)
    return next(each for each in processes(run_dir) if each.name == "txpacer" and each.pid in owners)
