"""Limits that a child of toolbox sets on itself after its imports, before it runs anything for a caller."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path


def limit_memory(megabytes: int) -> None:
    """Let allocations fail (MemoryError) once the process holds this much more than now.

    RLIMIT_DATA counts private writable memory. RLIMIT_AS would also count what is only reserved: 64 MB a thread.
    """
    if sys.platform != "linux":
        return
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    now = int(fields["VmData"].split()[0]) * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = now + megabytes * 1_000_000
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))
    # A core dump would hold callers' words.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Of all processes of the machine, the kernel shall end this one first when memory is short.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
