"""How long a process was kept from its work: by its garbage collector, and by whatever held up its event loop."""

from __future__ import annotations

import asyncio
import gc
from time import monotonic_ns
from typing import Final, Literal

from .metrics import Definition, Page, gauge, histogram

_PAUSE: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
# uvloop's clock has steps of 1 ms, so less than that says nothing.
_LAG: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LAG_PERIOD_S: Final = 0.1

GC_PAUSE: Final[Definition] = histogram("gc_pause_seconds", "Garbage collections, by how long they took", _PAUSE)
REALTIME: Final[Definition] = gauge("realtime_scheduling", "1 when the process runs under SCHED_FIFO")
LOOP_LAG: Final[Definition] = histogram("loop_lag_seconds", "How late a timer of the event loop fired", _LAG)


class CollectorPauses:
    """Counts every collection of this process, from `start` on."""

    def __init__(self, page: Page) -> None:
        self._pause = page.histogram(GC_PAUSE.name)
        self._begun_ns = 0

    def start(self) -> None:
        gc.callbacks.append(self._on_phase)

    def _on_phase(self, phase: Literal["start", "stop"], _info: dict[str, int]) -> None:
        if phase == "start":
            self._begun_ns = monotonic_ns()
        else:
            self._pause.observe((monotonic_ns() - self._begun_ns) / 1e9)


class LoopLag:
    """A timer of the running loop that starts itself again ten times a second and counts how late it was."""

    def __init__(self, page: Page) -> None:
        self._lag = page.histogram(LOOP_LAG.name)
        self._loop = asyncio.get_running_loop()
        self._due_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._due_ns = monotonic_ns() + int(_LAG_PERIOD_S * 1e9)
        self._timer = self._loop.call_later(_LAG_PERIOD_S, self._fire)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self) -> None:
        self._lag.observe(max(0, monotonic_ns() - self._due_ns) / 1e9)
        self.start()
