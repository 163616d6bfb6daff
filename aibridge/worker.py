"""One aibridge worker: its sockets, its calls, and the sessions dialled ahead for offered calls."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any, Final

import msgspec
import zmq

from shared import bus, liveness, messages
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.clock import unix_ms
from shared.courier import Courier
from shared.facts import Fact
from shared.isolation import QuietCollector
from shared.messages import (
    GatewayToBridge,
    Message,
    PacerToBridge,
)
from shared.metrics import Page
from shared.plan import CallPlan
from shared.settings import Settings

from .agents import rules_of
from .call_config import CallConfig
from .core.agent import Agent, Agents
from .core.call_config import CallConfigError, OnAnswer
from .core.calls import Calls, Setup
from .core.commands import CallTool
from .core.near_ear.detection import Detectors
from .core.shell import Timed
from .core.tools import ToolRule
from .models.port import Model, Numbers, Receiver
from .models.realtime.session import Session
from .models.realtime.session_config import function, model_servers, phrases, session_config
from .models.realtime.sessions import Sessions
from .speech_link import SpeechLink
from .tools_link import ToolsLink

log = logging.getLogger("aibridge")

# How often callbook is told what happened in the calls.
REPORT_S: Final = 1.0
# toolbox imports the tools while aibridge asks the model. When toolbox does not come, calls begin after this, without.
TOOLS_S: Final = 10.0


class Worker:
    """`run` returns when `stop` is set. Raises ConfigError when the model refuses key or model name at the start."""

    def __init__(
        self,
        settings: Settings,
        *,
        number: int,
        agents: Agents,
        sessions: Sessions,
        page: Page,
        context: zmq.Context[Any],
        detectors: Detectors | None = None,
    ) -> None:
        self._name = f"aibridge-{number}"
        self._began = time.monotonic()
        self._sessions = sessions
        setup = Setup(
            number=number,
            rules_of=lambda agent: rules_of(agent, settings),
            abilities=sessions.abilities,
            recording=settings.recording,
            fallback_ends_call=not settings.fallback_dial,
            detectors=detectors,
        )
        self._calls = Calls(self, setup, agents, page, random.Random())
        self._config = CallConfig(settings) if settings.call_config_url else None
        # Questions to CALL_CONFIG_URL that are not answered.
        self._questions: set[asyncio.Task[None]] = set()
        # Asks the models of agents that are new.
        self._asking: asyncio.Task[None] | None = None
        self._due: dict[Timed, asyncio.TimerHandle] = {}
        dropped, undecodable = page.counter("bridge_dropped"), page.counter("bridge_undecodable")
        self._courier = Courier(context, bus.callbook_url(settings.bus), name=self._name, page=page)
        # Bounds and overflow: see shared/bus.py. Messages that txpacer does not accept wait here.
        self._collector = QuietCollector()
        self._gateway_link = ChannelLink(
            bus.router(context, bus.calls_url(settings.bus, number), hwm=bus.CALLER_HWM),
            types=GatewayToBridge,
            make=lambda: Channel(bus.draw_epoch(), max_weight=bus.CONTROL_HWM),
            on_message=self._calls.from_gateway,
            refused=dropped,
            lost=dropped,
            undecodable=undecodable,
            gather=sessions.gather,
            # A live gateway says hello, and then accepts the messages that it refused before.
            retry_s=1.0,
        )
        self._pacer_link = SpeechLink(
            ChannelLink(
                bus.dealer(context, bus.speech_url(settings.bus), name=self._name, hwm=bus.SPEECH_HWM),
                types=PacerToBridge,
                make=lambda: Channel(bus.draw_epoch(), max_weight=bus.SPEECH_KEEP_BYTES),
                on_message=lambda _, message: self._calls.from_pacer(message),
                refused=dropped,
                lost=dropped,
                undecodable=undecodable,
                gather=sessions.gather,
            ),
            page.gauge("bridge_speech_kept_bytes"),
        )
        self._tools_link = ToolsLink(
            context,
            bus.toolbox_url(settings.bus),
            name=self._name,
            on_answer=self._tool_answered,
            on_tools=lambda _: self._functions.clear(),
            dropped=dropped,
            undecodable=undecodable,
        )
        # The tools of each agent as its sessions have them.
        self._functions: dict[str, list[dict[str, Any]]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._gateway_link.start()
        self._pacer_link.start()
        self._tools_link.start()
        self._courier.start()
        loops = (self._hello(), self._report(), self._probe())
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(loop) for loop in loops]
        stopping = asyncio.create_task(stop.wait())
        try:
            # A failure of any part ends the process, and so does `stop`.
            while not stop.is_set() and not any(task.done() and task.exception() for task in tasks):
                running = [task for task in (*tasks, stopping) if not task.done()]
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            # New calls go to other workers from now on. The stories let other workers take over the live calls.
            self._sessions.is_ready = False
            self._tell_states()
            self._calls.tell_all_stories()
            for task in tasks:
                task.cancel()
            stopping.cancel()
            await asyncio.gather(*tasks, stopping, self._sessions.close(), return_exceptions=True)
            self._calls.stopped()
            left = await self._courier.delivered(liveness.LAST_FACTS_S)
            if left:
                log.warning("callbook did not take the last %d facts about calls; they are lost", left)
            self._courier.close()
            for question in self._questions:
                question.cancel()
            if self._config is not None:
                await self._config.close()
            for timer in self._due.values():
                timer.cancel()
            self._gateway_link.close()
            self._pacer_link.close()
            self._tools_link.close()

    async def _hello(self) -> None:
        while True:
            self._pacer_link.hello(self._name)
            if self._agents_with_tools():
                self._tools_link.hello()
            self._calls.tell_stories()
            await asyncio.sleep(liveness.HELLO_S)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            for gateway in self._calls.sweep():
                self._gateway_link.forget(gateway)
            if not self._calls.by_number:
                self._collector.quiet()

    async def _probe(self) -> None:
        await self._sessions.probe()
        self._tell_states()
        await self._sessions.probe_others()

    def use(self, agents: Agents) -> None:
        """Let these agents answer new calls. A live call keeps its own."""
        known = {agent.version for agent in self._calls.agents.by_name.values()}
        self._calls.agents = agents
        self._sessions.use(agents)
        self._functions.clear()
        self._asking = asyncio.create_task(self._sessions.probe_others(known))

    def _tell_states(self) -> None:
        for gateway in self._calls.gateways:
            self.tell_state(gateway)

    # --- what the calls need: see core/shell.py ---

    @property
    def now_ns(self) -> int:
        return time.monotonic_ns()

    @property
    def log(self) -> logging.Logger:
        return log

    def unix_ms(self, at_ns: int) -> int:
        return unix_ms(at_ns)

    def to_pacer(self, message: Message) -> None:
        self._pacer_link.say(message)

    def to_gateway(self, gateway: str, message: Message) -> None:
        self._gateway_link.post((message,), gateway)

    def tell_state(self, gateway: str) -> None:
        epoch = self._gateway_link.channel(gateway).epoch
        is_ready = self._sessions.is_ready and self._knows_tools()
        state = self._calls.state(gateway, is_ready=is_ready, epoch=epoch)
        self._gateway_link.hello(gateway, (state,))

    def note(self, fact: Fact) -> None:
        self._courier.note(fact)

    def dial(self, call_sid: str, agent: Agent, numbers: Numbers, receiver: Receiver) -> Session:
        return self._sessions.dial(call_sid, agent, self._functions_of(agent), numbers, receiver)

    def _agents_with_tools(self) -> list[str]:
        agents = self._calls.agents
        return [agent.name for agent in (agents.default, *agents.by_name.values()) if agent.has_tools]

    def _knows_tools(self) -> bool:
        """Whether sessions get their tools: toolbox has told all of them, or does not tell them in time."""
        if time.monotonic() > self._began + TOOLS_S:
            return True
        return all(self._tools_link.tools(name) for name in self._agents_with_tools())

    def _functions_of(self, agent: Agent) -> list[dict[str, Any]]:
        functions = self._functions.get(agent.name)
        if functions is None:
            functions = self._functions[agent.name] = [
                function(tool.name, tool.description, msgspec.json.decode(tool.parameters))
                for tool in self._tools_link.tools(agent.name)
            ]
        return [*functions, *model_servers(agent, self._calls.agents.keys)]

    def tools(self, agent: Agent) -> dict[str, ToolRule]:
        filler_ns = int(agent.filler_after_s * 1e9)
        return {
            tool.name: ToolRule(tool.deadline_ms * 1_000_000, tool.on_interruption == "cancel", filler_ns)
            for tool in self._tools_link.tools(agent.name)
        }

    @property
    def toolbox_epoch(self) -> int:
        return self._tools_link.epoch

    def call_tool(self, call_sid: str, agent: str, plan: CallPlan, command: CallTool) -> None:
        number, name, arguments = str(command.tool_call), command.name, command.arguments
        self._tools_link.call(
            messages.CallTool(call_sid, number, agent, name, arguments, plan, command.asked_of, command.digits)
        )

    def cancel_tool(self, call_sid: str, tool_call: int) -> None:
        self._tools_link.cancel(call_sid, str(tool_call))

    def cancel_tools(self, call_sid: str) -> None:
        self._tools_link.cancel(call_sid, hung_up=True)

    def _tool_answered(self, answer: messages.ToolAnswered) -> None:
        # The link answers at once when toolbox is away, and the conversation is in the middle of an event then.
        self._loop.call_soon(
            self._calls.tool_answered, answer.call_sid, int(answer.call_id), answer.output, answer.outcome
        )

    def reconfigure(self, session: Model, agent: Agent) -> None:
        assert isinstance(session, Session)
        session.configure(session_config(agent, agent.model, self._functions_of(agent)), phrases(agent))

    def ask_config(self, call_sid: str, question: dict[str, Any], then: OnAnswer) -> None:
        async def ask() -> None:
            try:
                if self._config is None:
                    raise CallConfigError("unreachable", "aibridge was started without it")
                answer: bytes | CallConfigError = await self._config.ask(call_sid, question)
            except CallConfigError as exc:
                answer = exc
            then(answer)

        task = asyncio.create_task(ask())
        self._questions.add(task)
        task.add_done_callback(self._questions.discard)

    def plan(self, call: Timed) -> None:
        timer = self._due.pop(call, None)
        if timer is not None:
            timer.cancel()
        if call.due_ns is not None:
            # uvloop's clock has steps of 1 ms: round up, never early.
            delay = max(0.0, (call.due_ns - time.monotonic_ns()) / 1e9) + 0.001
            self._due[call] = self._loop.call_later(delay, self._advance, call)

    def _advance(self, call: Timed) -> None:
        del self._due[call]
        call.advance()

    def ended(self, call: int) -> None:
        self._pacer_link.forget(call)
        self._collector.ended()
