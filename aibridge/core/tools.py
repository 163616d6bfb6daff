"""The tools that the model calls: who still works, what the model is told, and when it speaks about the answers.

Each call of a tool is a chart of its own (TOOL_TABLE). toolbox carries it out and answers; a deadline here answers when
toolbox does not. The model gets exactly one answer to each call, as the answer to that call or, when its session is
gone, as words of the next one.

The model speaks about the answers once: when every tool that one response called is answered (REPLY_TABLE). A response
that began before the last answer cannot know it, so the reply waits for the end of that response. A caller who speaks
gets an answer anyway, and that answer knows all that was told before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from shared.metrics import Counter

from .chart import Chart, Table, becomes, stays
from .story import Said

# toolbox answers in time by itself, also about a tool that hangs. This much later, toolbox is the one that hangs.
TOOLBOX_LATE_NS: Final = 1_000_000_000
# Answered calls that stay known, so that a second answer is recognised.
KEEP_CALLS: Final = 32


class Tool(Enum):
    """One call of a tool."""

    RUNNING = auto()  # the model waits for the answer
    ORPHANED = auto()  # it runs, and the session that called it is gone
    OVER = auto()  # the model has its answer, or gets it with the next session's history


class ToolEvent(Enum):
    ANSWERED = auto()
    OVERDUE = auto()  # toolbox has not answered in time
    CALLED_OFF = auto()  # the caller speaks, and the tool is one that ends then
    LOST = auto()  # the session is gone


class ToolAct(Enum):
    CANCEL = auto()  # toolbox need not go on
    ANSWER = auto()  # answer the call
    TELL = auto()  # tell the answer as words: this session did not make the call


TOOL_TABLE: Final[Table[Tool, ToolEvent, ToolAct]] = {
    (Tool.RUNNING, ToolEvent.ANSWERED): (Tool.OVER, (ToolAct.ANSWER,)),
    (Tool.RUNNING, ToolEvent.OVERDUE): (Tool.OVER, (ToolAct.CANCEL, ToolAct.ANSWER)),
    (Tool.RUNNING, ToolEvent.CALLED_OFF): (Tool.OVER, (ToolAct.CANCEL, ToolAct.ANSWER)),
    (Tool.RUNNING, ToolEvent.LOST): (Tool.ORPHANED, ()),
    (Tool.ORPHANED, ToolEvent.ANSWERED): (Tool.OVER, (ToolAct.TELL,)),
    (Tool.ORPHANED, ToolEvent.OVERDUE): (Tool.OVER, (ToolAct.CANCEL, ToolAct.TELL)),
    (Tool.ORPHANED, ToolEvent.CALLED_OFF): (Tool.OVER, (ToolAct.CANCEL, ToolAct.TELL)),
    **stays((Tool.ORPHANED, Tool.OVER), ToolEvent.LOST),
    # It crossed the cancellation, or the deadline.
    **stays((Tool.OVER,), ToolEvent.ANSWERED, ToolEvent.OVERDUE, ToolEvent.CALLED_OFF),
}


class Reply(Enum):
    """The response in which the model speaks about the answers of its tools, or about the caller's keys."""

    NONE = auto()
    WAITS = auto()  # the response that is made or expected cannot know the answers: another one follows it


class ReplyEvent(Enum):
    ANSWERED = auto()  # all tools of a response, or keys were entered, while the model is free
    ANSWERED_DURING_RESPONSE = auto()
    ANSWERED_DURING_SPEECH = auto()  # the caller's
    ASKED = auto()  # a response is requested that knows the answers
    CALLER_SPEAKS = auto()
    RESPONSE_ENDED = auto()
    LOST = auto()  # the session is gone


class ReplyAct(Enum):
    OWE = auto()


REPLY_TABLE: Final[Table[Reply, ReplyEvent, ReplyAct]] = {
    (Reply.NONE, ReplyEvent.ANSWERED): (Reply.NONE, (ReplyAct.OWE,)),
    **becomes(Reply, ReplyEvent.ANSWERED_DURING_RESPONSE, Reply.WAITS),
    (Reply.WAITS, ReplyEvent.RESPONSE_ENDED): (Reply.NONE, (ReplyAct.OWE,)),
    (Reply.WAITS, ReplyEvent.LOST): (Reply.NONE, (ReplyAct.OWE,)),
    (Reply.WAITS, ReplyEvent.CALLER_SPEAKS): (Reply.NONE, ()),
    (Reply.WAITS, ReplyEvent.ASKED): (Reply.NONE, ()),
    (Reply.WAITS, ReplyEvent.ANSWERED): (Reply.NONE, (ReplyAct.OWE,)),
    **stays(Reply, ReplyEvent.ANSWERED_DURING_SPEECH),
    **stays((Reply.NONE,), ReplyEvent.ASKED, ReplyEvent.CALLER_SPEAKS, ReplyEvent.RESPONSE_ENDED, ReplyEvent.LOST),
}


@dataclass(frozen=True)
class ToolRule:
    """What the conversation has to know about a tool. Times in ns."""

    deadline_ns: int
    # The caller's speech ends it; otherwise it goes on.
    ends_at_speech: bool = False
    # The model says a filler sentence when it has waited this long in silence; 0: never.
    filler_after_ns: int = 0


@dataclass(slots=True, eq=False)
class ToolCall:
    """One call of a tool. `arguments` is JSON, `output` any text."""

    number: int
    # The response that called it; 0: of another session.
    response: int
    name: str
    arguments: str
    chart: Chart[Tool, ToolEvent, ToolAct]
    overdue_ns: int
    ends_at_speech: bool = False
    output: str = ""
    # One of TOOL_OUTCOMES; "": it runs.
    outcome: str = ""
    # The incarnation of toolbox that was asked; 0: none yet.
    asked_of: int = 0

    @property
    def is_at_model(self) -> bool:
        """Whether the model's own server carries it out: its name is SERVER.TOOL, and no function's has a dot."""
        return "." in self.name

    @property
    def is_running(self) -> bool:
        return self.chart.state is not Tool.OVER


class Tools:
    """The tool calls of one conversation."""

    def __init__(self, illegal: Counter) -> None:
        self.reply = Chart(REPLY_TABLE, Reply.NONE, illegal)
        self._illegal = illegal
        self._calls: dict[int, ToolCall] = {}
        # Answers that the model has not confirmed to have.
        self.unconfirmed: set[int] = set()

    def begin(
        self, number: int, name: str, arguments: str, rule: ToolRule, now_ns: int, *, response: int
    ) -> ToolCall | None:
        """The model calls a tool. None: this call is known already."""
        if number in self._calls:
            self._illegal.inc()
            return None
        state = Tool.RUNNING if response else Tool.ORPHANED
        call = ToolCall(
            number,
            response,
            name,
            arguments,
            Chart(TOOL_TABLE, state, self._illegal),
            now_ns + rule.deadline_ns + TOOLBOX_LATE_NS,
            rule.ends_at_speech,
        )
        self._calls[number] = call
        if len(self._calls) > KEEP_CALLS:
            over = next((each.number for each in self._calls.values() if not each.is_running), None)
            if over is not None:
                del self._calls[over]
        return call

    def recall(self, said: Said, now_ns: int, rule: ToolRule) -> ToolCall | None:
        """A call of the predecessor; without an answer it still runs."""
        call = self.begin(said.ref, said.name, said.arguments, rule, now_ns, response=0)
        if call is not None:
            call.asked_of = said.asked_of
            if said.ended_ms:
                call.output, call.outcome, call.chart.state = said.text, said.outcome, Tool.OVER
        return call

    @property
    def last(self) -> int:
        """The highest number of a call; 0: there was none."""
        return max(self._calls, default=0)

    def get(self, number: int) -> ToolCall | None:
        return self._calls.get(number)

    def running(self) -> Iterator[ToolCall]:
        return (call for call in self._calls.values() if call.is_running)

    def called_by(self, response: int) -> bool:
        """Whether this response called a tool."""
        return any(call.response == response for call in self._calls.values())

    def siblings_run(self, call: ToolCall) -> bool:
        """Whether another tool that the same response called still runs."""
        return any(each.response == call.response for each in self.running())

    def next_overdue_ns(self) -> int | None:
        return min((call.overdue_ns for call in self.running()), default=None)

    def overdue(self, now_ns: int) -> Iterable[ToolCall]:
        return [call for call in self.running() if call.overdue_ns <= now_ns]

    def lost(self) -> None:
        """The session is gone: the answers of what runs become words of the next one."""
        for call in self._calls.values():
            call.chart.step(ToolEvent.LOST)
            call.response = 0
        self.unconfirmed.clear()
