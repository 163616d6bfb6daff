"""The isolation of txpacer from the rest of the machine, complete before the first frame."""

from __future__ import annotations

import gc
import logging

from shared.isolation import PACER_PRIORITY, exact_timers, freeze_collector, lock_memory, pin, realtime
from shared.settings import Settings

from .core.metrics import PacerMetrics

log = logging.getLogger("txpacer")


def take_priority(settings: Settings, metrics: PacerMetrics) -> int | None:
    """Get real-time scheduling where it is permitted. Returns the priority, or None after one log line.

    Raises ConfigError for TX_REALTIME=on where it is not permitted, and for a TX_CPU that does not exist.
    """
    pin(settings.tx_cpus)
    exact_timers()
    refused = realtime(settings.tx_realtime, PACER_PRIORITY)
    metrics.realtime.set(not refused)
    if refused:
        if settings.tx_realtime == "auto":
            log.warning("no real-time scheduling (%s): frames may leave late under load; see docs/pacing.md", refused)
        return None
    return PACER_PRIORITY


def settle(metrics: PacerMetrics) -> None:
    """After set-up: lock the memory, and switch the garbage collector off, because the loop makes no cycles."""
    freeze_collector()
    gc.disable()
    refused = lock_memory()
    metrics.memory_locked.set(not refused)
    if refused:
        log.info("memory is not locked (%s)", refused)
