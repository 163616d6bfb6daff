"""When a caller gets the fallback: the settings' sentence or number in place of the agent."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from .hangup import Event

# A gateway checks its calls this often.
SWEEP_S: Final = 1.0


class FallbackCause(Enum):
    """Why a call got the fallback. The values are a metric's labels."""

    NOT_READY = "not_ready"  # draining, or txpacer or every aibridge worker is missing
    LATE = "late"  # frames leave late: the machine is full before MAX_CALLS
    FULL = "full"  # MAX_CALLS
    SOURCE = "source"  # MAX_CALLS_PER_SOURCE
    LOST_TOO_OFTEN = "lost_too_often"  # the media socket was lost RESUMES_MAX times within RESUMES_NS
    GIVEN_UP = "given_up"  # aibridge ordered it: the model is gone
    UNSERVED = "unserved"  # the worker is gone, and no other one came within MODEL_RECONNECT_SECONDS
    SILENT = "silent"  # txpacer is gone for PACER_GONE_S, so the caller hears nothing


class Caller(Enum):
    """Whose call a webhook is about."""

    NEW = auto()
    REPEATED = auto()  # our first answer got lost; the call has its place
    BACK = auto()  # a live call that lost its media socket: it had its place, perhaps at a gateway that is gone


# At the webhook the call does not begin. The first cause that is the case, and that counts for this caller, decides.
AT_THE_WEBHOOK: Final[Mapping[FallbackCause, frozenset[Caller]]] = {
    FallbackCause.NOT_READY: frozenset(Caller),
    FallbackCause.LATE: frozenset((Caller.NEW, Caller.REPEATED)),
    FallbackCause.FULL: frozenset((Caller.NEW,)),
    FallbackCause.SOURCE: frozenset((Caller.NEW,)),
    FallbackCause.LOST_TOO_OFTEN: frozenset((Caller.BACK,)),
}
# The cell has no room, and another cell of a fleet may have some. The other causes are about the call.
OF_THE_CELL: Final = frozenset((FallbackCause.NOT_READY, FallbackCause.LATE, FallbackCause.FULL))
# In a live call the media socket is closed, and the fallback is the answer to Twilio's next request. So it is after an
# order of aibridge (GIVEN_UP).
IN_A_CALL: Final[Mapping[Event, FallbackCause]] = {
    Event.UNSERVED: FallbackCause.UNSERVED,
    Event.PACER_GONE: FallbackCause.SILENT,
}


class Absence:
    """How long something that calls need has been missing, in sweeps: time spent suspended must not count."""

    def __init__(self, patience_s: float) -> None:
        self._patience_sweeps = patience_s / SWEEP_S
        # Consecutive sweeps that found it missing.
        self._sweeps = 0

    def swept(self, *, is_missing: bool) -> bool:
        """Count one sweep. Returns whether it has now been missing for longer than the patience."""
        self._sweeps = self._sweeps + 1 if is_missing else 0
        return self._sweeps > self._patience_sweeps
