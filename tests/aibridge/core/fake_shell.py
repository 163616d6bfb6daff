"""The process around a worker's calls, as a test sees it: what they send is kept, and the clock moves by hand."""

from __future__ import annotations

import logging
import random
from typing import Any

from aibridge.core.agent import Agent
from aibridge.core.call import Call
from aibridge.core.call_config import OnAnswer
from aibridge.core.commands import CallTool, CancelTool
from aibridge.core.conversation import Conversation
from aibridge.core.handover_silence import FORMER
from aibridge.core.metrics import ConversationMetrics
from aibridge.core.reporter import Reporter
from aibridge.core.rules import Rules, Script
from aibridge.core.shell import Timed
from aibridge.core.tools import ToolRule
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import Ask, Model, ModelCommand, Numbers, Receiver, SessionReady, Tell, Untell
from shared.facts import Fact
from shared.messages import Message
from shared.metrics import Histogram, Page
from shared.plan import CallPlan

MS = 1_000_000
T0 = 1_000_000 * MS
PLAN = CallPlan(from_number="+15005550006", to_number="+15005550001")


class FakeModel:
    """A session that is ready and accepts everything."""

    ready = SessionReady("the-model")

    def __init__(self, agent: Agent = Agent(instructions="x")) -> None:  # noqa: B008  # it never changes
        self.agent = agent
        # The words that it was told and that were not taken back, by number.
        self.told: dict[int, str] = {}
        self.asked: list[Ask] = []
        self.is_closed = False

    def tell(self, command: ModelCommand) -> None:
        if isinstance(command, Tell):
            self.told[command.number] = command.text
        elif isinstance(command, Untell):
            del self.told[command.number]
        elif isinstance(command, Ask):
            self.asked.append(command)

    def hear(self, audio: bytes) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


class Observed(Histogram):
    """Keeps what is observed, in ms."""

    def __init__(self) -> None:
        self.ms: list[int] = []

    def observe(self, value: float, times: int = 1) -> None:
        self.ms += [round(value * 1_000)] * times


class FakeShell:
    """`said` holds the messages to txpacer, `told` those to each gateway."""

    log = logging.getLogger("aibridge")

    def __init__(self) -> None:
        self.now_ns = T0
        self.said: list[Any] = []
        self.told: list[tuple[str, Any]] = []
        self.noted: list[Any] = []
        self.models: list[FakeModel] = []
        self.rules = {"look": ToolRule(1_000 * MS)}
        # What toolbox is asked for.
        self.called: list[tuple[str, CallTool | CancelTool]] = []
        # What CALL_CONFIG_URL was asked, and what gets the answer.
        self.questions: list[tuple[dict[str, Any], OnAnswer]] = []
        self.receivers: list[Receiver] = []
        # The silences of hand-overs, by what had the call before.
        self.silences = {former: Observed() for former in FORMER}

    def unix_ms(self, at_ns: int) -> int:
        return at_ns // MS

    def to_pacer(self, message: Message) -> None:
        self.said.append(message)

    def to_gateway(self, gateway: str, message: Message) -> None:
        self.told.append((gateway, message))

    def tell_state(self, gateway: str) -> None:
        pass

    def note(self, fact: Fact) -> None:
        self.noted.append(fact)

    def dial(self, call_sid: str, agent: Agent, numbers: Numbers, receiver: Receiver) -> FakeModel:
        self.models.append(FakeModel(agent))
        self.receivers.append(receiver)
        return self.models[-1]

    def tools(self, agent: Agent) -> dict[str, ToolRule]:
        return self.rules

    toolbox_epoch = 7

    def call_tool(self, call_sid: str, agent: str, plan: CallPlan, command: CallTool) -> None:
        self.called.append((call_sid, command))

    def cancel_tool(self, call_sid: str, tool_call: int) -> None:
        self.called.append((call_sid, CancelTool(tool_call)))

    def cancel_tools(self, call_sid: str) -> None:
        self.called.append((call_sid, CancelTool(0)))

    def reconfigure(self, session: Model, agent: Agent) -> None:
        assert isinstance(session, FakeModel)
        session.agent = agent

    def ask_config(self, call_sid: str, question: dict[str, Any], then: OnAnswer) -> None:
        self.questions.append((question, then))

    def plan(self, call: Timed) -> None:
        pass

    def ended(self, call: int) -> None:
        pass

    def of(self, kind: type[Any], gateway: str = "") -> list[Any]:
        """The messages of a kind to the gateways, or to one of them."""
        return [message for name, message in self.told if isinstance(message, kind) and gateway in ("", name)]


def make_call(shell: FakeShell, *, call: int = 1, rules: Rules | None = None) -> Call:
    """A call of the gateway "gw", which has not begun."""
    metrics = ConversationMetrics(Page.in_memory(DEFINITIONS))
    metrics.handover_silence.update(shell.silences)
    conversation = Conversation(
        script=Script(),
        rules=rules or Rules(),
        metrics=metrics,
        rng=random.Random(1),
        plan=PLAN,
        tools=shell.rules,
    )
    reporter = Reporter(
        shell,
        call=call,
        call_sid="CA1",
        stream_sid="MZ1",
        agent="sales",
        model="m",
        record=True,
        resumed=False,
        history=conversation.history,
    )
    agent = Agent(instructions="x")
    return Call(
        shell, call=call, call_sid="CA1", gateway="gw", agent=agent, conversation=conversation, reporter=reporter
    )
