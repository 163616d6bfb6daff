"""All calls of one worker: which session each gets, who else may have it, and when it is given up.

A call outlives its media socket: while its gateway is lost or silent it is parked, and Twilio returns with it. It may
also move to another worker, or come from one. The conversation itself is in call.py.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

from msgspec import structs

from shared import liveness
from shared.liveness import ns
from shared.messages import (
    CallAdopted,
    CallConfigured,
    CallEnded,
    CallerAudio,
    CallerDtmf,
    CallOffered,
    CallOver,
    CallRecalled,
    CallStarted,
    CallTaken,
    CloseLine,
    EndCall,
    FirstFrameSent,
    FollowCall,
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
from shared.plan import CallPlan

from ..models.port import Abilities, Numbers
from . import built_in, call_config, other_cell, story
from .agent import Agent, Agents
from .call import Call, Dialled
from .call_config import CallConfigError
from .conversation import Conversation
from .hand_off import Part
from .handed_on import HandedOn, remember
from .metrics import ConversationMetrics
from .near_ear.detection import Detectors
from .reporter import Reporter
from .rules import Rules
from .shell import Shell

# The statechart of each kind of model.
STATECHARTS: Final = {"half_duplex": Conversation}
# Of this many hellos, one tells a call's story and forgets what the ear has passed: of a part of the calls each time.
CALLS_ROUND: Final = 10
# A cell notes a turn within a second of its end, and callbook has it on its disk at once.
NOTED_MS: Final = 1_500


@dataclass(frozen=True)
class Setup:
    """What all calls of a worker have in common. `recording` is the setting; an agent may have its own."""

    number: int
    rules_of: Callable[[Agent], Rules]
    abilities: Abilities
    recording: Literal["off", "on"] = "off"
    fallback_ends_call: bool = False
    # None: this machine has none, and no call has a near ear.
    detectors: Detectors | None = None


@dataclass(frozen=True)
class _Gateway:
    seen_ns: int
    is_draining: bool


@dataclass
class _Offer:
    dialled: Dialled
    plan: CallPlan
    # When the stream token expires.
    until_ns: int
    # What CALL_CONFIG_URL says of the call, and the gateways that want to know.
    config: CallConfigured | None = None
    asked_by: set[str] = field(default_factory=set)
    # What another cell left of the conversation; None: nothing.
    recalled: CallRecalled | None = None


class Calls:
    """Messages of gateways and txpacer in; what follows goes to `shell`. Call `sweep` once a second."""

    def __init__(self, shell: Shell, setup: Setup, agents: Agents, page: Page, rng: random.Random) -> None:
        self.by_number: dict[int, Call] = {}
        # The agents of new calls. A live call keeps its own.
        self.agents = agents
        self.gateways: dict[str, _Gateway] = {}
        self._shell = shell
        self._setup = setup
        self._page = page
        self._metrics = ConversationMetrics(page)
        # Draws the pauses before retries; one for all calls, because each has 2.5 kB of state.
        self._random = rng
        self._by_sid: dict[str, Call] = {}
        # By CallSid: sessions dialled ahead, until the media socket comes.
        self._offers: dict[str, _Offer] = {}
        # Calls without a media socket, and when each is given up, ns; of these, the calls of silent gateways.
        self._parked: dict[int, int] = {}
        self._silenced: set[int] = set()
        # Calls taken over from another worker.
        self._adopted: set[str] = set()
        # Tokens of calls that began, and calls that were handed on: gateways do not share them.
        self._tokens: OrderedDict[str, int] = OrderedDict()
        self._handed_on = HandedOn()
        self._pacer_epoch: int | None = None
        # When it last answered, ns.
        self._pacer_seen_ns = 0
        self._hellos = 0

    def state(self, gateway: str, *, is_ready: bool, epoch: int) -> WorkerState:
        """The answer to a gateway's hello."""
        lately_ns = self._shell.now_ns - ns(liveness.GATEWAY_LIVES_S)
        others = sum(
            other.seen_ns > lately_ns and not other.is_draining and name != gateway
            for name, other in self.gateways.items()
        )
        return WorkerState(self._setup.number, is_ready, len(self.by_number) + len(self._offers), epoch, others)

    # --- messages ---

    def from_gateway(self, gateway: str, message: Any) -> None:
        if type(message) is CallerAudio:  # nearly every one
            known = self.by_number.get(message.call)
            if known is not None:
                known.caller_audio(message.data, message.at_ns)
            return
        match message:
            case CallOffered():
                self._offered(gateway, message)
            case CallTaken(call_sid):
                self._withdraw_offer(call_sid)
            case CallRecalled():
                self._recalled(message)
            case CallStarted():
                self._started(message)
            case CallOver(call_sid, order):
                self._handed_on.note(call_sid, order)
                self._tell_gateways(message, but=gateway)
            case GatewayHello(draining=is_draining):
                if gateway not in self.gateways:
                    for call_sid in self._adopted:
                        self._shell.to_gateway(gateway, CallAdopted(call_sid))
                self.gateways[gateway] = _Gateway(self._shell.now_ns, is_draining)
                self._shell.tell_state(gateway)
            case CallerDtmf() | MarkHeard() | FirstFrameSent() | FollowCall() | LineLost() | CallEnded():
                known = self.by_number.get(message.call)
                if known is not None:
                    self._about_call(known, message)

    def _about_call(
        self, call: Call, message: CallerDtmf | MarkHeard | FirstFrameSent | FollowCall | LineLost | CallEnded
    ) -> None:
        match message:
            case CallerDtmf(_, digit, at_ns):
                call.key(digit, at_ns)
            case MarkHeard():
                call.conversation.mark(message)
            case FirstFrameSent(at_ns=at_ns):
                call.reporter.first_frame(at_ns)
            case FollowCall():
                call.follow()
            case LineLost():
                call.line_lost(message)
            case CallEnded(reason="lost"):
                self._silenced.discard(call.call)
                self._park(call)
            case CallEnded(reason="moved"):
                # While this worker was stalled, the call was given to another worker: forget it without ending it.
                call.end_call = None
                self._end(call, "moved")
            case CallEnded(reason=reason):
                self._end(call, reason)

    def tool_answered(self, call_sid: str, tool_call: int, output: str, outcome: str) -> None:
        """toolbox answers a call of a tool; `outcome` is one of TOOL_OUTCOMES."""
        call = self._by_sid.get(call_sid)
        if call is not None:
            call.tool_answered(tool_call, output, outcome)

    def from_pacer(self, message: Any) -> None:
        if isinstance(message, PacerState):
            self._pacer_answered(message.epoch)
            return
        call = self.by_number.get(message.call)
        if call is None:
            return
        if isinstance(message, LineState):
            call.line_state(message)
        else:
            call.playout(message)

    def _pacer_answered(self, epoch: int) -> None:
        self._pacer_seen_ns = self._shell.now_ns
        if epoch == self._pacer_epoch:
            return
        if self._pacer_epoch is not None:
            self._page.counter("aibridge_pacer_restarts").inc()
            self._shell.log.warning(
                "txpacer was restarted; its lines continue where the gateways report that they stopped"
            )
        self._pacer_epoch = epoch
        for call in list(self.by_number.values()):
            if call.line.asked_ns:
                call.ask_again(epoch)

    # --- sessions dialled ahead ---

    def _offered(self, gateway: str, offered: CallOffered) -> None:
        """A webhook was answered. Twilio may repeat a webhook."""
        call_sid = offered.call_sid
        if not offered.returned and (call_sid in self._by_sid or self._handed_on.order(call_sid)):
            return  # this worker has the conversation and its session, or the order
        until_ns = self._shell.now_ns + ns(liveness.TOKEN_S)
        if call_sid in self._offers:
            self._offers[call_sid].until_ns = until_ns
        else:
            told = self.agents.of_story(self._handed_on.story(call_sid).agent) if offered.returned else None
            agent = told or self._agent(call_sid, offered.plan)
            dialled = Dialled(self._shell, call_sid, agent, Numbers(), resumed=offered.resumed)
            self._offers[call_sid] = _Offer(dialled, offered.plan, until_ns)
        if offered.asks:
            self._ask_config(gateway, call_sid, self._offers[call_sid])

    def _ask_config(self, gateway: str, call_sid: str, offer: _Offer) -> None:
        """Ask CALL_CONFIG_URL once for a call, whichever gateways want to know."""
        if offer.config is not None:
            self._shell.to_gateway(gateway, offer.config)
        elif offer.asked_by:
            offer.asked_by.add(gateway)
        else:
            offer.asked_by.add(gateway)
            question = call_config.question(call_sid, offer.plan, self.agents)
            self._shell.ask_config(call_sid, question, partial(self._asked, call_sid, offer))

    def _asked(self, call_sid: str, offer: _Offer, answer: bytes | CallConfigError) -> None:
        """CALL_CONFIG_URL has answered, or failed: then the agent stays as it is."""
        plan, order, outcome = offer.plan, None, "used"
        try:
            if isinstance(answer, CallConfigError):
                raise answer
            plan, order = call_config.answered(answer, plan, self.agents)
        except CallConfigError as exc:
            outcome = exc.cause
            self._shell.log.warning("call %s: CALL_CONFIG_URL has no effect: %s; its agent stays", call_sid, exc)
        self._page.counter("aibridge_call_configs", outcome).inc()
        if order is None and self._offers.get(call_sid) is offer:
            self._replan(offer, call_sid, plan)
        offer.config = CallConfigured(call_sid, plan, order)
        for gateway in offer.asked_by:
            self._shell.to_gateway(gateway, offer.config)

    def _replan(self, offer: _Offer, call_sid: str, plan: CallPlan) -> None:
        """Another agent may answer. A session of the same agent goes on with the new words; otherwise dial again."""
        offer.plan = plan
        before, agent = offer.dialled.agent, self._agent(call_sid, plan)
        if agent == before:
            return
        if (agent.name, agent.version, agent.model) == (before.name, before.version, before.model):
            offer.dialled.agent = agent
            self._shell.reconfigure(offer.dialled.session, agent)
        else:
            offer.dialled.session.close()
            offer.dialled = Dialled(self._shell, call_sid, agent, Numbers(), resumed=False)

    def _recalled(self, recalled: CallRecalled) -> None:
        """A call that is dialled for was in another cell, whose story is here. Another agent may have had it last."""
        offer = self._offers.get(recalled.call_id)
        if offer is None:
            return  # the media socket was faster, or the caller is gone
        offer.recalled = recalled
        told = self.agents.of_story(story.decode(recalled.story)[0].agent)
        if told is not None and told != offer.dialled.agent:
            offer.dialled.session.close()
            offer.dialled = Dialled(self._shell, recalled.call_id, told, Numbers(), resumed=True)

    def _withdraw_offer(self, call_sid: str) -> None:
        """The call does not come, or came to another worker."""
        offer = self._offers.pop(call_sid, None)
        if offer is not None:
            self._page.counter("aibridge_sessions", "unused").inc()
            offer.dialled.session.close()

    def _agent(self, call_sid: str, plan: CallPlan) -> Agent:
        agent = self.agents.of_plan(plan)
        if agent is None:
            self._page.counter("aibridge_agents_unknown").inc()
            advice = "the default agent answers; send SIGHUP to aibridge"
            self._shell.log.error("call %s: there is no agent %s here, so %s", call_sid, plan.agent, advice)
            agent = self.agents.default.in_call(plan)
        return agent

    def _take_offer(self, call_sid: str, plan: CallPlan, told: Agent | None) -> Dialled:
        """The session of a call that begins; `told`: the agent of a predecessor's story.

        Without an offer, the worker was restarted after the webhook: dial now.
        """
        offer = self._offers.pop(call_sid, None)
        if offer is not None:
            if offer.dialled.agent == told or (told is None and offer.plan == plan):
                return offer.dialled
            offer.dialled.session.close()
        return Dialled(self._shell, call_sid, told or self._agent(call_sid, plan), Numbers(), resumed=True)

    # --- the life of a call ---

    def _started(self, started: CallStarted) -> None:
        if started.call in self.by_number:
            return
        call_sid, gateway, shell = started.call_sid, started.gateway, self._shell
        # A gateway knows its own tokens; the worker knows all tokens of a call.
        if remember(self._tokens, started.token_id, started.call) != started.call:
            shell.log.warning("call %s: refused, its stream token was used before, at another gateway", call_sid)
            shell.to_gateway(gateway, RefuseCall(started.call))
            return
        self._tell_gateways(CallTaken(call_sid), but=gateway)
        live = self._by_sid.get(call_sid)
        if started.returned and live is not None and live.end_call is not None:
            self._end(live, "hung-up")  # the gateway that closed its socket says so later
        order = None if started.returned else self._handed_on.order(call_sid)
        if order is not None:
            shell.to_gateway(gateway, EndCall(started.call, order, 0))
        elif call_sid in self._by_sid:
            self._returned(self._by_sid[call_sid], started)
        else:
            self._begin(started)

    def _begin(self, started: CallStarted) -> None:
        setup, call_sid = self._setup, started.call_sid
        plan, told, memory = started.plan, None, started.memory
        is_back = bool(started.returned) and not started.handover
        offer = self._offers.get(call_sid)
        recalled = offer.recalled if offer is not None and not started.handover else None
        if is_back:
            kept = recalled.story if recalled is not None else b""
            memory = self._handed_on.take_back(call_sid, plan, started.returned, kept)
        elif recalled is not None:
            memory = other_cell.continued(recalled.story, recalled.left_ms)
            self._page.counter("aibridge_calls_from_other_cells").inc()
            self._shell.log.info("call %s: goes on here; cell %s had it", call_sid, recalled.cell or "(unnamed)")
        if memory:
            predecessor, _ = story.decode(memory)
            told = self.agents.of_story(predecessor.agent)
            plan = predecessor.plan if told is not None else plan
        dialled = self._take_offer(call_sid, plan, told)
        agent = dialled.agent
        is_recorded = agent.is_recorded(setup.recording)
        part = self._part(agent, recorded=is_recorded)
        conversation = STATECHARTS[setup.abilities.kind](
            script=part.script,
            rules=part.rules,
            metrics=self._metrics,
            rng=self._random,
            numbers=dialled.numbers,
            plan=plan,
            agent=agent.told(),
            tools=part.tools,
            built_in=part.built_in,
            detectors=setup.detectors,
        )
        reporter = Reporter(
            self._shell,
            call=started.call,
            call_sid=call_sid,
            stream_sid=started.stream_sid,
            agent=agent.name,
            model=agent.model,
            record=is_recorded and not started.handover,
            resumed=dialled.resumed,
            history=conversation.history,
        )
        call = dialled.call = self.by_number[started.call] = self._by_sid[call_sid] = Call(
            self._shell,
            call=started.call,
            call_sid=call_sid,
            gateway=started.gateway,
            agent=agent,
            conversation=conversation,
            reporter=reporter,
            colleague=partial(self._colleague, plan),
        )
        self._count()
        if started.handover:
            self._adopted.add(call_sid)
            self._tell_gateways(CallAdopted(call_sid))
            reporter.first_frame(self._shell.now_ns)
        if started.handover or is_back or recalled is not None:
            noted_ms = recalled.left_ms - NOTED_MS if recalled is not None else None
            former = "worker" if started.handover else "" if is_back else "cell"
            call.resume(dialled.session, memory, started.handover, former=former, noted_ms=noted_ms)
        else:
            call.start(dialled.session)
        if dialled.refused is not None:
            # It failed while the phone was still ringing.
            call.model_gone(dialled.session, refused=dialled.refused)

    def _part(self, agent: Agent, *, recorded: bool) -> Part:
        setup = self._setup
        script = agent.script(recorded=recorded, fallback_ends_call=setup.fallback_ends_call)
        return Part(agent, script, setup.rules_of(agent), self._shell.tools(agent), built_in.of_agent(agent))

    def _colleague(self, plan: CallPlan, name: str) -> Part | None:
        """The agent to whom a call is handed off. What the plan overrides is the first agent's."""
        agent = self.agents.of_plan(structs.replace(plan, agent=name, overrides={}))
        return self._part(agent, recorded=False) if agent is not None else None

    def _returned(self, call: Call, started: CallStarted) -> None:
        """A caller whose media socket was lost returned on another one, at the same gateway or another."""
        before = call.call
        del self.by_number[before]
        self.by_number[started.call] = call
        self._silenced.discard(before)
        self._parked.pop(before, None)
        self._shell.to_pacer(CloseLine(before))
        self._page.counter("aibridge_calls_back").inc()
        self._shell.log.info("call %s: back on another media socket", call.call_sid)
        call.move(started.call, started.gateway, epoch=self._pacer_epoch or 0, handover=started.handover)
        call.tell_memory()

    def _park(self, call: Call) -> None:
        """Keep a conversation whose media socket is lost: Twilio is about to return with the call."""
        self._parked.setdefault(call.call, self._shell.now_ns + ns(liveness.GRACE_S))

    def _end(self, call: Call, reason: str) -> None:
        number, call_sid = call.call, call.call_sid
        del self.by_number[number], self._by_sid[call_sid]
        self._silenced.discard(number)
        self._parked.pop(number, None)
        self._adopted.discard(call_sid)
        if call.end_call is not None:
            self._handed_on.note(call_sid, call.end_call.order, call.memory())
            self._tell_gateways(CallOver(call_sid, call.end_call.order))
        if reason != "moved":
            self._shell.to_pacer(CloseLine(number))
            if any(call.conversation.tools.running()):
                self._shell.cancel_tools(call_sid)
        call.close()
        self._shell.ended(number)
        call.reporter.ended(self._shell.now_ns, reason)
        self._count()
        self._page.counter("aibridge_caller_bytes_dropped").inc(call.conversation.caller.dropped_bytes)
        self._shell.log.info("call %s: over (%s)", call_sid, reason)

    def _count(self) -> None:
        self._page.gauge("aibridge_calls").set(len(self.by_number))

    def _tell_gateways(self, message: Message, *, but: str = "") -> None:
        for gateway in self.gateways:
            if gateway != but:
                self._shell.to_gateway(gateway, message)

    # --- time ---

    def tell_stories(self) -> None:
        """Leave the stories of a part of the calls with their gateways, and forget what the ear has passed."""
        self._hellos += 1
        for call in list(self.by_number.values()):
            if call.call % CALLS_ROUND == self._hellos % CALLS_ROUND:
                call.tell_memory()
                call.forget_heard(self._pacer_seen_ns)

    def sweep(self) -> list[str]:
        """Give up what was waited for in vain. Returns the gateways that are gone for good."""
        now_ns = self._shell.now_ns
        for call_sid in [call_sid for call_sid, offer in self._offers.items() if now_ns >= offer.until_ns]:
            self._withdraw_offer(call_sid)
        for number in [number for number, until_ns in self._parked.items() if now_ns >= until_ns]:
            self._end(self.by_number[number], "lost")
        gone_ns = now_ns - ns(liveness.GATEWAY_SILENT_S + liveness.GRACE_S)
        gone = [name for name, gateway in self.gateways.items() if gateway.seen_ns < gone_ns]
        for name in gone:
            del self.gateways[name]
        for call in self.by_number.values():
            call.reporter.sweep()
            self._look_for_gateway(call, now_ns - ns(liveness.GATEWAY_SILENT_S))
        return gone

    def _look_for_gateway(self, call: Call, silent_ns: int) -> None:
        """Park a call of a silent gateway, and release that of a gateway that has resumed."""
        gateway = self.gateways.get(call.gateway)
        if gateway is None or gateway.seen_ns < silent_ns:
            if call.call not in self._parked:
                self._silenced.add(call.call)
                self._park(call)
        elif call.call in self._silenced:
            self._silenced.discard(call.call)
            del self._parked[call.call]

    def tell_all_stories(self) -> None:
        """Leave the calls to other workers."""
        for call in self.by_number.values():
            call.tell_memory()

    def stopped(self) -> None:
        """The process ends: note how far the conversations came."""
        for call in self.by_number.values():
            call.reporter.ended(self._shell.now_ns, "stopped")
