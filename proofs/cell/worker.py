"""An aibridge worker in virtual time: real calls and conversations; dialling and handing over as worker.py does.

aibridge/worker.py owns sockets and timers. Its decisions about a call's place in the cell are repeated here: which call
an offer's session is for, what happens to a call whose media socket or gateway is gone, and what the gateways are told.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aibridge.agent import Agent
from aibridge.call import Call
from aibridge.core.conversation import Conversation
from aibridge.core.metrics import ConversationMetrics
from aibridge.core.rules import Rules
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import ModelEvent, Numbers, SessionReady
from shared.liveness import GATEWAY_LIVES_S, GATEWAY_SILENT_S, GRACE_S, HELLO_S, TOKEN_S, ns
from shared.messages import (
    BridgeHello,
    CallAdopted,
    CallEnded,
    CallerAudio,
    CallOffered,
    CallOver,
    CallStarted,
    CallTaken,
    CloseLine,
    EndCall,
    GatewayHello,
    LineLost,
    LineState,
    MarkHeard,
    Message,
    PacerState,
    RefuseCall,
    WorkerState,
)
from shared.metrics import Page
from shared.plan import CallOrder

from .clock import Clock, Process
from .model import VirtualModel, VirtualSession

# As in aibridge/worker.py.
CALLS_ROUND: Final = 10


@dataclass
class _Dialled:
    session: VirtualSession
    numbers: Numbers
    call: Call | None = None
    refused: bool | None = None


@dataclass
class Talk:
    """A conversation at its last worker, and that worker's metrics."""

    conversation: Conversation
    page: Page
    # The last EndCall of the conversation.
    end_call: EndCall | None = None


class VirtualWorker(Process):
    """`to_gateway` takes a gateway's name and a message, `to_pacer` a message. `talks` is told of each conversation."""

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
        seed: int,
    ) -> None:
        super().__init__(clock)
        self.number = number
        self.name = f"aibridge-{number}"
        self.page = Page.in_memory(DEFINITIONS)
        self._agent = agent
        self._rules = rules
        self._model = model
        self._to_gateway = to_gateway
        self._to_pacer = to_pacer
        self._talks = talks
        self._random = random.Random(seed)
        self._metrics = ConversationMetrics(self.page)
        self._epoch = 0
        self.started()

    def started(self) -> None:
        self._epoch += 1
        self.calls: dict[int, Call] = {}
        self._by_sid: dict[str, int] = {}
        self._offers: dict[str, _Dialled] = {}
        self._dialled: dict[VirtualSession, _Dialled] = {}
        # Of a parked call: counts, so that a timer of an earlier parking is void.
        self._parked: dict[int, int] = {}
        self._parkings = 0
        self._silenced: set[int] = set()
        self._adopted: set[str] = set()
        self._tokens: dict[str, int] = {}
        self._orders: dict[str, CallOrder] = {}
        self._gateways: dict[str, int] = {}
        # The number of the last message that was read of each gateway.
        self.acknowledged: dict[str, int] = {}
        self._draining: set[str] = set()
        self._pacer_epoch: int | None = None
        self._pacer_seen_ns = 0
        self._turn = 0
        self.every(HELLO_S * 1_000, self._hello)
        self.every(1_000, self._look_for_gateways)

    def died(self) -> None:
        self._model.worker_died(self)

    def _hello(self) -> None:
        self._turn += 1
        self._to_pacer(BridgeHello(self.name))
        for call in list(self.calls.values()):
            if call.call % CALLS_ROUND == self._turn % CALLS_ROUND:
                call.tell_memory()
                call.forget_heard(self._pacer_seen_ns)

    # --- messages ---

    def from_gateway(self, gateway: str, message: Any, number: int) -> None:
        self.acknowledged[gateway] = number
        match message:
            case CallerAudio(call, data, at_ns):
                if call in self.calls:
                    self.calls[call].caller_audio(data, at_ns)
            case MarkHeard(call):
                if call in self.calls:
                    self.calls[call].mark(message)
            case LineLost(call):
                if call in self.calls:
                    self.calls[call].line_lost(message)
            case CallOffered(_, call_sid):
                if call_sid not in self._by_sid and call_sid not in self._orders and call_sid not in self._offers:
                    offered = self._offers[call_sid] = self._dial(call_sid, Numbers())
                    self.after(TOKEN_S * 1_000, lambda: self._expire(call_sid, offered))
            case CallTaken(call_sid):
                taken = self._offers.pop(call_sid, None)
                if taken is not None:
                    taken.session.close()
            case CallStarted():
                self._on_started(message)
            case CallEnded(call, "moved"):
                if call in self.calls:
                    self.calls[call].end_call = None
                    self._on_ended(call, is_moved=True)
            case CallEnded(call, "lost"):
                self._silenced.discard(call)
                self._park(call)
            case CallEnded(call):
                self._on_ended(call)
            case GatewayHello(_, draining):
                if draining:
                    self._draining.add(gateway)
                if gateway not in self._gateways:
                    for call_sid in self._adopted:
                        self._to_gateway(gateway, CallAdopted(call_sid))
                self._gateways[gateway] = self.now_ns
                self._to_gateway(gateway, self._state(gateway))

    def _state(self, gateway: str) -> WorkerState:
        lately_ns = self.now_ns - ns(GATEWAY_LIVES_S)
        others = sum(
            seen_ns > lately_ns and name != gateway and name not in self._draining
            for name, seen_ns in self._gateways.items()
        )
        return WorkerState(self.number, True, len(self.calls) + len(self._offers), self._epoch, others)

    def from_pacer(self, message: Any) -> None:
        if isinstance(message, PacerState):
            self._pacer_seen_ns = self.now_ns
            if self._pacer_epoch != message.epoch:
                self._pacer_epoch = message.epoch
                for call in list(self.calls.values()):
                    if call.line.asked_ns:
                        call.ask_again(message.epoch)
            return
        known = self.calls.get(message.call)
        if known is None:
            return
        if isinstance(message, LineState):
            known.line_state(message)
        else:
            known.playout(message)

    # --- calls ---

    def _on_started(self, started: CallStarted) -> None:
        if started.call in self.calls:
            return
        if self._tokens.setdefault(started.token_id, started.call) != started.call:
            self._to_gateway(started.gateway, RefuseCall(started.call))
            return
        self._tell_gateways(CallTaken(started.call_sid), but=started.gateway)
        if started.call_sid in self._orders:
            self._to_gateway(started.gateway, EndCall(started.call, self._orders[started.call_sid], 0))
            return
        if started.call_sid in self._by_sid:
            self._on_back(self._by_sid[started.call_sid], started)
            return
        dialled = self._offers.pop(started.call_sid, None) or self._dial(started.call_sid, Numbers())
        conversation = Conversation(
            script=self._agent.script(recorded=self._agent.is_recorded("off")),
            rules=self._rules,
            metrics=self._metrics,
            rng=self._random,
            numbers=dialled.numbers,
            plan=started.plan,
        )
        self._talks[started.call_sid] = Talk(conversation, self.page)
        gateway = started.gateway
        call = dialled.call = self.calls[started.call] = Call(
            call=started.call,
            call_sid=started.call_sid,
            gateway=gateway,
            conversation=conversation,
            to_pacer=self._to_pacer,
            to_gateway=lambda message: self._to_gateway(gateway, message),
            dial=self._dial_for,
            on_due=self._plan,
            clock=lambda: self.now_ns,
            wall_clock=lambda: self.now_ns,
        )
        self._by_sid[started.call_sid] = started.call
        if started.handover:
            self._adopted.add(started.call_sid)
            self._tell_gateways(CallAdopted(started.call_sid))
            call.resume(dialled.session, started.memory, started.handover)
        else:
            call.start(dialled.session)
        if dialled.refused is not None:
            call.model_gone(dialled.session, refused=dialled.refused)

    def _on_back(self, before: int, started: CallStarted) -> None:
        """A caller whose media socket was lost returned on another one."""
        call = self.calls.pop(before)
        self.calls[started.call] = call
        self._by_sid[started.call_sid] = started.call
        self._silenced.discard(before)
        self._parked.pop(before, None)
        self._to_pacer(CloseLine(before))
        gateway = started.gateway
        call.move(
            started.call,
            gateway,
            lambda message: self._to_gateway(gateway, message),
            epoch=self._pacer_epoch or 0,
            handover=started.handover,
        )
        call.tell_memory()
        self._plan(call)

    def _park(self, call: int) -> None:
        """Keep a conversation whose media socket is lost: Twilio is about to return with the call."""
        if call in self.calls and call not in self._parked:
            self._parkings += 1
            parking = self._parked[call] = self._parkings
            self.after(GRACE_S * 1_000, lambda: self._gone(call, parking))

    def _gone(self, call: int, parking: int) -> None:
        if self._parked.get(call) == parking:
            self._on_ended(call)

    def _look_for_gateways(self) -> None:
        for number, call in list(self.calls.items()):
            if self.now_ns - self._gateways.get(call.gateway, 0) > ns(GATEWAY_SILENT_S):
                if number not in self._parked:
                    self._silenced.add(number)
                self._park(number)
            elif number in self._silenced:
                self._silenced.discard(number)
                self._parked.pop(number)

    def _on_ended(self, call: int, *, is_moved: bool = False) -> None:
        ended = self.calls.pop(call, None)
        if ended is None:
            return
        self._silenced.discard(call)
        self._parked.pop(call, None)
        del self._by_sid[ended.call_sid]
        self._adopted.discard(ended.call_sid)
        if ended.end_call is not None:
            self._orders[ended.call_sid] = ended.end_call.order
            self._tell_gateways(CallOver(ended.call_sid, ended.end_call.order))
        if not is_moved:
            self._to_pacer(CloseLine(call))
        ended.close()

    def _tell_gateways(self, message: Message, *, but: str = "") -> None:
        for gateway in self._gateways:
            if gateway != but:
                self._to_gateway(gateway, message)

    def _plan(self, call: Call) -> None:
        due_ns = call.due_ns
        if due_ns is not None:
            self.at(due_ns, lambda: self._advance(call, due_ns))

    def _advance(self, call: Call, due_ns: int) -> None:
        if self.calls.get(call.call) is call and call.due_ns == due_ns:
            call.advance()

    # --- sessions ---

    def _dial(self, call_sid: str, numbers: Numbers) -> _Dialled:
        session = self._model.dial(self, call_sid, numbers, self)
        dialled = self._dialled[session] = _Dialled(session, numbers)
        return dialled

    def _dial_for(self, call: Call) -> VirtualSession:
        dialled = self._dial(call.call_sid, call.conversation.numbers)
        dialled.call = call
        return dialled.session

    def _expire(self, call_sid: str, offered: _Dialled) -> None:
        if self._offers.get(call_sid) is offered:
            del self._offers[call_sid]
            offered.session.close()

    def event(self, session: VirtualSession, event: ModelEvent | SessionReady) -> None:
        call = self._dialled[session].call
        if call is not None:
            call.model_event(session, event)

    def gone(self, session: VirtualSession, *, refused: bool) -> None:
        dialled = self._dialled.pop(session)
        dialled.refused = refused
        if dialled.call is not None:
            dialled.call.model_gone(session, refused=refused)
