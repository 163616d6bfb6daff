"""The legs that a <Dial> makes: whom it reaches, what they see, and how it ends.

As Twilio does it: the calling and the called number may be shown, and verified ones; any other makes the attempt fail
(error 13214). When the leg ends or never came about, `action` is requested with DialCallStatus, also for a caller who
has hung up; then the answer is carried out for nobody. Pure: times are ns, passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from .twiml import Verb

Status = Literal["completed", "busy", "no-answer", "failed", "canceled"]
# Error code of Twilio's debugger: "Dial: Invalid callerId value".
INVALID_CALLER_ID: Final = 13214
# A number that cannot be reached, and one that may not be shown, fail this fast.
FAILS_S: Final = 0.2
# Twilio's.
TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Callee:
    """Somebody who can be dialled."""

    does: Literal["answers", "busy", "no-answer", "failed"] = "answers"
    # From the dialling to the answer, or to the busy signal.
    after_s: float = 1.0
    # Then they speak this long, and the called party hangs up.
    talks_s: float = 1.0
    # The caller hangs up this long after the dialling; None: never.
    caller_leaves_s: float | None = None
    # Their network accepts no call with the number of somebody else.
    refuses_callers_number: bool = False


@dataclass(frozen=True)
class LegRecord:
    """A leg that a <Dial> made. Times are ns; `answered_ns` 0: nobody answered."""

    leg_sid: str
    to: str
    caller_id: str
    began_ns: int
    answered_ns: int
    ended_ns: int
    status: Status


class Course(NamedTuple):
    """How a <Dial> goes: it rings, and if it is answered they speak."""

    caller_id: str
    ring_s: float
    talk_s: float
    status: Status
    caller_left: bool = False
    # A code for the debugger; 0: none.
    warning: int = 0

    def record(self, leg_sid: str, to: str, began_ns: int) -> LegRecord:
        answered_ns = began_ns + int(self.ring_s * 1e9)
        ended_ns = answered_ns + int(self.talk_s * 1e9)
        is_answered = self.status == "completed"
        return LegRecord(leg_sid, to, self.caller_id, began_ns, answered_ns * is_answered, ended_ns, self.status)

    def fields(self, leg_sid: str) -> dict[str, str]:
        """What the request to `action` has beside the fields of any request."""
        spoken = {"DialCallDuration": str(round(self.talk_s))} if self.status == "completed" else {}
        return {"DialCallSid": leg_sid, "DialCallStatus": self.status, **spoken}


def course(verb: Verb, callee: Callee, from_number: str, to_number: str) -> Course:
    """How this <Dial> of a caller goes. Without a `callerId`, the caller's number is shown."""
    caller_id = verb.attributes.get("callerId") or from_number
    if caller_id not in (from_number, to_number) or not caller_id.startswith("+"):
        return Course(caller_id, FAILS_S, 0.0, "failed", warning=INVALID_CALLER_ID)
    if callee.does == "failed" or (callee.refuses_callers_number and caller_id == from_number):
        return Course(caller_id, FAILS_S, 0.0, "failed")
    timeout_s = float(verb.attributes.get("timeout", TIMEOUT_S))
    leaves_s = callee.caller_leaves_s
    ring_s = timeout_s if callee.does == "no-answer" else min(callee.after_s, timeout_s)
    if leaves_s is not None and leaves_s < ring_s:
        return Course(caller_id, leaves_s, 0.0, "canceled", caller_left=True)
    if callee.does == "busy":
        return Course(caller_id, ring_s, 0.0, "busy")
    if callee.does == "no-answer" or callee.after_s > timeout_s:
        return Course(caller_id, ring_s, 0.0, "no-answer")
    talk_s = callee.talks_s
    if leaves_s is not None and leaves_s < ring_s + talk_s:
        return Course(caller_id, ring_s, leaves_s - ring_s, "completed", caller_left=True)
    return Course(caller_id, ring_s, talk_s, "completed")


# By the number or address that is dialled.
Callees = Mapping[str, Callee]
