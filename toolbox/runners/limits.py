"""Limits that a child of toolbox sets on itself before it runs anything for a caller."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path


def end_first() -> None:
    """Be the first process that the kernel ends when memory is short. What the child starts inherits it.

    A core dump, which would hold callers' words, is not written.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def limit_memory(megabytes: int) -> None:
    """Let allocations fail (MemoryError) once the process holds this much more than now: call it after the imports.

    RLIMIT_DATA counts private writable memory. RLIMIT_AS would also count what is only reserved: 64 MB a thread.
    """
    if sys.platform != "linux":
        return
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    wanted = int(fields["VmData"].split()[0]) * 1024 + megabytes * 1_000_000
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))
