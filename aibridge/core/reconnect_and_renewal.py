"""The sessions of one call: dialled, lost, dialled again, renewed before they expire.

A provider ends a session after a time (often 60 minutes), without a warning and without a way to resume it: a new
session is an empty conversation. A longer call gets a new session before that, and a call that loses its session gets a
new one as soon as possible. The conversation tells the new session what was said.
"""

from __future__ import annotations

import random
from enum import Enum, auto
from typing import Final

from shared.metrics import Counter

from .chart import Chart, Table, becomes, stays
from .timers import Due, Timers


class Session(Enum):
    """The state of the connection between a call and its model."""

    DIALLING = auto()  # no session; one is being dialled
    WAITING = auto()  # no session; the next try is due later
    LIVE = auto()
    RENEWING = auto()  # live, and a fresh session is being dialled
    STANDBY = auto()  # live, and a fresh session is ready
    GONE = auto()  # given up


class SessionStep(Enum):
    READY = auto()  # the dialled session has our settings
    FAILED = auto()  # the dialled session did not come, or went; another try may help
    REFUSED = auto()  # the model refuses: a retry would fail in the same way
    LOST = auto()  # the live session is gone
    EXHAUSTED = auto()  # lost or failed once more, after too many tries
    FATAL = auto()  # the live session said that no session can go on
    DIAL_DUE = auto()
    RENEW_DUE = auto()
    GIVE_UP_DUE = auto()
    HAND_OFF = auto()  # another agent's session is wanted
    REST = auto()  # nobody speaks and nothing is being made: a good moment to change sessions


class SessionAct(Enum):
    DIAL = auto()
    ADOPT = auto()  # the dialled session becomes the call's
    BACK_OFF = auto()
    RENEW_LATER = auto()
    FALL_BACK = auto()


_LIVE: Final = (Session.LIVE, Session.RENEWING, Session.STANDBY)
_AWAY: Final = (Session.DIALLING, Session.WAITING)

SESSION_TABLE: Final[Table[Session, SessionStep, SessionAct]] = {
    (Session.DIALLING, SessionStep.READY): (Session.LIVE, (SessionAct.ADOPT,)),
    (Session.DIALLING, SessionStep.FAILED): (Session.WAITING, (SessionAct.BACK_OFF,)),
    (Session.DIALLING, SessionStep.REFUSED): (Session.GONE, (SessionAct.FALL_BACK,)),
    (Session.WAITING, SessionStep.DIAL_DUE): (Session.DIALLING, (SessionAct.DIAL,)),
    **becomes(_AWAY, SessionStep.GIVE_UP_DUE, Session.GONE, SessionAct.FALL_BACK),
    (Session.LIVE, SessionStep.LOST): (Session.WAITING, (SessionAct.BACK_OFF,)),
    **becomes((Session.DIALLING, Session.LIVE), SessionStep.EXHAUSTED, Session.GONE, SessionAct.FALL_BACK),
    (Session.LIVE, SessionStep.RENEW_DUE): (Session.RENEWING, (SessionAct.DIAL,)),
    **becomes(
        (Session.LIVE, Session.RENEWING, Session.STANDBY), SessionStep.HAND_OFF, Session.RENEWING, SessionAct.DIAL
    ),
    (Session.DIALLING, SessionStep.HAND_OFF): (Session.DIALLING, (SessionAct.DIAL,)),
    (Session.RENEWING, SessionStep.READY): (Session.STANDBY, ()),
    **becomes((Session.RENEWING,), SessionStep.FAILED, Session.LIVE, SessionAct.RENEW_LATER),
    **becomes((Session.RENEWING,), SessionStep.REFUSED, Session.LIVE, SessionAct.RENEW_LATER),
    (Session.RENEWING, SessionStep.LOST): (Session.DIALLING, ()),
    (Session.STANDBY, SessionStep.REST): (Session.LIVE, (SessionAct.ADOPT,)),
    (Session.STANDBY, SessionStep.LOST): (Session.LIVE, (SessionAct.ADOPT,)),
    (Session.STANDBY, SessionStep.FAILED): (Session.LIVE, (SessionAct.RENEW_LATER,)),
    **becomes((*_AWAY, *_LIVE), SessionStep.FATAL, Session.GONE, SessionAct.FALL_BACK),
    # The moment was not good; RENEW_DUE comes again.
    **stays((Session.STANDBY,), SessionStep.RENEW_DUE),
}

# Pauses before the second, third, ... attempt, s; the first comes at once. Each is drawn from 75 to 125 %, because a
# server that restarts loses all its sessions at the same instant.
BACK_OFF_S: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
# Spreads the first attempts of a cell's calls, s.
FIRST_TRY_S: Final = 0.05
# A session that lived for less counts as another failed attempt.
PROVEN_S: Final = 30
# Attempts until the fallback when sessions come and go, even if each attempt succeeds.
TRIES_MAX: Final = 12
# A failed renewal is retried after this.
RENEW_AGAIN_S: Final = 30
# A session that is ready to take over checks for a good moment this often.
STANDBY_S: Final = 0.2
_S: Final = 1_000_000_000


class Sessions:
    """The region of the sessions, with its times. Times are ns, monotonic."""

    def __init__(
        self, timers: Timers, illegal: Counter, *, reconnect_ns: int, renew_ns: int, rng: random.Random
    ) -> None:
        """`reconnect_ns`: how long a call may be without a model; `renew_ns`: the age at which a session is renewed."""
        self.chart = Chart(SESSION_TABLE, Session.DIALLING, illegal)
        self._timers = timers
        self._reconnect_ns = reconnect_ns
        self._renew_ns = renew_ns
        self._random = rng
        self._tries = 0
        self._live_since_ns = 0

    @property
    def is_live(self) -> bool:
        return self.chart.state in _LIVE

    def start(self, now_ns: int) -> None:
        """The call has begun, and a session is being dialled for it."""
        self._timers.set(Due.GIVE_UP, now_ns + self._reconnect_ns)

    def step(self, event: SessionStep, now_ns: int) -> tuple[SessionAct, ...]:
        """Move by `event` and return the acts. BACK_OFF and RENEW_LATER are carried out here."""
        timers, was_live = self._timers, self.is_live
        if was_live and now_ns - self._live_since_ns > PROVEN_S * _S:
            self._tries = 0
        if (
            self._tries >= TRIES_MAX
            and event in (SessionStep.LOST, SessionStep.FAILED)
            and self.chart.allows(SessionStep.EXHAUSTED)
        ):
            event = SessionStep.EXHAUSTED
        acts = self.chart.step(event)
        if was_live and not self.is_live:
            timers.cancel(Due.RENEW)
            timers.set(Due.GIVE_UP, now_ns + self._reconnect_ns)
        if event is SessionStep.HAND_OFF:
            timers.cancel(Due.RENEW)
        for act in acts:
            if act is SessionAct.BACK_OFF:
                timers.set(Due.DIAL, now_ns + self._pause_ns())
                self._tries += 1
            elif act is SessionAct.ADOPT:
                self._live_since_ns = now_ns
                timers.cancel(Due.GIVE_UP)
                timers.set(Due.RENEW, now_ns + self._renew_ns)
            elif act is SessionAct.RENEW_LATER:
                timers.set(Due.RENEW, max(now_ns + RENEW_AGAIN_S * _S, self._live_since_ns + self._renew_ns))
        if self.chart.state is Session.STANDBY:
            timers.set(Due.RENEW, now_ns + int(STANDBY_S * _S))
        elif self.chart.state is Session.GONE:
            for due in (Due.GIVE_UP, Due.DIAL, Due.RENEW):
                timers.cancel(due)
        return acts

    def _pause_ns(self) -> int:
        if not self._tries:
            return int(self._random.uniform(0, FIRST_TRY_S) * _S)
        return int(BACK_OFF_S[min(self._tries, len(BACK_OFF_S)) - 1] * self._random.uniform(0.75, 1.25) * _S)
