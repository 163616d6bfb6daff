"""Which calls are taken, and what becomes of one that comes back through the `<Redirect>` behind `</Connect>`."""

from __future__ import annotations

from collections import Counter, OrderedDict
from enum import Enum
from typing import Final, NamedTuple, TypeVar

from .tokens import LIFE_NS

# A call whose socket was lost so often within so long gets the fallback: another try will not mend what is broken.
RESUMES_MAX: Final = 3
RESUMES_NS: Final = 60_000_000_000
# CallSids that are remembered after their end. Twilio asks again within a second; at 20 calls a second this is minutes.
REMEMBERED_MAX: Final = 10_000
# Twilio opens the socket within a second or two of our TwiML; whoever has not by then has hung up.
PROMPT_NS: Final = 3_000_000_000

_V = TypeVar("_V")


class Ending(Enum):
    """How this gateway ended a call on purpose."""

    GOODBYE = "goodbye"
    FALLBACK = "fallback"


class Answer(Enum):
    """What the voice webhook says. The values are a metric's labels."""

    CONNECT = "connect"
    FALLBACK = "fallback"
    HANG_UP = "hang_up"


class Why(Enum):
    """Why a call got the fallback. The values are a metric's labels."""

    NOT_READY = "not_ready"  # draining, or txpacer or every aibridge worker is missing
    FULL = "full"  # MAX_CALLS
    LATE = "late"  # frames leave late: the machine is full before MAX_CALLS
    SOURCE = "source"  # MAX_CALLS_PER_SOURCE
    GIVEN_UP = "given_up"  # aibridge asked for the fallback
    LOST_TOO_OFTEN = "lost_too_often"  # RESUMES_MAX


class Decision(NamedTuple):
    answer: Answer
    why: Why | None = None


class _Place(NamedTuple):
    source: str
    expiry_ns: int


class Admission:
    """Places, offers and memories of one gateway. Times are monotonic ns.

    A call holds a place from the answer of its webhook on: as an offer, until its media socket says `start` or the
    token expires, and then as a live call until its socket is gone.
    """

    def __init__(self, max_calls: int, max_calls_per_source: int) -> None:
        self._max_calls = max_calls
        self._max_calls_per_source = max_calls_per_source
        # By CallSid, each call's source.
        self._live: dict[str, str] = {}
        # By CallSid, oldest first.
        self._offers: OrderedDict[str, _Place] = OrderedDict()
        # Offers and live calls of each source: the caller's number, as stream tokens carry it.
        self._sources: Counter[str] = Counter()
        self._endings: OrderedDict[str, Ending] = OrderedDict()
        # When each call came back the last few times.
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
        ready: bool,
        late: bool = False,
        cell_calls: int = 0,
        now_ns: int,
    ) -> Decision:
        """The answer to a webhook.

        `ready`: this gateway takes calls, and a worker is there for this one. `late`: the machine is full, whatever
        MAX_CALLS says. `cell_calls`: places that the workers know of, at all gateways. A call that comes back is taken
        though the cell is full: it had its place, perhaps at a gateway that is gone.
        """
        ending = self._endings.get(call_sid) if resumed else None
        if ending is Ending.GOODBYE:
            return Decision(Answer.HANG_UP)
        if ending is Ending.FALLBACK:
            return Decision(Answer.FALLBACK, Why.GIVEN_UP)
        if not ready:
            return Decision(Answer.FALLBACK, Why.NOT_READY)
        self._forget_expired(now_ns)
        if resumed:
            resumes = tuple(at for at in self._resumes.get(call_sid, ()) if now_ns - at < RESUMES_NS)
            _remember(self._resumes, call_sid, (*resumes, now_ns))
            if len(resumes) >= RESUMES_MAX:
                return Decision(Answer.FALLBACK, Why.LOST_TOO_OFTEN)
            return Decision(Answer.CONNECT)
        if late:
            return Decision(Answer.FALLBACK, Why.LATE)
        # A call that asks again because our first answer got lost has its place already.
        if call_sid not in self._offers and call_sid not in self._live:
            # The workers' count is a moment old; what this gateway holds is not.
            if max(cell_calls, len(self._live) + len(self._offers)) >= self._max_calls:
                return Decision(Answer.FALLBACK, Why.FULL)
            if self._sources[source] >= self._max_calls_per_source:
                return Decision(Answer.FALLBACK, Why.SOURCE)
        return Decision(Answer.CONNECT)

    def offered(self, call_sid: str, now_ns: int, source: str = "") -> None:
        """A token was given out for this call."""
        self._withdraw_offer(call_sid)
        self._offers[call_sid] = _Place(source, now_ns + LIFE_NS)
        self._sources[source] += 1

    def started(self, call_sid: str, source: str = "") -> None:
        """Its media socket said `start`, whichever gateway made the offer.

        A call that is live already, on a socket before this one, stays so.
        """
        self._withdraw_offer(call_sid)
        self.ended(call_sid)
        self._live[call_sid] = source
        self._sources[source] += 1

    def awaits_a_socket(self, now_ns: int) -> bool:
        """Whether a call was offered so lately that its media socket may be on its way."""
        newest = next(reversed(self._offers.values()), None)
        return newest is not None and now_ns - (newest.expiry_ns - LIFE_NS) < PROMPT_NS

    def taken_elsewhere(self, call_sid: str) -> None:
        """The media socket that was offered here went to another gateway."""
        self._withdraw_offer(call_sid)

    def ended(self, call_sid: str) -> None:
        source = self._live.pop(call_sid, None)
        if source is not None:
            self._release(source)

    def ending(self, call_sid: str, ending: Ending) -> None:
        """Remember how to answer when Twilio asks what comes behind `</Connect>`."""
        _remember(self._endings, call_sid, ending)

    def _withdraw_offer(self, call_sid: str) -> _Place | None:
        offer = self._offers.pop(call_sid, None)
        if offer is not None:
            self._release(offer.source)
        return offer

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
