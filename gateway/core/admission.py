"""Which calls are taken, and what becomes of one that comes back through the `<Redirect>` behind `</Connect>`."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Final, TypeVar

from .tokens import LIFE_NS

# A call whose socket was lost this often gets the fallback: something is broken that another try will not mend.
RESUMES_MAX: Final = 3
# CallSids that are remembered after their end. Twilio asks again within a second; at 20 calls a second this is minutes.
REMEMBERED_MAX: Final = 10_000

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


class Admission:
    """Places, offers and memories of one gateway. Times are monotonic ns.

    A call holds a place from the answer of its webhook on: as an offer, until its media socket says `start` or the
    token expires, and then as a live call until its socket is gone.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._live = 0
        # CallSid -> expiry of the token, oldest first.
        self._offers: OrderedDict[str, int] = OrderedDict()
        self._endings: OrderedDict[str, Ending] = OrderedDict()
        self._resumes: OrderedDict[str, int] = OrderedDict()

    @property
    def live(self) -> int:
        return self._live

    def answer(self, call_sid: str, *, resumed: bool, ready: bool, now_ns: int) -> Answer:
        """The answer to a webhook. `ready`: this gateway takes calls, and a worker is there for this one."""
        ending = self._endings.get(call_sid) if resumed else None
        if ending is Ending.GOODBYE:
            return Answer.HANG_UP
        if ending is Ending.FALLBACK or not ready:
            return Answer.FALLBACK
        if resumed:
            resumes = self._resumes.pop(call_sid, 0) + 1
            _remember(self._resumes, call_sid, resumes)
            if resumes > RESUMES_MAX:
                return Answer.FALLBACK
        return Answer.CONNECT if self._has_room(call_sid, now_ns) else Answer.FALLBACK

    def offered(self, call_sid: str, now_ns: int) -> None:
        # Twilio asks twice when our first answer got lost: one call, one place.
        self._offers.pop(call_sid, None)
        self._offers[call_sid] = now_ns + LIFE_NS

    def started(self, call_sid: str) -> None:
        self._offers.pop(call_sid, None)
        self._live += 1

    def ended(self) -> None:
        self._live -= 1

    def ending(self, call_sid: str, ending: Ending) -> None:
        """Remember how to answer when Twilio asks what comes behind `</Connect>`."""
        _remember(self._endings, call_sid, ending)

    def _has_room(self, call_sid: str, now_ns: int) -> bool:
        while self._offers and next(iter(self._offers.values())) <= now_ns:
            self._offers.popitem(last=False)
        others = len(self._offers) - (call_sid in self._offers)
        return self._live + others < self._max_calls


def _remember(memory: OrderedDict[str, _V], call_sid: str, value: _V) -> None:
    memory.pop(call_sid, None)
    memory[call_sid] = value
    if len(memory) > REMEMBERED_MAX:
        memory.popitem(last=False)
