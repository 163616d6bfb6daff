"""The wall time of an instant of CLOCK_MONOTONIC, for what outlives this machine's uptime."""

from __future__ import annotations

import time


def unix_ms(monotonic_ns: int) -> int:
    """The wall clock's time at a moment of CLOCK_MONOTONIC."""
    return (time.time_ns() - time.monotonic_ns() + monotonic_ns) // 1_000_000
