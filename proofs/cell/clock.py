"""Virtual time, and processes in it that run, stand still, die and come back."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

MS: Final = 1_000_000
START_NS: Final = 1_000_000 * MS
Do = Callable[[], None]


class Clock:
    """What is planned happens in the order of its time; at one time, in the order in which it was planned."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self._due: list[tuple[int, int, Do]] = []
        self._planned = 0

    def at(self, due_ns: int, do: Do) -> None:
        self._planned += 1
        heapq.heappush(self._due, (max(due_ns, self.now_ns), self._planned, do))

    def after(self, ms: float, do: Do) -> None:
        self.at(self.now_ns + int(ms * MS), do)

    def next_ns(self) -> int | None:
        """When the next thing happens; None: nothing is planned."""
        return self._due[0][0] if self._due else None

    def step(self) -> None:
        """Let the next thing happen."""
        self.now_ns, _, do = heapq.heappop(self._due)
        do()

    def run(self, until_ns: int) -> None:
        while self._due and self._due[0][0] <= until_ns:
            self.step()
        self.now_ns = max(self.now_ns, until_ns)


class Process:
    """One process. What reaches it happens at once, waits while it stands still, or is lost when it dies.

    A process that goes on looks after its timers first, and then reads what was sent to it, in order; with
    `reads_first` the other way round. A process that starts again knows nothing: `started` is called.
    """

    reads_first = False

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.is_alive = True
        # Changes when it dies and when it starts: a timer of an earlier one is void.
        self.life = 0
        self._stops = 0
        self._timers: list[tuple[int, Do]] = []
        self._inbox: list[Do] = []

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns

    @property
    def stands_still(self) -> bool:
        return self._stops > 0

    # --- what happens to it ---

    def deliver(self, do: Do) -> None:
        """A message arrives."""
        if not self.is_alive:
            return
        if self._stops:
            self._inbox.append(do)
        else:
            do()

    def at(self, due_ns: int, do: Do) -> None:
        """One of its own timers."""
        life = self.life
        self.clock.at(due_ns, lambda: self._fire(life, do))

    def after(self, ms: float, do: Do) -> None:
        self.at(self.now_ns + int(ms * MS), do)

    def every(self, ms: float, do: Do) -> None:
        """From now on, once each `ms`."""

        def again() -> None:
            do()
            self.after(ms, again)

        again()

    def _fire(self, life: int, do: Do) -> None:
        if life != self.life or not self.is_alive:
            return
        if self._stops:
            self._timers.append((life, do))
        else:
            do()

    # --- harm ---

    def stop(self, ms: float) -> None:
        """It stands still for this long."""
        life = self.life
        self._stops += 1
        self.clock.after(ms, lambda: self._go_on(life))

    def _go_on(self, life: int) -> None:
        if life != self.life:
            return
        self._stops -= 1
        if self._stops:
            return
        timers, self._timers = self._timers, []
        inbox, self._inbox = self._inbox, []
        due = [lambda of=of, do=do: self._fire(of, do) for of, do in timers]
        for do in (*inbox, *due) if self.reads_first else (*due, *inbox):
            do()

    def kill(self, back_after_ms: float | None = None) -> None:
        """It is gone with everything that it knew, and starts again after this long; None: never."""
        self.is_alive = False
        self.life += 1
        self._stops = 0
        self._timers.clear()
        self._inbox.clear()
        self.died()
        if back_after_ms is not None:
            self.clock.after(back_after_ms, self.start)

    def start(self) -> None:
        self.is_alive = True
        self.life += 1
        self.started()

    def started(self) -> None:
        """It knows nothing yet. To be overridden."""

    def died(self) -> None:
        """Its sockets close. To be overridden."""
