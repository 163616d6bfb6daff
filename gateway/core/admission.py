"""Which calls are accepted, and the answer for a call that returns through the `<Redirect>` after `</Connect>`."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, NamedTuple, TypeVar

import msgspec

from shared.liveness import PROMPT_S, ns
from shared.plan import CallOrder, Conference, Dial, Fallback

from .fallback import AT_THE_WEBHOOK, Caller, FallbackCause
from .tokens import LIFE_NS

# A call that lost its socket this often within this time gets the fallback: another attempt would fail, too.
RESUMES_MAX: Final = 3
RESUMES_NS: Final = 60_000_000_000
# Ended calls that are remembered. Twilio asks again within a second; at 20 calls a second this is minutes.
REMEMBERED_MAX: Final = 10_000
PROMPT_NS: Final = ns(PROMPT_S)

_V = TypeVar("_V")


class Decision(NamedTuple):
    """The answer of the voice webhook. `order` None: connect the call to a media socket."""

    order: CallOrder | None
    cause: FallbackCause | None = None


class _Offer(NamedTuple):
    source: str
    worker: int
    expiry_ns: int


class Admission:
    """The places and offers of one gateway. Times are monotonic ns.

    A call holds a place from the answer of its webhook: as an offer until its media socket sends `start` or its token
    expires, then as a live call until its socket is gone.
    """

    def __init__(self, max_calls: int, max_calls_per_source: int) -> None:
        self._max_calls = max_calls
        self._max_calls_per_source = max_calls_per_source
        # By CallSid, each call's source.
        self._live: dict[str, str] = {}
        # By CallSid, oldest first.
        self._offers: OrderedDict[str, _Offer] = OrderedDict()
        # Offers and live calls of each source: the caller's number, as stream tokens carry it.
        self._sources: Counter[str] = Counter()
        # By CallSid, the answer for a call whose conversation is over.
        self._orders: OrderedDict[str, Decision] = OrderedDict()
        # By CallSid, when the call returned the last few times.
        self._resumes: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    @property
    def live(self) -> int:
        return len(self._live)

    def answer(
        self,
        call_sid: str,
        *,
        source: str = "",
        resumed: bool,
        after_order: bool = False,
        ready: bool,
        late: bool = False,
        cell_calls: int = 0,
        now_ns: int,
    ) -> Decision:
        """The answer to a webhook.

        `ready`: this gateway accepts calls, and a worker is available. `late`: the machine is full, whatever MAX_CALLS
        says. `cell_calls`: the places at all gateways, as the workers count them. `after_order`: the call's order was
        carried out, and it goes on with its agent.
        """
        if after_order:
            self._carried_out(call_sid)
        ordered = self._orders.get(call_sid) if resumed else None
        if ordered is not None:
            return ordered
        self._forget_expired(now_ns)
        resumes = tuple(at for at in self._resumes.get(call_sid, ()) if now_ns - at < RESUMES_NS)
        is_the_case = {
            FallbackCause.NOT_READY: not ready,
            FallbackCause.LATE: late,
            # The workers' count is a moment old; this gateway's own count is current.
            FallbackCause.FULL: max(cell_calls, len(self._live) + len(self._offers)) >= self._max_calls,
            FallbackCause.SOURCE: self._sources[source] >= self._max_calls_per_source,
            FallbackCause.LOST_TOO_OFTEN: len(resumes) >= RESUMES_MAX,
        }
        has_place = call_sid in self._offers or call_sid in self._live
        caller = Caller.BACK if resumed else Caller.REPEATED if has_place else Caller.NEW
        for cause, counts_for in AT_THE_WEBHOOK.items():
            if caller in counts_for and is_the_case[cause]:
                return Decision(Fallback(), cause)
        if resumed and not after_order:
            _remember(self._resumes, call_sid, (*resumes, now_ns))
        return Decision(None)

    def offered(self, call_sid: str, worker: int, now_ns: int, source: str = "") -> None:
        """A token was issued for this call, and its worker dials the model."""
        self._withdraw_offer(call_sid)
        self._offers[call_sid] = _Offer(source, worker, now_ns + LIFE_NS)
        self._sources[source] += 1

    def offered_to(self, call_sid: str) -> int | None:
        """The worker that already dials the model for this call: Twilio repeats a webhook whose answer was lost."""
        offer = self._offers.get(call_sid)
        return offer.worker if offer is not None else None

    def started(self, call_sid: str, source: str = "") -> None:
        """The call's media socket sent `start`, whichever gateway made the offer.

        A call that is already live, on an earlier socket, stays live.
        """
        self.taken_elsewhere(call_sid)
        self.ended(call_sid)
        self._live[call_sid] = source
        self._sources[source] += 1

    def withdrawn(self, call_sid: str) -> None:
        """The offered call is not connected: its place is free."""
        self._withdraw_offer(call_sid)

    def awaits_a_socket(self, now_ns: int) -> bool:
        """Whether an offer is so recent that its media socket may still come."""
        newest = next(reversed(self._offers.values()), None)
        return newest is not None and now_ns - (newest.expiry_ns - LIFE_NS) < PROMPT_NS

    def taken_elsewhere(self, call_sid: str) -> None:
        """The media socket of this call is at another gateway."""
        self._withdraw_offer(call_sid)
        self._carried_out(call_sid)

    def ended(self, call_sid: str) -> None:
        source = self._live.pop(call_sid, None)
        if source is not None:
            self._release(source)

    def ordered(self, call_sid: str, order: CallOrder, cause: FallbackCause = FallbackCause.GIVEN_UP) -> None:
        """Keep the order for Twilio's next request for this call; `cause`: why the order is the fallback."""
        _remember(self._orders, call_sid, Decision(order, cause if isinstance(order, Fallback) else None))

    def order(self, call_sid: str) -> CallOrder | None:
        """The order of a call whose conversation is over; None: no such order is known here."""
        decision = self._orders.get(call_sid)
        return decision.order if decision is not None else None

    def second_dial(self, call_sid: str) -> Dial | None:
        """The call's Dial has failed: the same with another number to show; None: that is no reason to try again."""
        order = self.order(call_sid)
        if not isinstance(order, Dial) or not order.second_caller_id:
            return None
        second = msgspec.structs.replace(order, caller_id=order.second_caller_id, second_caller_id="")
        self.ordered(call_sid, second)
        return second

    def _carried_out(self, call_sid: str) -> None:
        """The call returned from another party, or its conversation goes on: forget its order."""
        ordered = self._orders.get(call_sid)
        if ordered is not None and isinstance(ordered.order, Dial | Conference):
            del self._orders[call_sid]

    def _withdraw_offer(self, call_sid: str) -> None:
        offer = self._offers.pop(call_sid, None)
        if offer is not None:
            self._release(offer.source)

    def _release(self, source: str) -> None:
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]

    def _forget_expired(self, now_ns: int) -> None:
        while self._offers:
            call_sid, offer = next(iter(self._offers.items()))
            if offer.expiry_ns > now_ns:
                return
            self._withdraw_offer(call_sid)


def _remember(memory: OrderedDict[str, _V], call_sid: str, value: _V) -> None:
    memory.pop(call_sid, None)
    memory[call_sid] = value
    if len(memory) > REMEMBERED_MAX:
        memory.popitem(last=False)
