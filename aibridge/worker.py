"""One aibridge worker: its sockets, its calls, and the sessions dialled ahead for offered calls."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any, Final

import zmq

from shared import bus, liveness
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
from shared.settings import Settings

from .agents import rules_of
from .call_config import CallConfig
from .core.agent import Agent, Agents
from .core.call_config import CallConfigError, OnAnswer
from .core.calls import Calls, Setup
from .core.shell import Timed
from .models.port import Model, Numbers, Receiver
from .models.realtime.session import Session
from .models.realtime.session_config import phrases, session_config
from .models.realtime.sessions import Sessions
from .speech_link import SpeechLink

log = logging.getLogger("aibridge")

# How often callbook is told what happened in the calls.
REPORT_S: Final = 1.0


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
    ) -> None:
        self._name = f"aibridge-{number}"
        self._sessions = sessions
        setup = Setup(
            number=number,
            rules_of=lambda own: rules_of(own, settings),
            abilities=sessions.abilities,
            recording=settings.recording,
            fallback_ends_call=not settings.fallback_dial,
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

    async def run(self, stop: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._gateway_link.start()
        self._pacer_link.start()
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

    async def _hello(self) -> None:
        while True:
            self._pacer_link.hello(self._name)
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
        state = self._calls.state(gateway, is_ready=self._sessions.is_ready, epoch=epoch)
        self._gateway_link.hello(gateway, (state,))

    def note(self, fact: Fact) -> None:
        self._courier.note(fact)

    def dial(self, call_sid: str, agent: Agent, numbers: Numbers, receiver: Receiver) -> Session:
        return self._sessions.dial(call_sid, agent, numbers, receiver)

    def reconfigure(self, session: Model, agent: Agent) -> None:
        assert isinstance(session, Session)
        session.configure(session_config(agent, agent.model), phrases(agent))

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
