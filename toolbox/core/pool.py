"""The child processes of one source of tools: when they start, which call each gets, and when one is killed.

User code can sleep, loop, leak or end its process. So a child of Python tools runs one call at a time (`places` 1), and
what a call does to its process costs no other call. Children of HTTP tools and MCP servers run our code, many calls at
once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from .commands import Close, Halt, Kill, Lost, PoolCommand, Run, Spawn

# From the start of a child to its list of tools: imports, or the handshake with an MCP server.
START_NS: Final = 30_000_000_000
# From the request to stop a call to the kill of its child. An async function ends at its next await; a plain one cannot
# be stopped otherwise. The children that run several calls are ours, and end within milliseconds.
GRACE_NS: Final = 250_000_000
SHARED_GRACE_NS: Final = 2_000_000_000
# From closing a child's socket to its kill.
CLOSE_NS: Final = 2_000_000_000
# A child beyond the first one ends when it was idle for this long.
IDLE_NS: Final = 60_000_000_000
# The pause before another start, after one, two, ... failed starts in a row.
RETRY_NS: Final = 500_000_000
RETRY_MAX_NS: Final = 30_000_000_000


class Phase(Enum):
    STARTING = auto()
    READY = auto()
    # It was told to end, or is being killed.
    ENDING = auto()


@dataclass
class _Child:
    # When it is killed, unless something happens before; None: never.
    kill_ns: int | None
    phase: Phase = Phase.STARTING
    was_ready: bool = False
    running: set[int] = field(default_factory=set)
    halted: set[int] = field(default_factory=set)
    idle_ns: int = 0


class Pool:
    """Every method returns what is to be done. Times are ns, monotonic.

    A call that was given to `want` ends with `ended` by its child or with Lost, unless `withdraw` took it back before
    it was run.
    """

    def __init__(self, *, places: int = 1, children_max: int = 1) -> None:
        self._places = places
        self._children_max = children_max
        self._grace_ns = GRACE_NS if places == 1 else SHARED_GRACE_NS
        self._children: dict[int, _Child] = {}
        self._next = 1
        self._queue: deque[int] = deque()
        self._failures = 0
        self._retry_ns = 0
        self._is_retired = False

    @property
    def is_failing(self) -> bool:
        """Its children do not start, and none is left: it answers nothing until one starts."""
        return self._failures > 0 and not any(child.phase is Phase.READY for child in self._children.values())

    @property
    def is_over(self) -> bool:
        return self._is_retired and not self._children

    def due_ns(self) -> int | None:
        """When `tick` has something to do."""
        due = [child.kill_ns for child in self._children.values() if child.kill_ns is not None]
        if self._wanted():
            due.append(self._retry_ns)
        due += [child.idle_ns + IDLE_NS for child in self._spare()]
        return min(due, default=None)

    def tick(self, now_ns: int) -> list[PoolCommand]:
        """Kill what is overdue, end idle children, and keep one child alive."""
        commands: list[PoolCommand] = []
        for number, child in self._children.items():
            if child.kill_ns is not None and child.kill_ns <= now_ns:
                child.phase, child.kill_ns = Phase.ENDING, None
                commands.append(Kill(number))
        for child in self._spare():
            if child.idle_ns + IDLE_NS <= now_ns:
                commands += self._close(child, now_ns)
        return commands + self._assign(now_ns)

    def retire(self, now_ns: int) -> list[PoolCommand]:
        """Start nothing more. Calls that run go on; those that wait are lost."""
        self._is_retired = True
        commands: list[PoolCommand] = [Lost(number) for number in self._queue]
        self._queue.clear()
        for child in list(self._children.values()):
            if child.phase is not Phase.ENDING and not child.running:
                commands += self._close(child, now_ns)
        return commands

    # --- calls ---

    def want(self, number: int, now_ns: int) -> list[PoolCommand]:
        if self._is_retired or self.is_failing:
            return [Lost(number)]
        self._queue.append(number)
        return self._assign(now_ns)

    def withdraw(self, number: int, now_ns: int) -> list[PoolCommand]:
        """Nobody waits for the call any more."""
        if number in self._queue:
            self._queue.remove(number)
            return []
        for name, child in self._children.items():
            if number in child.running and number not in child.halted:
                child.halted.add(number)
                child.kill_ns = min(now_ns + self._grace_ns, child.kill_ns or now_ns + self._grace_ns)
                return [Halt(name, number), *self._assign(now_ns)]
        return []

    # --- children ---

    def ready(self, name: int, now_ns: int) -> list[PoolCommand]:
        """The child has told its tools."""
        child = self._children[name]
        if child.phase is Phase.STARTING:
            self._failures = 0
            child.phase, child.was_ready = Phase.READY, True
            child.kill_ns, child.idle_ns = None, now_ns
            if self._is_retired:
                return self._close(child, now_ns)
        return self._assign(now_ns)

    def runs(self, name: int, number: int) -> bool:
        """Whether the child has this call."""
        return name in self._children and number in self._children[name].running

    def ended(self, name: int, number: int, now_ns: int, *, is_last: bool = False) -> list[PoolCommand]:
        """The child has answered the call. `is_last`: it takes no other one, and ends by itself."""
        child = self._children[name]
        if is_last and child.phase is Phase.READY:
            child.phase, child.kill_ns = Phase.ENDING, now_ns + CLOSE_NS
        child.running.discard(number)
        child.halted.discard(number)
        if not child.halted and child.phase is Phase.READY:
            child.kill_ns = None
        if not child.running:
            child.idle_ns = now_ns
            if self._is_retired and child.phase is Phase.READY:
                return self._close(child, now_ns)
        return self._assign(now_ns)

    def gone(self, name: int, now_ns: int) -> list[PoolCommand]:
        """The child's process has ended."""
        child = self._children.pop(name)
        commands: list[PoolCommand] = [Lost(number) for number in sorted(child.running)]
        if not child.was_ready and not self._is_retired:
            self._retry_ns = now_ns + min(RETRY_NS << min(self._failures, 10), RETRY_MAX_NS)
            self._failures += 1
            if self.is_failing:
                commands += [Lost(number) for number in self._queue]
                self._queue.clear()
        return commands + self._assign(now_ns)

    @property
    def _alive(self) -> list[_Child]:
        """Children that can be expected to take more calls. One that is to stop its only call will often be killed."""
        return [
            child
            for child in self._children.values()
            if child.phase is not Phase.ENDING and not (self._places == 1 and child.halted)
        ]

    def _spare(self) -> list[_Child]:
        """Idle children, without the one that stays."""
        idle = [child for child in self._alive if child.phase is Phase.READY and not child.running]
        return idle[1:] if len(idle) == len(self._alive) else idle

    def _close(self, child: _Child, now_ns: int) -> list[PoolCommand]:
        child.phase, child.kill_ns = Phase.ENDING, now_ns + CLOSE_NS
        name = next(name for name, each in self._children.items() if each is child)
        return [Close(name)]

    def _wanted(self) -> int:
        """How many children to start now: one that stays, and one for each waiting call that none will take."""
        if self._is_retired:
            return 0
        starting = sum(child.phase is Phase.STARTING for child in self._children.values())
        room = self._children_max - len(self._children)
        alive = len(self._alive)
        wanted = max(1 - alive, len(self._queue) - starting if self._places == 1 else 0)
        return max(0, min(wanted, room))

    def _assign(self, now_ns: int) -> list[PoolCommand]:
        """Give waiting calls to children with room, and start children for the rest."""
        commands: list[PoolCommand] = []
        for name, child in self._children.items():
            while self._queue and child.phase is Phase.READY and len(child.running) < self._places:
                number = self._queue.popleft()
                child.running.add(number)
                commands.append(Run(name, number))
        if now_ns >= self._retry_ns:
            for _ in range(self._wanted()):
                commands.append(Spawn(self._next))
                self._children[self._next] = _Child(now_ns + START_NS)
                self._next += 1
        return commands
