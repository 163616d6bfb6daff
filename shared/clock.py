"""The wall time of an instant of CLOCK_MONOTONIC, for data that outlives this machine's uptime."""

from __future__ import annotations

import time


def unix_ms(monotonic_ns: int) -> int:
    """Milliseconds of the Unix epoch at an instant of CLOCK_MONOTONIC, ns."""
    return (time.time_ns() - time.monotonic_ns() + monotonic_ns) // 1_000_000
