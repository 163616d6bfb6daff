"""How long a process was kept from its work, by its garbage collector or by what held up its loop, and how many tasks
the loop has.
"""

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
# Tasks are counted with every tenth of these timers: a count looks at each of them.
_TASKS_EVERY: Final = 10

GC_PAUSE: Final[Definition] = histogram("gc_pause_seconds", "Garbage collections, by how long they took", _PAUSE)
REALTIME: Final[Definition] = gauge("realtime_scheduling", "1 when the process runs under SCHED_FIFO")
LOOP_LAG: Final[Definition] = histogram("loop_lag_seconds", "How late a timer of the event loop fired", _LAG)
LOOP_TASKS: Final[Definition] = gauge("loop_tasks", "Tasks that live on the event loop, once a second")


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
    """A timer of the running loop that starts itself again ten times a second and counts how late it was.

    Once a second it counts the loop's tasks.
    """

    def __init__(self, page: Page) -> None:
        self._lag = page.histogram(LOOP_LAG.name)
        self._tasks = page.gauge(LOOP_TASKS.name)
        self._fired = 0
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
        if not self._fired % _TASKS_EVERY:
            self._tasks.set(len(asyncio.all_tasks(self._loop)))
        self._fired += 1
        self.start()
