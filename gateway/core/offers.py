"""From the webhook to the media socket: a place, the worker that will hold the conversation, and the stream token."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

from shared.agents.choice import Directory
from shared.messages import CallConfigured, CallOffered, CallRecalled, CallTaken
from shared.plan import CallOrder, CallPlan, Dial, HangUp

from . import plans
from .admission import Admission
from .chronicle import Chronicle
from .commands import AnswerWebhook, Command, Commands, Note, Recall, ToWorker
from .fallback import OF_THE_CELL
from .limits import Lateness
from .media_streams import StartFields
from .metrics import Metrics
from .neighbours import Neighbours
from .rules import Rules
from .tokens import StreamToken, TokenError, Tokens

# Calls whose plan is known: those that may return are live, or talk to a dialled party.
PLANS_MAX: Final = 2_000
_V = TypeVar("_V")


class Answer(NamedTuple):
    """What to do with a call: `order`, or None to connect it with these `<Parameter>`s."""

    order: CallOrder | None
    # The worker that holds the conversation, where that is known.
    worker: int | None
    parameters: Mapping[str, str]
    commands: Commands = ()
    # Its worker asks CALL_CONFIG_URL; wait for CallConfigured, and then call `Offers.configured`.
    is_asked: bool = False
    # callbook is asked for the call; wait for CallRecalled, and then call `Offers.recalled`.
    is_recalled: bool = False
    # The order is a fallback, and another cell of the fleet may have room for the call.
    is_for_another_cell: bool = False


class Accepted(NamedTuple):
    """A media socket that showed a good token, and the worker that gets its call."""

    token: StreamToken
    plan: CallPlan
    worker: int


class Offers:
    """Answers requests for a call, of Twilio's webhook and of the browser phone, from memory."""

    def __init__(
        self,
        rules: Rules,
        key: bytes,
        neighbours: Neighbours,
        chronicle: Chronicle,
        metrics: Metrics,
        unix_ms: Callable[[int], int],
    ) -> None:
        self.admission = Admission(rules.max_calls, rules.max_calls_per_source)
        self.lateness = Lateness(rules.late_ns)
        # No new call is offered; the media sockets of earlier offers may still come.
        self.draining = False
        # The time for draining is over: returning calls go to another cell of the fleet, too.
        self.leaving = False
        # The agents of new calls; None: aibridge has one agent.
        self.agents: Directory | None = None
        # By CallSid, oldest first: a plan never changes.
        self._plans: OrderedDict[str, CallPlan] = OrderedDict()
        # By CallSid, what CALL_CONFIG_URL says of a call; None: nothing yet.
        self._configs: OrderedDict[str, CallConfigured | None] = OrderedDict()
        # Calls for which callbook is asked, oldest first, and whether they are over where it says so.
        self._recalls: OrderedDict[str, bool] = OrderedDict()
        self._cell, self._is_fleet, self._can_recall = rules.cell, rules.fleet, rules.recalls
        self._tokens = Tokens(key, rules.cell)
        self._unix_ms = unix_ms
        self._neighbours = neighbours
        self._chronicle = chronicle
        self._metrics = metrics

    def take(
        self,
        call_sid: str,
        plan: CallPlan,
        now_ns: int,
        *,
        resumed: bool = False,
        returned: str = "",
        worker: int | None = None,
        cell: str = "",
        asks: bool = False,
        is_over: bool = False,
    ) -> Answer:
        """Answer a webhook. When the call is to be connected, aibridge dials the model ahead from now on.

        `plan` counts at the first webhook of a call. `returned`: the call's order was carried out, and this is how it
        ended. `worker` of `cell` holds the conversation of a returning call; if that worker is gone, another one takes
        the call. `asks`: the worker of a new call asks CALL_CONFIG_URL. `is_over`: the caller has hung up.
        """
        is_known = call_sid in self._plans
        plan = self._plans.get(call_sid, plan)
        dials_already = self.admission.offered_to(call_sid)
        is_foreign = resumed and cell not in ("", self._cell) and bool(self._cell)
        if is_foreign:
            # The worker's number is one of the other cell.
            worker = dials_already
            self._metrics.from_other_cells["webhook"].inc()
        home = self._neighbours.home(call_sid) if resumed else dials_already
        holder = worker = worker if home is None else home
        if is_over:
            self._metrics.voice_answers[HangUp].inc()
            return Answer(HangUp(), holder, {})
        if returned == "failed" and (second := self.admission.second_dial(call_sid)) is not None:
            self._metrics.voice_answers[Dial].inc()
            return Answer(second, holder, {})
        # A returning call is live, and has the time of a live call.
        is_refused = self.draining and (self.leaving or not resumed)
        if is_refused and not self._neighbours.another_gateway_takes_calls(now_ns):
            worker = None
        elif worker is None or not self._neighbours.worker_is_ready(worker, now_ns):
            worker = self._neighbours.pick(now_ns)
        source = self._tokens.source(plan.from_number)
        order, cause = self.admission.answer(
            call_sid,
            source=source,
            resumed=resumed,
            after_order=bool(returned),
            ready=worker is not None,
            late=self.lateness.is_full(now_ns),
            cell_calls=self._neighbours.calls(now_ns),
            now_ns=now_ns,
        )
        if cause is not None:
            self._metrics.fallbacks[cause].inc()
        if order is not None or worker is None:
            self._metrics.voice_answers[type(order)].inc()
            return Answer(order, holder, {}, is_for_another_cell=self._is_fleet and cause in OF_THE_CELL)
        parameters, token_id = self._parameters(call_sid, plan, worker, now_ns, resumed=resumed, returned=returned)
        self.admission.offered(call_sid, worker, now_ns, source)
        remember(self._plans, call_sid, plan)
        is_asked = asks and not resumed
        if is_asked:
            # Twilio repeats a webhook whose answer was lost.
            remember(self._configs, call_sid, self._configs.get(call_sid))
        # A call of this cell is unknown here when the webhook before was another gateway's, or the cell started again.
        is_recalled = self._can_recall and resumed and (is_foreign or not is_known)
        if is_recalled:
            remember(self._recalls, call_sid, not returned)
        elif not is_asked:
            self._metrics.voice_answers[type(None)].inc()
        offered = CallOffered(token_id, call_sid, plan, resumed, returned, is_asked)
        commands: list[Command] = [ToWorker(worker, offered), *([Recall(call_sid)] if is_recalled else ())]
        if worker != dials_already:
            self._neighbours.offered(worker)
            commands += self.withdraw(call_sid, dials_already)
        commands += map(Note, self._chronicle.expect(call_sid, now_ns))
        return Answer(None, worker, parameters, commands, is_asked, is_recalled)

    def is_configured(self, call_sid: str) -> bool:
        """Whether CallConfigured has come for this call."""
        return self._configs.get(call_sid) is not None

    def config_came(self, message: CallConfigured) -> None:
        """A worker has asked CALL_CONFIG_URL."""
        if message.call_sid in self._configs:
            self._configs[message.call_sid] = message

    def configured(self, call_sid: str, answer: Answer, now_ns: int) -> Answer:
        """The answer to a webhook that waited for CALL_CONFIG_URL. `answer`, from before, stays when nothing came."""
        config = self._configs.get(call_sid)
        if config is None:
            self._metrics.config_unanswered.inc()
        order = config.order if config is not None else None
        self._metrics.voice_answers[type(order)].inc()
        if config is None or answer.worker is None:
            return answer
        remember(self._plans, call_sid, config.plan)
        if order is not None:
            self.admission.withdrawn(call_sid)
            return Answer(order, None, {}, self.withdraw(call_sid, answer.worker))
        parameters, _ = self._parameters(call_sid, config.plan, answer.worker, now_ns)
        return Answer(None, answer.worker, parameters)

    def is_recalling(self, call_sid: str) -> bool:
        """Whether callbook was asked for this call and has not answered."""
        return call_sid in self._recalls

    def recall_came(self, message: CallRecalled) -> list[Command]:
        """callbook knows, or does not know, a call that returned from another cell. After the webhook, it is late."""
        call_sid = message.call_id
        may_be_over = self._recalls.pop(call_sid, None)
        if may_be_over is None:
            return []
        worker = self.admission.offered_to(call_sid)
        commands: list[Command] = [AnswerWebhook(call_sid)]
        if message.ended and may_be_over:
            self._metrics.recalls["ended"].inc()
            self.admission.ordered(call_sid, message.order)
            self.admission.withdrawn(call_sid)
            return commands + self.withdraw(call_sid, worker)
        self._metrics.recalls["story" if message.story else "unknown"].inc()
        if message.story and worker is not None:
            commands.append(ToWorker(worker, message))
        return commands

    def recalled(self, call_sid: str, answer: Answer) -> Answer:
        """The answer to a webhook that waited for callbook; `answer` is the one before."""
        if self.is_recalling(call_sid):
            self._metrics.recalls["late"].inc()
        order = self.admission.order(call_sid)
        self._metrics.voice_answers[type(order)].inc()
        return Answer(order, answer.worker, answer.parameters if order is None else {})

    def _parameters(
        self, call_sid: str, plan: CallPlan, worker: int, now_ns: int, *, resumed: bool = False, returned: str = ""
    ) -> tuple[Mapping[str, str], str]:
        """The `<Parameter>`s of a call, with a new stream token, and the token's public part."""
        packed = plans.pack(plan)
        token, token_id = self._tokens.mint(
            worker,
            call_sid,
            plan.account_sid,
            self._wall_ns(now_ns),
            packed_plan=packed,
            resumed=resumed,
            returned=returned,
            source=self._tokens.source(plan.from_number),
        )
        return plans.parameters(token, packed), token_id

    def _wall_ns(self, now_ns: int) -> int:
        return self._unix_ms(now_ns) * 1_000_000

    def accept(self, start: StartFields, now_ns: int) -> Accepted | None:
        """Check token and plan of a media socket's `start`; None, counted by reason, when it may not begin a call."""
        shown, packed = start.custom_parameters.get("token"), plans.packed_in(start.custom_parameters)
        try:
            if shown is None:
                raise TokenError("no_token")
            token = self._tokens.use(
                shown, start.call_sid, start.account_sid, self._wall_ns(now_ns), packed_plan=packed
            )
            plan = plans.unpack(packed)
            worker = token.worker
            # The worker that dialled ahead may be gone, alone or with its cell.
            if worker is None or not self._neighbours.worker_is_there(worker, now_ns):
                worker = self._neighbours.pick(now_ns)
            if worker is None:
                raise TokenError("no_worker")
        except TokenError as exc:
            self._metrics.starts_refused[str(exc)].inc()
            return None
        if token.worker is None:
            self._metrics.from_other_cells["socket"].inc()
        remember(self._plans, start.call_sid, plan)
        return Accepted(token, plan, worker)

    def taken_elsewhere(self, call_sid: str, worker: int) -> list[Command]:
        """The call began at another gateway, with this worker: a session dialled ahead for our offer is not needed."""
        dials = self.admission.offered_to(call_sid)
        self.admission.taken_elsewhere(call_sid)
        return self.withdraw(call_sid, dials) if dials != worker else []

    def withdraw(self, call_sid: str, worker: int | None) -> list[Command]:
        """Tell a worker that its session dialled ahead is not needed."""
        return [ToWorker(worker, CallTaken(call_sid))] if worker is not None else []


def remember(table: OrderedDict[str, _V], call_sid: str, value: _V) -> None:
    """Enter a value, and drop the oldest one beyond PLANS_MAX."""
    table[call_sid] = value
    if len(table) > PLANS_MAX:
        table.popitem(last=False)
