"""From the webhook to the media socket: a place, the worker that will hold the conversation, and the stream token."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

from shared.agents.choice import Directory
from shared.messages import CallOffered, CallTaken
from shared.plan import CallOrder, CallPlan

from . import plans
from .admission import Admission
from .chronicle import Chronicle
from .commands import Command, Commands, Note, ToWorker
from .limits import Lateness
from .media_streams import StartFields
from .metrics import Metrics
from .neighbours import Neighbours
from .rules import Rules
from .tokens import StreamToken, TokenError, Tokens

# Plans of calls that may return: live ones, and those that talk to a dialled party.
PLANS_MAX: Final = 2_000


class Answer(NamedTuple):
    """What to do with a call: `order`, or None to connect it with these `<Parameter>`s."""

    order: CallOrder | None
    # The worker that holds the conversation, where that is known.
    worker: int | None
    parameters: Mapping[str, str]
    commands: Commands = ()


class Accepted(NamedTuple):
    """A media socket that showed a good token, and the worker that gets its call."""

    token: StreamToken
    plan: CallPlan
    worker: int


class Offers:
    """Answers requests for a call, of Twilio's webhook and of the browser phone, from memory."""

    def __init__(
        self, rules: Rules, key: bytes, neighbours: Neighbours, chronicle: Chronicle, metrics: Metrics
    ) -> None:
        self.admission = Admission(rules.max_calls, rules.max_calls_per_source)
        self.lateness = Lateness(rules.late_ns)
        # No new call is offered; the media sockets of earlier offers may still come.
        self.draining = False
        # The agents of new calls; None: aibridge has one agent.
        self.agents: Directory | None = None
        # By CallSid, oldest first: a plan never changes.
        self._plans: OrderedDict[str, CallPlan] = OrderedDict()
        self._tokens = Tokens(key)
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
    ) -> Answer:
        """Answer a webhook. When the call is to be connected, aibridge dials the model ahead from now on.

        `plan` counts at the first webhook of a call. `returned`: the call's order was carried out, and this is how it
        ended. `worker` holds the conversation of a returning call; if that worker is gone, another one takes the call.
        """
        plan = self._plans.get(call_sid, plan)
        dials_already = self.admission.offered_to(call_sid)
        home = self._neighbours.home(call_sid) if resumed else dials_already
        holder = worker = worker if home is None else home
        # A returning call is live, and has the time of a live call.
        if self.draining and not resumed and not self._neighbours.another_gateway_takes_calls(now_ns):
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
        self._metrics.voice_answers[type(order)].inc()
        if cause is not None:
            self._metrics.fallbacks[cause].inc()
        if order is not None or worker is None:
            return Answer(order, holder, {})
        packed = plans.pack(plan)
        token, token_id = self._tokens.mint(
            worker,
            call_sid,
            plan.account_sid,
            now_ns,
            packed_plan=packed,
            resumed=resumed,
            returned=returned,
            source=source,
        )
        self.admission.offered(call_sid, worker, now_ns, source)
        self._plans[call_sid] = plan
        if len(self._plans) > PLANS_MAX:
            self._plans.popitem(last=False)
        commands: list[Command] = [ToWorker(worker, CallOffered(token_id, call_sid, plan, resumed, returned))]
        if worker != dials_already:
            self._neighbours.offered(worker)
            commands += self.withdraw(call_sid, dials_already)
        commands += map(Note, self._chronicle.expect(call_sid, now_ns))
        return Answer(None, worker, plans.parameters(token, packed), commands)

    def accept(self, start: StartFields, now_ns: int) -> Accepted | None:
        """Check token and plan of a media socket's `start`; None, counted by reason, when it may not begin a call."""
        shown, packed = start.custom_parameters.get("token"), plans.packed_in(start.custom_parameters)
        try:
            if shown is None:
                raise TokenError("no_token")
            token = self._tokens.use(shown, start.call_sid, start.account_sid, now_ns, packed_plan=packed)
            plan = plans.unpack(packed)
            # The worker that dialled ahead may be gone.
            is_there = self._neighbours.worker_is_there(token.worker, now_ns)
            worker = token.worker if is_there else self._neighbours.pick(now_ns)
            if worker is None:
                raise TokenError("no_worker")
        except TokenError as exc:
            self._metrics.starts_refused[str(exc)].inc()
            return None
        return Accepted(token, plan, worker)

    def taken_elsewhere(self, call_sid: str, worker: int) -> list[Command]:
        """The call began at another gateway, with this worker: a session dialled ahead for our offer is not needed."""
        dials = self.admission.offered_to(call_sid)
        self.admission.taken_elsewhere(call_sid)
        return self.withdraw(call_sid, dials) if dials != worker else []

    def withdraw(self, call_sid: str, worker: int | None) -> list[Command]:
        """Tell a worker that its session dialled ahead is not needed."""
        return [ToWorker(worker, CallTaken(call_sid))] if worker is not None else []
