"""The lag of an event loop, and the number of its tasks."""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import Final

from .metrics import LOOP_LAG, LOOP_TASKS, Page

_LAG_PERIOD_S: Final = 0.1
# Tasks are counted at every tenth timer only, because counting visits each task.
_TASKS_EVERY: Final = 10


class LoopLag:
    """A timer of the running loop, ten times a second, that measures how late it fires.

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
