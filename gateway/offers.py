"""Taking a call: a place, a worker that will hold the conversation, and the token that its media socket has to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic_ns

from shared.messages import CallOffered
from shared.plan import CallOrder, CallPlan

from .core import plans
from .core.admission import Admission
from .core.cell import Cell
from .core.chronicle import Chronicle
from .core.limits import Lateness
from .core.tokens import Tokens
from .media import MediaSockets
from .metrics import Metrics
from .peers import Peers


@dataclass(frozen=True)
class Answer:
    """What to do with a call: `order`, or None to connect it with these `<Parameter>`s."""

    order: CallOrder | None
    # The worker that holds the conversation, where that is known.
    worker: int | None
    parameters: Mapping[str, str]


class Offers:
    """Answers from memory, for whoever asks for a call: Twilio's webhook and the browser phone."""

    def __init__(
        self,
        *,
        admission: Admission,
        cell: Cell,
        tokens: Tokens,
        peers: Peers,
        media: MediaSockets,
        metrics: Metrics,
        chronicle: Chronicle,
        lateness: Lateness,
    ) -> None:
        self._admission = admission
        self._cell = cell
        self._tokens = tokens
        self._peers = peers
        self._media = media
        self._metrics = metrics
        self._chronicle = chronicle
        self._lateness = lateness

    def take(
        self,
        call_sid: str,
        plan: CallPlan,
        *,
        resumed: bool = False,
        after_order: bool = False,
        worker: int | None = None,
    ) -> Answer:
        """Answer a webhook. When the call is to be connected, aibridge dials the model ahead from now on.

        `worker` is the one that holds the conversation of a call that comes back; another one takes it if that is gone.
        """
        now_ns = monotonic_ns()
        dials_already = self._admission.offered_to(call_sid)
        home = self._cell.home(call_sid) if resumed else dials_already
        holder = worker = worker if home is None else home
        # One that comes back is live, and has the time that live calls have.
        if self._media.draining and not resumed and not self._cell.another_gateway_takes_calls(now_ns):
            worker = None
        elif worker is None or not self._cell.worker_is_ready(worker, now_ns):
            worker = self._cell.pick(now_ns)
        source = self._tokens.source(plan.from_number)
        order, cause = self._admission.answer(
            call_sid,
            source=source,
            resumed=resumed,
            after_order=after_order,
            ready=worker is not None,
            late=self._lateness.is_full(now_ns),
            cell_calls=self._cell.calls(now_ns),
            now_ns=now_ns,
        )
        self._metrics.voice_answers[type(order)].inc()
        if cause is not None:
            self._metrics.fallbacks[cause].inc()
        if order is not None or worker is None:
            return Answer(order, holder, {})
        packed = plans.pack(plan)
        token, token_id = self._tokens.mint(
            worker, call_sid, plan.account_sid, now_ns, packed_plan=packed, resumed=resumed, source=source
        )
        self._admission.offered(call_sid, worker, now_ns, source)
        if worker != dials_already:
            self._cell.offered(worker)
        self._chronicle.expect(call_sid, now_ns)
        self._peers.bridges[worker].post(CallOffered(token_id, call_sid, plan, resumed))
        return Answer(None, worker, plans.parameters(token, packed))
