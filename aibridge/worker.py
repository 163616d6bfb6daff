"""One aibridge worker: its sockets, its calls, and the sessions dialled ahead for offered calls."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import random
import time
from collections import OrderedDict
from typing import Any, Final

import zmq

from shared import bus, liveness
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.courier import Courier
from shared.isolation import QuietCollector
from shared.messages import (
    CallAdopted,
    CallEnded,
    CallerAudio,
    CallerDtmf,
    CallOffered,
    CallOver,
    CallStarted,
    CallTaken,
    CloseLine,
    EndCall,
    FirstFrameSent,
    FollowCall,
    GatewayHello,
    GatewayToBridge,
    LineLost,
    LineState,
    MarkHeard,
    Message,
    PacerState,
    PacerToBridge,
    PlayoutShifted,
    RefuseCall,
    WorkerState,
)
from shared.metrics import Page
from shared.plan import CallOrder
from shared.settings import Settings

from .agent import Agent
from .call import Call
from .core.conversation import Conversation
from .core.metrics import ConversationMetrics
from .core.rules import Rules
from .models.realtime.sessions import Sessions
from .reporter import Reporter
from .speech_link import SpeechLink

log = logging.getLogger("aibridge")

# The statechart of each kind of model.
STATECHARTS: Final = {"half_duplex": Conversation}
# Of this many hellos, one tells a call's story and forgets what the ear has passed: of a part of the calls each time.
CALLS_ROUND: Final = 10
# Stream tokens, and orders of calls that ended here, that stay known: minutes of a busy cell.
REMEMBERED_MAX: Final = 10_000
# How often callbook is told what happened in the calls.
REPORT_S: Final = 1.0


class Worker:
    """`run` returns when `stop` is set. Raises ConfigError when the model refuses key or model name at the start."""

    def __init__(
        self,
        settings: Settings,
        *,
        number: int,
        agent: Agent,
        sessions: Sessions,
        page: Page,
        context: zmq.Context[Any],
    ) -> None:
        self._settings = settings
        self._number = number
        self._name = f"aibridge-{number}"
        self._agent = agent
        self._sessions = sessions
        self._recorded = agent.is_recorded(settings.recording)
        # Draws the pauses before retries; one for all calls, because each has 2.5 kB of state.
        self._random = random.Random()
        self._rules = Rules(
            protect_ns=settings.greeting_protect_ms * 1_000_000,
            barge_in=settings.barge_in,
            confirm_ns=settings.barge_in_confirm_ms * 1_000_000,
            lead_ns=settings.tx_lead_ms * 1_000_000,
            reconnect_ns=settings.model_reconnect_seconds * 1_000_000_000,
            renew_ns=int(settings.model_session_minutes * 60e9),
        )
        self._metrics = ConversationMetrics(page)
        self._page = page
        self._calls: dict[int, Call] = {}
        self._reporters: dict[int, Reporter] = {}
        # When each gateway last said hello, ns; and the draining gateways.
        self._gateways: dict[str, int] = {}
        self._draining: set[str] = set()
        # By CallSid: the parked call, and the timer that ends it if its caller does not return.
        self._by_sid: dict[str, int] = {}
        self._parked: dict[int, asyncio.TimerHandle] = {}
        # Calls taken over from another worker.
        self._adopted: set[str] = set()
        # Parked calls whose gateway is silent.
        self._silenced: set[int] = set()
        # Tokens of calls that began, and orders of calls that this worker ended: gateways do not share them.
        self._tokens: OrderedDict[str, int] = OrderedDict()
        self._orders: OrderedDict[str, CallOrder] = OrderedDict()
        self._due: dict[int, asyncio.TimerHandle] = {}
        self._pacer_epoch: int | None = None
        # When it last answered, ns.
        self._pacer_seen_ns = 0
        self._calls_gauge = page.gauge("bridge_calls")
        dropped, undecodable = page.counter("bridge_dropped"), page.counter("bridge_undecodable")
        self._courier = Courier(context, bus.callbook_url(settings.bus), name=self._name, page=page)
        # Bounds and overflow: see shared/bus.py. Messages that txpacer does not accept wait here.
        self._collector = QuietCollector()
        self._gateway_link = ChannelLink(
            bus.router(context, bus.calls_url(settings.bus, number), hwm=bus.CALLER_HWM),
            types=GatewayToBridge,
            make=lambda: Channel(bus.draw_epoch(), max_weight=bus.CONTROL_HWM),
            on_message=self._from_gateway,
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
                on_message=self._from_pacer,
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
            for gateway in self._gateways:
                self._tell_state(gateway)
            for call in self._calls.values():
                call.tell_memory()
            for task in tasks:
                task.cancel()
            stopping.cancel()
            await asyncio.gather(*tasks, stopping, self._sessions.close(), return_exceptions=True)
            now_ns = time.monotonic_ns()
            for reporter in self._reporters.values():
                reporter.ended(now_ns, "stopped")
            left = await self._courier.delivered(liveness.LAST_FACTS_S)
            if left:
                log.warning("callbook did not take the last %d facts about calls; they are lost", left)
            self._courier.close()
            for timer in self._due.values():
                timer.cancel()
            self._gateway_link.close()
            self._pacer_link.close()

    async def _hello(self) -> None:
        for turn in itertools.count():
            self._pacer_link.hello(self._name)
            for call in list(self._calls.values()):
                if call.call % CALLS_ROUND == turn % CALLS_ROUND:
                    call.tell_memory()
                    call.forget_heard(self._pacer_seen_ns)
            await asyncio.sleep(liveness.HELLO_S)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            for reporter in self._reporters.values():
                reporter.sweep()
            self._look_for_gateways()
            if not self._calls:
                self._collector.quiet()

    async def _probe(self) -> None:
        await self._sessions.probe()
        for gateway in self._gateways:
            self._tell_state(gateway)

    # --- messages ---

    def _from_gateway(self, peer: str, message: Any) -> None:
        if type(message) is CallerAudio:  # nearly every one
            known = self._calls.get(message.call)
            if known is not None:
                known.caller_audio(message.data, message.at_ns)
            return
        match message:
            case MarkHeard(call):
                known = self._calls.get(call)
                if known is not None:
                    known.mark(message)
            case FirstFrameSent(call, at_ns):
                reporter = self._reporters.get(call)
                if reporter is not None:
                    reporter.first_frame(at_ns)
            case CallerDtmf():
                pass
            case CallOffered():
                self._on_offered(message)
            case CallTaken(call_sid):
                self._sessions.withdraw(call_sid)
            case CallStarted():
                self._on_started(message)
            case CallEnded(call, "moved"):
                self._on_moved(call)
            case CallEnded(call, "lost"):
                self._silenced.discard(call)
                self._park(call)
            case CallEnded(call, reason):
                self._on_ended(call, reason)
            case FollowCall(call):
                known = self._calls.get(call)
                if known is not None:
                    known.follow()
            case LineLost(call):
                known = self._calls.get(call)
                if known is not None:
                    known.line_lost(message)
            case GatewayHello(draining=draining):
                if draining:
                    self._draining.add(peer)
                if peer not in self._gateways and self._adopted:
                    self._gateway_link.post([CallAdopted(call_sid) for call_sid in self._adopted], peer)
                self._gateways[peer] = time.monotonic_ns()
                self._tell_state(peer)

    def _from_pacer(self, _peer: str, message: Any) -> None:
        if isinstance(message, PacerState):
            self._on_pacer_state(message)
            return
        call = self._calls.get(message.call)
        if call is not None:
            if isinstance(message, LineState):
                call.line_state(message)
                return
            if isinstance(message, PlayoutShifted) and message.audible:
                self._reporters[message.call].gap(message.gap_ns, continued=message.continued)
            call.playout(message)

    def _tell_state(self, gateway: str) -> None:
        places = len(self._calls) + self._sessions.offers
        lately_ns = time.monotonic_ns() - liveness.ns(liveness.GATEWAY_LIVES_S)
        others = sum(
            seen_ns > lately_ns and other != gateway and other not in self._draining
            for other, seen_ns in self._gateways.items()
        )
        epoch = self._gateway_link.channel(gateway).epoch
        state = WorkerState(self._number, self._sessions.is_ready, places, epoch, others)
        self._gateway_link.hello(gateway, (state,))

    def _on_pacer_state(self, state: PacerState) -> None:
        self._pacer_seen_ns = time.monotonic_ns()
        if self._pacer_epoch not in (None, state.epoch):
            self._page.counter("bridge_pacer_restarts").inc()
            log.warning("txpacer was restarted; its lines continue where the gateways report that they stopped")
        if self._pacer_epoch != state.epoch:
            self._pacer_epoch = state.epoch
            for call in list(self._calls.values()):
                if call.line.asked_ns:
                    call.ask_again(state.epoch)

    # --- calls ---

    def _on_offered(self, offer: CallOffered) -> None:
        if offer.call_sid in self._by_sid or offer.call_sid in self._orders:
            return  # this worker has the conversation and its session
        self._sessions.offer(offer.call_sid, resumed=offer.resumed)

    def _on_started(self, started: CallStarted) -> None:
        if started.call in self._calls:
            return
        if not self._is_first(started.token_id, started.call):
            log.warning("call %s: refused, its stream token was used before, at another gateway", started.call_sid)
            self._say_to_gateway(started.gateway, RefuseCall(started.call))
            return
        self._say_to_gateways(CallTaken(started.call_sid), but=started.gateway)
        if started.call_sid in self._orders:
            self._say_to_gateway(started.gateway, EndCall(started.call, self._orders[started.call_sid], 0))
            return
        if started.call_sid in self._by_sid:
            self._on_back(self._by_sid[started.call_sid], started)
            return
        dialled = self._sessions.take(started.call_sid)
        conversation = STATECHARTS[self._sessions.abilities.kind](
            script=self._agent.script(recorded=self._recorded, fallback_ends_call=not self._settings.fallback_dial),
            rules=self._rules,
            metrics=self._metrics,
            rng=self._random,
            numbers=dialled.numbers,
            plan=started.plan,
        )
        self._by_sid[started.call_sid] = started.call
        call = dialled.call = self._calls[started.call] = Call(
            call=started.call,
            call_sid=started.call_sid,
            gateway=started.gateway,
            conversation=conversation,
            to_pacer=self._pacer_link.say,
            to_gateway=functools.partial(self._say_to_gateway, started.gateway),
            dial=lambda call: self._sessions.dial_again(call.call_sid, dialled.numbers, call),
            on_due=self._plan,
            on_model=lambda model: reporter.name_model(model),
        )
        reporter = self._reporters[started.call] = Reporter(
            call=started.call,
            call_sid=started.call_sid,
            stream_sid=started.stream_sid,
            model=self._sessions.model,
            record=self._recorded and not started.handover,
            resumed=dialled.resumed,
            history=conversation.history,
            note=self._courier.note,
        )
        self._calls_gauge.set(len(self._calls))
        if started.handover:
            self._adopted.add(started.call_sid)
            self._say_to_gateways(CallAdopted(started.call_sid))
            self._reporters[started.call].first_frame(time.monotonic_ns())
            call.resume(dialled.session, started.memory, started.handover)
        else:
            call.start(dialled.session)
        if dialled.refused is not None:
            # It failed while the phone was still ringing.
            call.model_gone(dialled.session, refused=dialled.refused)

    def _is_first(self, token_id: str, call: int) -> bool:
        """Whether the token is new. A gateway knows its own tokens; the worker knows all tokens of a call."""
        first = self._tokens.setdefault(token_id, call)
        if len(self._tokens) > REMEMBERED_MAX:
            self._tokens.popitem(last=False)
        return first == call

    def _on_back(self, before: int, started: CallStarted) -> None:
        """A caller whose media socket was lost returned on another one, at the same gateway or another."""
        call = self._calls.pop(before)
        number = self._by_sid[started.call_sid] = started.call
        self._calls[number] = call
        self._reporters[number] = self._reporters.pop(before)
        self._silenced.discard(before)
        for timers in (self._parked, self._due):
            timer = timers.pop(before, None)
            if timer is not None:
                timer.cancel()
        self._pacer_link.say(CloseLine(before))
        self._page.counter("bridge_calls_back").inc()
        log.info("call %s: back on another media socket", call.call_sid)
        to_gateway = functools.partial(self._say_to_gateway, started.gateway)
        call.move(number, started.gateway, to_gateway, epoch=self._pacer_epoch or 0, handover=started.handover)
        call.tell_memory()
        self._plan(call)

    def _on_moved(self, call: int) -> None:
        """While this worker was stalled, the call was given to another worker: forget it without ending it."""
        ended = self._calls.get(call)
        if ended is not None:
            ended.end_call = None
            self._on_ended(call, "moved")

    def _park(self, call: int) -> None:
        """Keep a conversation whose media socket is lost: Twilio is about to return with the call."""
        if call in self._calls and call not in self._parked:
            self._parked[call] = self._loop.call_later(liveness.GRACE_S, self._on_ended, call, "lost")

    def _look_for_gateways(self) -> None:
        """Park the calls of silent gateways, and release those of a gateway that has resumed."""
        now_ns = time.monotonic_ns()
        for gateway, seen_ns in list(self._gateways.items()):
            if now_ns - seen_ns > (liveness.GATEWAY_SILENT_S + liveness.GRACE_S) * 1e9:
                del self._gateways[gateway]
                self._gateway_link.forget(gateway)
                self._draining.discard(gateway)
        for number, call in self._calls.items():
            if now_ns - self._gateways.get(call.gateway, 0) > liveness.GATEWAY_SILENT_S * 1e9:
                if number not in self._parked:
                    self._silenced.add(number)
                self._park(number)
            elif number in self._silenced:
                self._silenced.discard(number)
                self._parked.pop(number).cancel()

    def _on_ended(self, call: int, reason: str) -> None:
        ended = self._calls.pop(call, None)
        if ended is None:
            return
        self._silenced.discard(call)
        timer = self._parked.pop(call, None)
        if timer is not None:
            timer.cancel()
        del self._by_sid[ended.call_sid]
        self._adopted.discard(ended.call_sid)
        if ended.end_call is not None:
            order = self._orders[ended.call_sid] = ended.end_call.order
            if len(self._orders) > REMEMBERED_MAX:
                self._orders.popitem(last=False)
            self._say_to_gateways(CallOver(ended.call_sid, order))
        if reason == "moved":
            self._pacer_link.forget(call)
        else:
            self._pacer_link.say(CloseLine(call))
        timer = self._due.pop(call, None)
        if timer is not None:
            timer.cancel()
        ended.close()
        self._collector.ended()
        self._reporters.pop(call).ended(time.monotonic_ns(), reason)
        self._calls_gauge.set(len(self._calls))
        self._page.counter("bridge_caller_bytes_dropped").inc(ended.conversation.caller.dropped_bytes)
        log.info("call %s: over (%s)", ended.call_sid, reason)

    def _say_to_gateway(self, gateway: str, message: Message) -> None:
        self._gateway_link.post((message,), gateway)

    def _say_to_gateways(self, message: Message, *, but: str = "") -> None:
        for gateway in self._gateways:
            if gateway != but:
                self._say_to_gateway(gateway, message)

    def _plan(self, call: Call) -> None:
        """Set the call's timer to the conversation's next due time."""
        timer = self._due.pop(call.call, None)
        if timer is not None:
            timer.cancel()
        due_ns = call.due_ns
        if due_ns is not None:
            # uvloop's clock has steps of 1 ms: round up, never early.
            delay = max(0.0, (due_ns - time.monotonic_ns()) / 1e9) + 0.001
            self._due[call.call] = self._loop.call_later(delay, self._advance, call.call)

    def _advance(self, call: int) -> None:
        self._due.pop(call, None)
        known = self._calls.get(call)
        if known is not None:
            known.advance()
