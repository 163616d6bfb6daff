"""Virtual time, and processes in it that run, stop, die and restart."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

MS: Final = 1_000_000
START_NS: Final = 1_000_000 * MS
Do = Callable[[], object]


class Clock:
    """Runs planned actions in the order of their times; at equal times, in the order of planning."""

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
        """The time of the next action; None: nothing is planned."""
        return self._due[0][0] if self._due else None

    def step(self) -> None:
        """Run the next action."""
        self.now_ns, _, do = heapq.heappop(self._due)
        do()

    def run(self, until_ns: int) -> None:
        while self._due and self._due[0][0] <= until_ns:
            self.step()
        self.now_ns = max(self.now_ns, until_ns)


class Process:
    """One process. Its messages are handled at once, wait while it is stopped, and are lost when it dies.

    A process that resumes runs its due timers first and then reads its messages in order; with `reads_first`, the other
    way round. A process that restarts has lost its state: `started` is called.
    """

    reads_first = False

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.is_alive = True
        # Changes when the process dies and when it starts: timers of an earlier incarnation are void.
        self.life = 0
        self._stops = 0
        self._timers: list[tuple[int, Do]] = []
        self._inbox: list[Do] = []

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns

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
        """Set a timer of the process."""
        life = self.life
        self.clock.at(due_ns, lambda: self._fire(life, do))

    def after(self, ms: float, do: Do) -> None:
        self.at(self.now_ns + int(ms * MS), do)

    def every(self, ms: float, do: Do) -> None:
        """Call `do` every `ms` from now on."""

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
        """Stop the process for this long."""
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
        """Kill the process; it restarts without its state after this long; None: never."""
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
        """The process has started, without any state. Override it."""

    def died(self) -> None:
        """The process has died: its sockets close. Override it."""
