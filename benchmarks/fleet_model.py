"""A fleet in simulated time: callers, HAProxies, cells, the store of stories, and the model's limits.

Each HAProxy knows its own connections only, and what the cells' agents told it last. The weight that a cell tells is
the product's own rule (gateway/core/agent_check.py). How HAProxy chooses is told at `Edge`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import simpy

from gateway.core.agent_check import weight

from .fleet_parameters import BACK_OFF, Parameters

Steps = Generator[simpy.Event, Any, None]
# Whole percentages of a server's weight of 100 (deploy/haproxy/haproxy.cfg); 0 drains it.
_FULL: Final = 100
_SECOND_NS: Final = 1_000_000_000


@dataclass(eq=False)
class Call:
    """One caller. `cell` is None while the call is between two cells, and at its end."""

    number: int
    ends_s: float
    cell: Cell | None = None
    # The HAProxy of its media socket.
    edge: Edge | None = None
    # The story in the store was written within this time before it was needed.
    story_phase_s: float = 0.0
    # Since when the caller hears nothing; None: the conversation goes on.
    silent_since_s: float | None = None
    is_over: bool = False


@dataclass(eq=False)
class Cell:
    """One machine. `calls` hold a place each, from the webhook on."""

    number: int
    zone: int
    max_calls: int
    began_s: float = -1e9
    is_alive: bool = True
    # Its machine runs: a connection to a cell that is not alive is refused at once, else it waits in vain.
    has_power: bool = True
    is_draining: bool = False
    calls: set[Call] = field(default_factory=set)
    # New calls in each second.
    taken: Counter[int] = field(default_factory=Counter)

    def takes(self) -> bool:
        return self.is_alive and not self.is_draining and len(self.calls) < self.max_calls

    def told(self, now_s: float, *, has_ramp: bool) -> int:
        """What its agent says: a percentage, or 0 for `drain`."""
        if self.is_draining:
            return 0
        age_s = now_s - self.began_s if has_ramp else 1e9
        return weight(
            age_ns=int(age_s * _SECOND_NS),
            calls=len(self.calls),
            max_calls=self.max_calls,
            pressure=0.0,
            takes_calls=True,
        )


class Edge:
    """One HAProxy: what it believes about the cells, and its own connections to each.

    `leastconn` (HAProxy's lb_fwlc.c): a server's key is 0 without connections, else (connections + 1) / weight. The
    least key is taken; of equal keys, the one that waited longest. `random(n)` (backend.c): n servers are drawn by
    weight, and the one with the fewest connections for its weight is taken. Both avoid the server that refused just
    now, and no other.
    """

    def __init__(self, cells: list[Cell], draws: int, chance: random.Random) -> None:
        self._cells = cells
        self._draws, self._random = draws, chance
        self.weights = [_FULL] * len(cells)
        self.is_up = [True] * len(cells)
        self.sockets: list[dict[Call, None]] = [{} for _ in cells]
        # When each was taken last, in order.
        self._turns = [0] * len(cells)
        self._turn = 0

    def choose(self, avoided: Cell | None) -> Cell | None:
        """The cell for a new call; None: every one is down or drains."""
        known = [number for number, share in enumerate(self.weights) if share and self.is_up[number]]
        others = [number for number in known if avoided is None or number != avoided.number] or known
        if not others:
            return None
        if self._draws:
            drawn = self._random.choices(others, [self.weights[number] for number in others], k=self._draws)
            return self._cells[min(drawn, key=lambda number: len(self.sockets[number]) / self.weights[number])]
        best = min(others, key=lambda number: (self._key(number), self._turns[number]))
        self._turn += 1
        self._turns[best] = self._turn
        return self._cells[best]

    def _key(self, number: int) -> float:
        connections = len(self.sockets[number])
        return (connections + 1) / self.weights[number] if connections else 0.0


class Provider:
    """The model's limit of new sessions: a bucket of tokens."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at_s = burst, 0.0
        self.dials: Counter[int] = Counter()
        self.refused = 0

    def accepts(self, now_s: float) -> bool:
        self.dials[int(now_s)] += 1
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        return True


@dataclass
class Counts:
    """What became of the callers."""

    arrived: int = 0
    # Answered by the fallback at the webhook; with_room: another cell could have taken the call.
    refused: int = 0
    refused_with_room: int = 0
    # The model could not be dialled in time: the fallback.
    no_model: int = 0
    # New callers whose first dial was refused: the greeting came late.
    late_greetings: int = 0
    finished: int = 0
    # Callers who hung up while their call was between two cells.
    left_between: int = 0
    # Conversations that went on in another cell, and those of them that went on without their memory.
    handed_over: int = 0
    without_story: int = 0
    # Each hand-over's silence, in seconds.
    silences: list[float] = field(default_factory=list)
    retried: int = 0


class Fleet:
    """Everything together. All chance comes from `seed`."""

    def __init__(self, parameters: Parameters, seed: int, *, has_ramp: bool = True) -> None:
        self.p = parameters
        self.env = simpy.Environment()
        self.random = random.Random(seed)
        self.cells = [Cell(n, n % parameters.zones, parameters.max_calls) for n in range(parameters.cells)]
        self.edges = [Edge(self.cells, parameters.draws, self.random) for _ in range(parameters.edges)]
        self.provider = Provider(parameters.dials_per_s, parameters.dials_burst)
        self.counts = Counts()
        self.live = 0
        self._has_ramp = has_ramp
        # When the store was there, oldest first: (from, until).
        self._store_gone: list[tuple[float, float]] = []
        for edge in self.edges:
            self.env.process(self._ask_agents(edge))

    @property
    def now_s(self) -> float:
        return float(self.env.now)

    def after(self, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        event = self.env.timeout(seconds)
        event.callbacks.append(lambda _: act(*arguments))

    # --- callers ---

    def arrivals(self, rate_per_s: Callable[[float], float], most_per_s: float) -> Steps:
        """A Poisson process whose rate changes with time: thinned from its highest rate."""
        while True:
            yield self.env.timeout(self.random.expovariate(most_per_s))
            if self.random.random() * most_per_s < rate_per_s(self.now_s):
                self.arrive(self.random.expovariate(1 / self.p.mean_call_s))

    def arrive(self, length_s: float) -> None:
        self.counts.arrived += 1
        self.live += 1
        call = Call(self.counts.arrived, self.now_s + length_s, story_phase_s=self.random.random() * self.p.story_s)
        self.after(length_s, self._finish, call)
        self._webhook(call, self.random.choice(self.edges), None, 0)

    def settle(self, calls: int) -> None:
        """Start with `calls` live calls, spread evenly: the state that a quiet hour leaves."""
        for number in range(calls):
            length_s = self.random.expovariate(1 / self.p.mean_call_s)
            call = Call(-number, self.now_s + length_s, story_phase_s=self.random.random() * self.p.story_s)
            self.counts.arrived += 1
            self.live += 1
            cell = self.cells[number % len(self.cells)]
            cell.calls.add(call)
            call.cell = cell
            self._open(call, cell, self.random.choice(self.edges))
            self.after(length_s, self._finish, call)

    def _finish(self, call: Call) -> None:
        if call.is_over:
            return
        if call.silent_since_s is not None:
            self.counts.left_between += 1
        else:
            self.counts.finished += 1
        self._end(call)

    def _end(self, call: Call) -> None:
        call.is_over = True
        self.live -= 1
        self._leave(call)

    def _leave(self, call: Call) -> None:
        """The call has no cell and no socket any more."""
        if call.cell is not None:
            call.cell.calls.discard(call)
            if call.edge is not None:
                call.edge.sockets[call.cell.number].pop(call, None)
        call.cell = call.edge = None

    # --- HAProxy ---

    def _webhook(
        self, call: Call, edge: Edge, refusing: Cell | None, tries: int, belongs_to: Cell | None = None
    ) -> None:
        """One attempt of HAProxy; `belongs_to` is the cell that the redirect names."""
        if call.is_over:
            return
        cell = belongs_to
        if cell is None or not edge.is_up[cell.number]:
            cell = edge.choose(refusing)
        if cell is None:
            self._refuse(call)
        elif not cell.is_alive:
            # This HAProxy has not noticed yet.
            self._again(call, edge, cell, tries, 0.0 if cell.has_power else self.p.connect_s)
        elif not cell.takes():
            self._again(call, edge, cell, tries, 0.0)
        else:
            cell.calls.add(call)
            cell.taken[int(self.now_s)] += 1
            call.cell = cell
            self._dial(call, cell, self.now_s, 0)
            self.after(self.p.socket_after_s, self._open, call, cell, self.random.choice(self.edges))

    def _again(self, call: Call, edge: Edge, cell: Cell, tries: int, wait_s: float) -> None:
        if tries >= self.p.retries:
            self._refuse(call)
            return
        self.counts.retried += 1
        if wait_s:
            self.after(wait_s, self._webhook, call, edge, cell, tries + 1)
        else:
            self._webhook(call, edge, cell, tries + 1)

    def _refuse(self, call: Call) -> None:
        self.counts.refused += 1
        self.counts.refused_with_room += any(cell.takes() for cell in self.cells)
        self._end(call)

    def _open(self, call: Call, cell: Cell, edge: Edge) -> None:
        """The media socket, through whichever HAProxy; it goes to its cell, though that one drains."""
        if call.is_over or call.cell is not cell:
            return
        call.edge = edge
        edge.sockets[cell.number][call] = None
        if not cell.is_alive and not edge.is_up[cell.number]:
            self._cut(call)

    def _ask_agents(self, edge: Edge) -> Steps:
        """Once a second, all cells at the same instant; each HAProxy at another one."""
        yield self.env.timeout(self.random.random() * self.p.agent_s)
        while True:
            for cell in self.cells:
                # A dead agent does not answer, and HAProxy keeps what it was told.
                if cell.is_alive:
                    edge.weights[cell.number] = cell.told(self.now_s, has_ramp=self._has_ramp)
            yield self.env.timeout(self.p.agent_s)

    def _noticed(self, edge: Edge, cell: Cell) -> None:
        if cell.is_alive:
            return
        edge.is_up[cell.number] = False
        for call in list(edge.sockets[cell.number]):
            self._cut(call)

    # --- the model ---

    def _dial(self, call: Call, cell: Cell, begun_s: float, tries: int) -> None:
        """Dialled at the webhook, again after a refusal, until MODEL_RECONNECT_SECONDS have passed."""
        if call.is_over or call.cell is not cell:
            return
        if self.provider.accepts(self.now_s):
            ready_s = self.p.dial_s
            if call.silent_since_s is not None:
                self.after(
                    max(ready_s, begun_s + self.p.socket_after_s - self.now_s) + self.p.answer_s, self._goes_on, call
                )
            return
        if self.now_s - begun_s >= self.p.reconnect_s:
            self.counts.no_model += 1
            self._end(call)
            return
        self.counts.late_greetings += call.silent_since_s is None and not tries
        pause_s = BACK_OFF[min(tries, len(BACK_OFF) - 1)] * self.random.uniform(0.75, 1.25)
        self.after(pause_s, self._dial, call, cell, begun_s, tries + 1)

    def _goes_on(self, call: Call) -> None:
        if call.is_over or call.silent_since_s is None or call.cell is None:
            return
        self.counts.silences.append(self.now_s - call.silent_since_s)
        call.silent_since_s = None

    # --- cells come and go ---

    def kill(self, cells: Iterable[Cell]) -> None:
        """Their power is gone: no packet more. Every HAProxy notices by its own checks."""
        for cell in cells:
            cell.is_alive = cell.has_power = False
            for call in cell.calls:
                call.silent_since_s = call.silent_since_s if call.silent_since_s is not None else self.now_s
            for edge in self.edges:
                noticed_s = self.random.random() * self.p.check_s + self.p.check_fall * self.p.check_s
                self.after(noticed_s, self._noticed, edge, cell)

    def _cut(self, call: Call) -> None:
        """The media socket is gone: Twilio follows the redirect, which names the cell."""
        if call.is_over or call.cell is None:
            return
        cell = call.cell
        died = not cell.is_alive
        written_s = self.now_s if not died else (call.silent_since_s or self.now_s)
        call.silent_since_s = self.now_s if call.silent_since_s is None else call.silent_since_s
        self._leave(call)
        back_s = self.random.uniform(self.p.redirect_least_s, self.p.redirect_most_s)
        self.after(back_s, self._come_back, call, cell, written_s - call.story_phase_s * died)

    def _come_back(self, call: Call, cell: Cell, story_s: float) -> None:
        if call.is_over:
            return
        self.counts.handed_over += 1
        self.counts.without_story += not self._has_story(story_s)
        self._webhook(call, self.random.choice(self.edges), None, 0, cell)

    def drain(self, cells: list[Cell]) -> Steps:
        """No new calls; what is left at the end of the time goes to other cells. Then the cells start again."""
        for cell in cells:
            cell.is_draining = True
        ends_s = self.now_s + self.p.drain_s
        while self.now_s < ends_s and any(cell.calls for cell in cells):
            yield self.env.timeout(1.0)
        while any(cell.calls for cell in cells):
            for cell in cells:
                # A call between webhook and media socket is left until its socket is there.
                call = next((each for each in sorted(cell.calls, key=lambda one: one.number) if each.edge), None)
                if call is not None:
                    self._cut(call)
            yield self.env.timeout(1 / self.p.handed_over_per_s)
        for cell in cells:
            cell.is_alive = False
        yield self.env.timeout(self.p.start_s)
        self.start(cells)

    def empty(self, cell: Cell) -> None:
        """Take a cell out with its calls, as if it and they had never been."""
        cell.is_alive = False
        for edge in self.edges:
            edge.is_up[cell.number] = False
        for call in list(cell.calls):
            self.counts.finished += 1
            self._end(call)

    def start(self, cells: Iterable[Cell]) -> None:
        for cell in cells:
            cell.is_alive = cell.has_power = True
            cell.is_draining, cell.began_s = False, self.now_s
            for edge in self.edges:
                edge.is_up[cell.number] = True
                edge.weights[cell.number] = cell.told(self.now_s, has_ramp=self._has_ramp)

    # --- the store ---

    def store_gone(self, for_s: float) -> None:
        """The store stops now, and comes back empty."""
        self._store_gone.append((self.now_s, self.now_s + for_s))

    def _has_story(self, written_s: float) -> bool:
        """Whether a story of that moment can be read now. At its return, the store is told every story again."""
        now = self.now_s
        return not any(start <= now < end or written_s < end <= now for start, end in self._store_gone)
