"""Every call of a tool: its state, its deadline, the limits of its tool, and that it is carried out once.

A call is asked for by a worker and named by `(call_sid, call_id)`. Asking again, by the same worker or by the one that
took over the phone call, changes nothing but who gets the answer. Every request is answered: by the tool, or at the
tool's deadline without it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from shared.messages import CallTool, ToolAnswered, ToolSpec

from . import answers
from .answers import Answers, Key, cut
from .commands import CallCommand, Enqueue, Note, Reply, Withdraw

# Calls of one tool that wait for room. More are answered as busy at once.
WAITING_MAX: Final = 100
# Calls of tools that run or wait for one phone call. A model makes a few at the same time.
PER_CALLER_MAX: Final = 16


class State(Enum):
    # For room at the tool, or in its pool. Nothing was carried out.
    WAITING = auto()
    RUNNING = auto()
    # Answered, and still running: it takes a place of its tool until the pool is rid of it.
    STOPPING = auto()
    OVER = auto()


class Event(Enum):
    BEGAN = auto()
    ENDED = auto()
    # The process that ran it is gone, or none can be had.
    LOST = auto()
    DEADLINE = auto()
    CANCELLED = auto()


class Row(NamedTuple):
    """`outcome`: answer so; "own": as the tool did; "": no answer. `withdraws`: tell the pool."""

    state: State
    outcome: str = ""
    withdraws: bool = False


TABLE: Final = {
    (State.WAITING, Event.BEGAN): Row(State.RUNNING),
    (State.WAITING, Event.LOST): Row(State.OVER, "unavailable"),
    (State.WAITING, Event.DEADLINE): Row(State.OVER, "busy", withdraws=True),
    (State.WAITING, Event.CANCELLED): Row(State.OVER, "cancelled", withdraws=True),
    (State.RUNNING, Event.ENDED): Row(State.OVER, "own"),
    (State.RUNNING, Event.LOST): Row(State.OVER, "crashed"),
    (State.RUNNING, Event.DEADLINE): Row(State.STOPPING, "timeout", withdraws=True),
    (State.RUNNING, Event.CANCELLED): Row(State.STOPPING, "cancelled", withdraws=True),
    (State.STOPPING, Event.ENDED): Row(State.OVER),
    (State.STOPPING, Event.LOST): Row(State.OVER),
}


@dataclass(frozen=True)
class Tool:
    """A tool of an agent: what the model knows of it, where it runs, and its limits."""

    spec: ToolSpec
    pool: str
    # Its name within the pool.
    inner: str
    concurrency: int = 8
    # Whether it is stopped when the caller hangs up.
    cancellable: bool = True


@dataclass
class _Call:
    number: int
    key: Key
    ask: CallTool
    tool: Tool
    asker: str
    asked_ns: int
    due_ns: int
    state: State = State.WAITING
    is_enqueued: bool = False


class Calls:
    """Every method returns what is to be done. Times are ns, monotonic."""

    def __init__(self, memory: Answers | None = None) -> None:
        self._memory = memory or Answers()
        self._next = 1
        self._calls: dict[int, _Call] = {}
        self._by_key: dict[Key, int] = {}
        # By tool (pool and inner name): calls with a place, and those that wait for one.
        self._places: Counter[tuple[str, str]] = Counter()
        self._waiting: dict[tuple[str, str], deque[int]] = {}

    @property
    def live(self) -> int:
        """Calls that wait, run, or are being stopped."""
        return len(self._calls)

    def due_ns(self) -> int | None:
        return min((call.due_ns for call in self._calls.values() if call.state is not State.STOPPING), default=None)

    def ask(
        self,
        asker: str,
        ask: CallTool,
        tool: Tool | None,
        now_ns: int,
        *,
        refusal: tuple[str, str] = ("refused", answers.NO_SUCH_TOOL),
    ) -> list[CallCommand]:
        """`tool` None: answer a new call with `refusal`, its outcome and its text."""
        key = (ask.call_sid, ask.call_id)
        answered = self._memory.find(key)
        if answered is not None:
            return [Reply(asker, answered)]
        if key in self._by_key:
            self._calls[self._by_key[key]].asker = asker
            return []
        if tool is None:
            return self._refuse(asker, ask, *refusal)
        if sum(call_sid == ask.call_sid for call_sid, _ in self._by_key) >= PER_CALLER_MAX:
            return self._refuse(asker, ask, "busy", answers.TOO_MANY)
        at = (tool.pool, tool.inner)
        waiting = self._waiting.setdefault(at, deque())
        if len(waiting) >= WAITING_MAX:
            return self._refuse(asker, ask, "busy", answers.TEXTS["busy"])
        number, self._next = self._next, self._next + 1
        due_ns = now_ns + tool.spec.deadline_ms * 1_000_000
        self._calls[number] = _Call(number, key, ask, tool, asker, now_ns, due_ns)
        self._by_key[key] = number
        waiting.append(number)
        return self._fill(at)

    def cancel(self, call_sid: str, call_id: str, now_ns: int, *, hung_up: bool = False) -> list[CallCommand]:
        """`call_id` "": every call of a tool of this phone call."""
        return self._step_all(
            (
                call
                for call in self._calls.values()
                if call.key[0] == call_sid
                and call_id in ("", call.key[1])
                and (call.tool.cancellable or not hung_up or call.state is State.WAITING)
            ),
            Event.CANCELLED,
            now_ns,
        )

    def cancel_all(self, now_ns: int) -> list[CallCommand]:
        return self._step_all(self._calls.values(), Event.CANCELLED, now_ns)

    def began(self, number: int, now_ns: int) -> list[CallCommand]:
        """A process has the call from now on."""
        return self._step(number, Event.BEGAN, now_ns)

    def ended(self, number: int, outcome: str, output: str, now_ns: int) -> list[CallCommand]:
        """The tool answered: "done", "failed" or "refused"."""
        return self._step(number, Event.ENDED, now_ns, outcome, output)

    def lost(self, number: int, now_ns: int) -> list[CallCommand]:
        return self._step(number, Event.LOST, now_ns)

    def tick(self, now_ns: int) -> list[CallCommand]:
        late = (c for c in self._calls.values() if c.due_ns <= now_ns and c.state is not State.STOPPING)
        return self._step_all(late, Event.DEADLINE, now_ns)

    def _step_all(self, calls: Iterable[_Call], event: Event, now_ns: int) -> list[CallCommand]:
        numbers = [call.number for call in calls]
        return [command for number in numbers for command in self._step(number, event, now_ns)]

    def _step(self, number: int, event: Event, now_ns: int, own: str = "", output: str = "") -> list[CallCommand]:
        call = self._calls.get(number)
        row = TABLE.get((call.state, event)) if call is not None else None
        if call is None or row is None:
            return []
        was, call.state = call.state, row.state
        commands: list[CallCommand] = []
        if row.outcome:
            commands += self._answer(call, was, own if row.outcome == "own" else row.outcome, output, now_ns)
        if row.withdraws and call.is_enqueued:
            commands.append(Withdraw(number, call.tool.pool))
        if row.state is State.OVER:
            commands += self._forget(call)
        return commands

    def _answer(self, call: _Call, was: State, outcome: str, output: str, now_ns: int) -> list[CallCommand]:
        if outcome == "cancelled" and was is State.WAITING:
            output = answers.CANCELLED_UNBEGUN
        elif not output:
            texts = answers.TEXTS if call.tool.spec.side_effect else answers.TEXTS | answers.HARMLESS_TEXTS
            output = texts.get(outcome, "")
        took_ns = now_ns - call.asked_ns
        answer = ToolAnswered(*call.key, outcome, cut(output), took_ns // 1_000_000)
        self._memory.keep(answer)
        return [
            Reply(call.asker, answer),
            Note(call.tool.spec.name, call.key[0], outcome, took_ns / 1e9),
        ]

    def _refuse(self, asker: str, ask: CallTool, outcome: str, output: str) -> list[CallCommand]:
        """Answer a call that was never accepted. Nothing is remembered: asked again, it may find room."""
        return [
            Reply(asker, ToolAnswered(ask.call_sid, ask.call_id, outcome, output)),
            Note("", ask.call_sid, outcome, 0.0),
        ]

    def _forget(self, call: _Call) -> list[CallCommand]:
        del self._calls[call.number]
        del self._by_key[call.key]
        at = (call.tool.pool, call.tool.inner)
        if not call.is_enqueued:
            self._waiting[at].remove(call.number)
            return []
        self._places[at] -= 1
        return self._fill(at)

    def _fill(self, at: tuple[str, str]) -> list[CallCommand]:
        """Give the places of a tool to the calls that wait for it, in order."""
        commands: list[CallCommand] = []
        waiting = self._waiting[at]
        while waiting and self._places[at] < self._calls[waiting[0]].tool.concurrency:
            call = self._calls[waiting.popleft()]
            call.is_enqueued = True
            self._places[at] += 1
            commands.append(Enqueue(call.number, call.tool.pool, call.tool.inner, call.ask))
        if not waiting and not self._places[at]:
            del self._waiting[at], self._places[at]
        return commands
