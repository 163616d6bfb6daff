"""What the caller is owed, when it is requested, and how often a failed response is retried.

The model answers each turn by itself, unless a response is in the way, the answer fails, or the session is lost. Then
an answer is owed, and is requested when nothing is in the way. A failed response is retried with a growing pause.
"""

from __future__ import annotations

import random
from enum import Enum, auto
from typing import Final

from shared.metrics import Counter

from ..models.port import Purpose
from .chart import Chart, Table, becomes, stays
from .timers import Due, Timers

_MS: Final = 1_000_000
# After the end of a response that was in the way, the model may answer by itself. If it has not by then, the answer is
# requested. The pause costs nothing: the caller still hears that response.
ANSWER_NS: Final = 100 * _MS
# A model begins its answer when it takes the turn. An answer that has not begun by then never comes.
EXPECTED_NS: Final = 2_000 * _MS
# A new session may take this long to notice the caller in the audio that it is given, before it is asked to speak.
HEARS_AGAIN_NS: Final = 2_000 * _MS
# An Ask that is neither answered nor refused by then has failed.
CREATED_NS: Final = 5_000 * _MS
# Consecutive responses that fail (rate limit, server error) before the caller gets the fallback; the pause doubles.
RETRIES_MAX: Final = 3
RETRY_NS: Final = 500 * _MS


class Owed(Enum):
    NOTHING = auto()
    EXPECTED = auto()  # the model ought to answer by itself
    ANSWER = auto()
    CONTINUE = auto()  # a sentence broke off
    REPEAT = auto()  # the caller's words were lost: ask the caller to repeat them
    FILLER = auto()  # a tool takes long: say so
    NUDGE = auto()  # the caller says nothing: ask for them
    FAREWELL = auto()  # the call ends: say goodbye


class OwedEvent(Enum):
    TURN_ENDED = auto()  # and the model is free to answer
    TURN_ENDED_DURING_RESPONSE = auto()
    OVERDUE = auto()  # the model did not answer by itself
    FORGIVEN = auto()  # a response that answers has begun, or the caller speaks again
    ASKED = auto()
    OWE_ANSWER = auto()
    OWE_CONTINUE = auto()
    OWE_REPEAT = auto()
    OWE_FILLER = auto()
    OWE_NUDGE = auto()
    OWE_FAREWELL = auto()
    LOST = auto()  # the session is gone


class OwedAct(Enum):
    EXPECT = auto()  # set the time by which the model ought to have answered


# What is owed to a turn of the caller, or to a sentence that broke off; and what is said unasked.
_DUTIES: Final = (Owed.ANSWER, Owed.CONTINUE, Owed.REPEAT)
_UNASKED: Final = (Owed.FILLER, Owed.NUDGE, Owed.FAREWELL)

OWED_TABLE: Final[Table[Owed, OwedEvent, OwedAct]] = {
    **becomes((Owed.NOTHING, Owed.EXPECTED, *_UNASKED), OwedEvent.TURN_ENDED, Owed.EXPECTED, OwedAct.EXPECT),
    **becomes(Owed, OwedEvent.TURN_ENDED_DURING_RESPONSE, Owed.ANSWER),
    (Owed.EXPECTED, OwedEvent.OVERDUE): (Owed.ANSWER, ()),
    **becomes(Owed, OwedEvent.FORGIVEN, Owed.NOTHING),
    **becomes((*_DUTIES, *_UNASKED), OwedEvent.ASKED, Owed.NOTHING),
    **becomes(Owed, OwedEvent.OWE_ANSWER, Owed.ANSWER),
    **becomes(Owed, OwedEvent.OWE_CONTINUE, Owed.CONTINUE),
    **becomes(Owed, OwedEvent.OWE_REPEAT, Owed.REPEAT),
    **becomes((Owed.NOTHING, *_UNASKED), OwedEvent.OWE_FILLER, Owed.FILLER),
    **becomes((Owed.NOTHING, *_UNASKED), OwedEvent.OWE_NUDGE, Owed.NUDGE),
    **becomes(Owed, OwedEvent.OWE_FAREWELL, Owed.FAREWELL),
    (Owed.EXPECTED, OwedEvent.LOST): (Owed.ANSWER, ()),
    **becomes((Owed.FILLER, Owed.NUDGE), OwedEvent.LOST, Owed.NOTHING),
    **stays(_DUTIES, OwedEvent.TURN_ENDED),
    **stays((Owed.NOTHING, *_DUTIES, Owed.FAREWELL), OwedEvent.OVERDUE, OwedEvent.LOST),
    **stays((Owed.FILLER, Owed.NUDGE), OwedEvent.OVERDUE),
    **stays((Owed.EXPECTED, *_DUTIES), OwedEvent.OWE_FILLER, OwedEvent.OWE_NUDGE),
}

PURPOSES: Final[dict[Owed, Purpose]] = {
    Owed.ANSWER: "answer",
    Owed.CONTINUE: "continue",
    Owed.REPEAT: "repeat",
    Owed.FILLER: "filler",
    Owed.NUDGE: "nudge",
    Owed.FAREWELL: "farewell",
}
_OWE: Final[dict[Purpose, OwedEvent]] = {
    "answer": OwedEvent.OWE_ANSWER,
    "continue": OwedEvent.OWE_CONTINUE,
    "repeat": OwedEvent.OWE_REPEAT,
    "filler": OwedEvent.OWE_FILLER,
    "nudge": OwedEvent.OWE_NUDGE,
    "farewell": OwedEvent.OWE_FAREWELL,
}


class Asking:
    """The region of what is owed, with its times, and the request in flight. Times are ns, monotonic."""

    def __init__(self, timers: Timers, illegal: Counter, rng: random.Random) -> None:
        self.chart = Chart(OWED_TABLE, Owed.NOTHING, illegal)
        self._timers = timers
        self._random = rng
        # The Ask in flight: its number (0: none) and its purpose.
        self.request = 0
        self.requested: Purpose = "answer"
        self._requests = 0
        # Consecutive responses that failed.
        self.failures = 0

    def step(self, event: OwedEvent, now_ns: int) -> None:
        acts = self.chart.step(event)
        if OwedAct.EXPECT in acts:
            self._timers.set(Due.EXPECTED, now_ns + EXPECTED_NS)
        elif self.chart.state is not Owed.EXPECTED:
            self._timers.cancel(Due.EXPECTED)
        if event is OwedEvent.FORGIVEN:
            self._timers.cancel(Due.ANSWER)

    def owe(self, purpose: Purpose, now_ns: int) -> None:
        """A greeting or a notice is owed by its own region."""
        event = _OWE.get(purpose)
        if event is not None:
            self.step(event, now_ns)

    def purpose(self) -> Purpose | None:
        """The purpose of the next request."""
        return PURPOSES.get(self.chart.state)

    def not_before(self, at_ns: int) -> None:
        self._timers.set(Due.ANSWER, at_ns)

    def may_ask(self) -> bool:
        return not self._timers.is_set(Due.ANSWER)

    def asked(self, purpose: Purpose, now_ns: int) -> int:
        """An Ask of this purpose is sent. Returns its number."""
        if purpose == self.purpose():
            self.step(OwedEvent.ASKED, now_ns)
        self._requests += 1
        self.request, self.requested = self._requests, purpose
        self._timers.set(Due.CREATED, now_ns + CREATED_NS)
        return self.request

    def began(self) -> None:
        self._timers.cancel(Due.CREATED)

    def refused(self) -> Purpose:
        """The Ask in flight has failed. Returns its purpose."""
        self.request = 0
        self._timers.cancel(Due.CREATED)
        return self.requested

    def response_ended(self, now_ns: int) -> None:
        """A response that was in the way has ended."""
        if self.purpose() is not None and self.may_ask():
            self.not_before(now_ns + ANSWER_NS)

    def retry_after_ns(self) -> int | None:
        """A response failed: the pause before the next one; None when too many failed."""
        self.failures += 1
        if self.failures > RETRIES_MAX:
            return None
        return int(RETRY_NS * 2 ** (self.failures - 1) * self._random.uniform(0.75, 1.25))

    def session_lost(self, now_ns: int) -> None:
        self.step(OwedEvent.LOST, now_ns)
        for due in (Due.CREATED, Due.ANSWER):
            self._timers.cancel(due)
        self.request = 0
