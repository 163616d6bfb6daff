"""The sessions behind one call: dialled, lost, dialled again, renewed before they expire; as a table.

OpenAI ends a session after 60 minutes, without a warning and without a way to resume it: a new socket is an empty
conversation. So a call that lasts longer gets a fresh session before that, and a call that loses its session gets one
as soon as it can be had. What the fresh one has to be told is the Conversation's affair.

A pair that is not in SESSION_TABLE is illegal: it changes nothing.
"""

from __future__ import annotations

import random
from enum import Enum, auto
from typing import Final

from .timers import Due, Timers


class Line(Enum):
    """What there is between this call and the model."""

    DIALLING = auto()  # no session; one is being dialled
    WAITING = auto()  # no session; the next try is due later
    LIVE = auto()
    RENEWING = auto()  # live, and a fresh session is being dialled
    STANDBY = auto()  # live, and a fresh session is ready
    GONE = auto()  # given up


class Event(Enum):
    """What happens to it."""

    READY = auto()  # the dialled session has our settings
    FAILED = auto()  # the dialled session did not come, or went; another try may help
    REFUSED = auto()  # the model will not have us: another try would fail in the same way
    LOST = auto()  # the live session is gone
    FATAL = auto()  # the live session said that it cannot go on, and no other could
    DIAL_DUE = auto()
    RENEW_DUE = auto()
    GIVE_UP_DUE = auto()
    REST = auto()  # nobody speaks and nothing is being made: a good moment to change sessions


class Action(Enum):
    """What the Conversation has to do about it."""

    NOTHING = auto()
    DIAL = auto()
    ADOPT = auto()  # the dialled session becomes the call's
    BACK_OFF = auto()
    RENEW_LATER = auto()
    GIVE_UP = auto()


SESSION_TABLE: Final[dict[tuple[Line, Event], tuple[Line, Action]]] = {
    (Line.DIALLING, Event.READY): (Line.LIVE, Action.ADOPT),
    (Line.DIALLING, Event.FAILED): (Line.WAITING, Action.BACK_OFF),
    (Line.DIALLING, Event.REFUSED): (Line.GONE, Action.GIVE_UP),
    (Line.DIALLING, Event.GIVE_UP_DUE): (Line.GONE, Action.GIVE_UP),
    (Line.WAITING, Event.DIAL_DUE): (Line.DIALLING, Action.DIAL),
    (Line.WAITING, Event.GIVE_UP_DUE): (Line.GONE, Action.GIVE_UP),
    (Line.LIVE, Event.LOST): (Line.WAITING, Action.BACK_OFF),
    (Line.LIVE, Event.RENEW_DUE): (Line.RENEWING, Action.DIAL),
    (Line.RENEWING, Event.READY): (Line.STANDBY, Action.NOTHING),
    (Line.RENEWING, Event.FAILED): (Line.LIVE, Action.RENEW_LATER),
    (Line.RENEWING, Event.REFUSED): (Line.LIVE, Action.RENEW_LATER),
    (Line.RENEWING, Event.LOST): (Line.DIALLING, Action.NOTHING),
    (Line.STANDBY, Event.REST): (Line.LIVE, Action.ADOPT),
    (Line.STANDBY, Event.LOST): (Line.LIVE, Action.ADOPT),
    (Line.STANDBY, Event.FAILED): (Line.LIVE, Action.RENEW_LATER),
    (Line.STANDBY, Event.RENEW_DUE): (Line.STANDBY, Action.NOTHING),
    **{
        (state, Event.FATAL): (Line.GONE, Action.GIVE_UP)
        for state in (Line.DIALLING, Line.WAITING, Line.LIVE, Line.RENEWING, Line.STANDBY)
    },
}

# Pauses before the second, third, ... try, s; the first comes at once. All are drawn from 75 to 125 %, because a
# server that restarts loses all its sessions in the same instant.
BACK_OFF_S: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
# The first try: not all calls of a cell in the same millisecond.
FIRST_TRY_S: Final = 0.05
# A session that did not live for so long counts as one more failed try.
PROVEN_S: Final = 30
# Sessions that come and go in the meantime: tries until the fallback, even if each of them was a success.
TRIES_MAX: Final = 12
# A renewal that failed is tried again after this.
RENEW_AGAIN_S: Final = 30
# While a fresh session waits for a good moment, one is looked for this often.
STANDBY_S: Final = 0.2
_S: Final = 1_000_000_000


class Sessions:
    """Feed it events; it says what to do, and sets its own timers. Times are ns, monotonic."""

    def __init__(self, timers: Timers, *, reconnect_ns: int, renew_ns: int, rng: random.Random) -> None:
        """`reconnect_ns`: how long the model may be missed before the fallback; `renew_ns`: a session's age."""
        self.line = Line.DIALLING
        self._timers = timers
        self._reconnect_ns = reconnect_ns
        self._renew_ns = renew_ns
        self._random = rng
        self._tries = 0
        self._live_since_ns = 0

    @property
    def is_live(self) -> bool:
        return self.line in (Line.LIVE, Line.RENEWING, Line.STANDBY)

    def start(self, now_ns: int) -> None:
        """The call has begun, and a session is being dialled for it."""
        self._timers.set(Due.GIVE_UP, now_ns + self._reconnect_ns)

    def step(self, event: Event, now_ns: int) -> Action:
        """What is to be done; NOTHING for an illegal event, too."""
        was_live = self.is_live
        self.line, action = SESSION_TABLE.get((self.line, event), (self.line, Action.NOTHING))
        timers = self._timers
        if was_live and not self.is_live:
            timers.cancel(Due.RENEW)
            timers.set(Due.GIVE_UP, now_ns + self._reconnect_ns)
            if now_ns - self._live_since_ns > PROVEN_S * _S:
                self._tries = 0
        if action is Action.BACK_OFF:
            if self._tries >= TRIES_MAX:
                self.line, action = Line.GONE, Action.GIVE_UP
            else:
                timers.set(Due.DIAL, now_ns + self._pause_ns())
                self._tries += 1
        elif action is Action.ADOPT:
            self._live_since_ns = now_ns
            timers.cancel(Due.GIVE_UP)
            timers.set(Due.RENEW, now_ns + self._renew_ns)
        elif action is Action.RENEW_LATER:
            timers.set(Due.RENEW, now_ns + RENEW_AGAIN_S * _S)
        if self.line is Line.STANDBY:
            timers.set(Due.RENEW, now_ns + int(STANDBY_S * _S))
        elif self.line is Line.GONE:
            for due in (Due.GIVE_UP, Due.DIAL, Due.RENEW):
                timers.cancel(due)
        return action

    def _pause_ns(self) -> int:
        if not self._tries:
            return int(self._random.uniform(0, FIRST_TRY_S) * _S)
        return int(BACK_OFF_S[min(self._tries, len(BACK_OFF_S)) - 1] * self._random.uniform(0.75, 1.25) * _S)
