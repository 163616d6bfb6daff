"""An aibridge worker in virtual time: the real core, with sessions and timers like those of its shell."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aibridge.core.agent import Agent, Agents
from aibridge.core.call_config import OnAnswer
from aibridge.core.calls import Calls, Setup
from aibridge.core.commands import CallTool
from aibridge.core.conversation import Conversation
from aibridge.core.near_ear.detection import Detectors
from aibridge.core.rules import Rules
from aibridge.core.shell import Timed
from aibridge.core.tools import ToolRule
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import Model, Numbers, Receiver
from aibridge.models.realtime.translator import ABILITIES
from shared.facts import Fact
from shared.liveness import HELLO_S
from shared.messages import BridgeHello, CallStarted, EndCall, Message
from shared.metrics import Page
from shared.plan import CallPlan

from .clock import MS, Clock, Process
from .model import VirtualModel, VirtualSession
from .toolbox import VirtualToolbox

# To whom a virtual agent can hand off.
OFFICE: Final = Agent(instructions="You are the office.", voice="cedar", name="office")
LOG: Final = logging.getLogger("aibridge")


@dataclass
class Talk:
    """A conversation at its last worker, and that worker's metrics."""

    conversation: Conversation
    page: Page
    # The last EndCall of the conversation.
    end_call: EndCall | None = None


class VirtualWorker(Process):
    """`to_gateway` takes a gateway's name and a message, `to_pacer` a message. `talks` is told of each conversation."""

    log = LOG

    def __init__(
        self,
        clock: Clock,
        number: int,
        *,
        agent: Agent,
        rules: Rules,
        model: VirtualModel,
        to_gateway: Callable[[str, Message], None],
        to_pacer: Callable[[Message], None],
        talks: dict[str, Talk],
        toolbox: VirtualToolbox,
        detectors: Detectors | None,
        seed: int,
    ) -> None:
        super().__init__(clock)
        self.name = f"aibridge-{number}"
        self.page = Page.in_memory(DEFINITIONS)
        self.to_gateway = to_gateway
        self.to_pacer = to_pacer
        self._setup = Setup(number, lambda _: rules, ABILITIES, detectors=detectors)
        self._agents = Agents({OFFICE.name: OFFICE}, agent)
        self._model = model
        self._talks = talks
        self._toolbox = toolbox
        self._random = random.Random(seed)
        self._epoch = 0
        self.started()

    def started(self) -> None:
        self._epoch += 1
        self.calls = Calls(self, self._setup, self._agents, self.page, self._random)
        # The number of the last message that was read of each gateway.
        self.acknowledged: dict[str, int] = {}
        self.every(HELLO_S * 1_000, self._hello)
        self.every(1_000, self.calls.sweep)

    def died(self) -> None:
        self._model.worker_died(self)

    def _hello(self) -> None:
        self.to_pacer(BridgeHello(self.name))
        self.calls.tell_stories()

    def from_gateway(self, gateway: str, message: Message, number: int) -> None:
        self.acknowledged[gateway] = number
        self.calls.from_gateway(gateway, message)
        if isinstance(message, CallStarted) and (call := self.calls.by_number.get(message.call)):
            self._talks[call.call_sid] = Talk(call.conversation, self.page)

    def from_pacer(self, message: Message) -> None:
        self.calls.from_pacer(message)

    # --- what the calls need: see aibridge/core/shell.py ---

    def unix_ms(self, at_ns: int) -> int:
        return at_ns // MS

    def tell_state(self, gateway: str) -> None:
        self.to_gateway(gateway, self.calls.state(gateway, is_ready=True, epoch=self._epoch))

    def note(self, fact: Fact) -> None:
        pass

    def dial(self, call_sid: str, agent: Agent, numbers: Numbers, receiver: Receiver) -> VirtualSession:
        return self._model.dial(self, call_sid, agent, numbers, receiver)

    def tools(self, agent: Agent) -> dict[str, ToolRule]:
        return {name: tool.rule for name, tool in self._toolbox.tools.items()}

    toolbox_epoch = 1

    def call_tool(self, call_sid: str, agent: str, plan: CallPlan, command: CallTool) -> None:
        def answered(output: str) -> None:
            self.deliver(lambda: self.calls.tool_answered(call_sid, command.tool_call, output, "done"))

        self._toolbox.ask((call_sid, command.tool_call), command.name, command.arguments, command.digits, answered)

    def cancel_tool(self, call_sid: str, tool_call: int) -> None:
        self._toolbox.cancel((call_sid, tool_call))

    def cancel_tools(self, call_sid: str) -> None:
        pass

    def reconfigure(self, session: Model, agent: Agent) -> None:
        raise AssertionError("no virtual gateway asks CALL_CONFIG_URL")

    def ask_config(self, call_sid: str, question: dict[str, Any], then: OnAnswer) -> None:
        raise AssertionError("no virtual gateway asks CALL_CONFIG_URL")

    def plan(self, call: Timed) -> None:
        due_ns = call.due_ns
        if due_ns is not None:
            self.at(due_ns, lambda: self._advance(call, due_ns))

    def _advance(self, call: Timed, due_ns: int) -> None:
        if call.due_ns == due_ns:
            call.advance()

    def ended(self, call: int) -> None:
        pass
