"""When a caller gets the fallback: the settings' sentence or number in place of the agent."""

from __future__ import annotations

from enum import Enum
from typing import Final

# A gateway checks its calls this often.
SWEEP_S: Final = 1.0


class FallbackCause(Enum):
    """Why a call got the fallback. The values are a metric's labels."""

    # At the webhook: the call does not begin.
    NOT_READY = "not_ready"  # draining, or txpacer or every aibridge worker is missing
    FULL = "full"  # MAX_CALLS
    LATE = "late"  # frames leave late: the machine is full before MAX_CALLS
    SOURCE = "source"  # MAX_CALLS_PER_SOURCE
    LOST_TOO_OFTEN = "lost_too_often"  # the media socket was lost RESUMES_MAX times within RESUMES_NS
    # In a live call: its media socket is closed, and the fallback is the answer to Twilio's next request.
    GIVEN_UP = "given_up"  # aibridge ordered it: the model is gone
    UNSERVED = "unserved"  # the worker is gone, and no other one came within MODEL_RECONNECT_SECONDS
    SILENT = "silent"  # txpacer is gone for PACER_GONE_S, so the caller hears nothing


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
