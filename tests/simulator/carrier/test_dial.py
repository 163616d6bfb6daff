"""How a <Dial> goes at the simulated carrier."""

from __future__ import annotations

import pytest

from simulator.carrier.dial import INVALID_CALLER_ID, Callee, Course, course
from simulator.carrier.twiml import Verb

CALLER, OURS, DESK = "+15550006", "+15550100", "+15550123"


def dialled(callee: Callee, *, shown: str = "", timeout: str = "20", caller: str = CALLER) -> Course:
    attributes = {"timeout": timeout} | ({"callerId": shown} if shown else {})
    return course(Verb("Dial", DESK, attributes), callee, caller, OURS)


@pytest.mark.parametrize(
    ("callee", "status", "ring_s", "talk_s", "left"),
    [
        (Callee(), "completed", 1, 1, False),
        (Callee("busy"), "busy", 1, 0, False),
        (Callee("no-answer"), "no-answer", 20, 0, False),
        (Callee(after_s=25), "no-answer", 20, 0, False),
        (Callee("failed"), "failed", 0.2, 0, False),
        (Callee(after_s=5, caller_leaves_s=3), "canceled", 3, 0, True),
        (Callee(talks_s=60, caller_leaves_s=3), "completed", 1, 2, True),
        (Callee(caller_leaves_s=30), "completed", 1, 1, False),
    ],
)
def test_it_rings_and_ends_as_the_callee_and_the_caller_do(
    callee: Callee, status: str, ring_s: float, talk_s: float, left: bool
) -> None:
    how = dialled(callee)
    assert (how.status, how.ring_s, how.talk_s, how.caller_left) == (status, ring_s, talk_s, left)


@pytest.mark.parametrize(
    ("shown", "caller", "status", "warning"),
    [
        ("", CALLER, "completed", 0),
        (CALLER, CALLER, "completed", 0),
        (OURS, "anonymous", "completed", 0),
        ("", "anonymous", "failed", INVALID_CALLER_ID),
        ("+15559999", CALLER, "failed", INVALID_CALLER_ID),
    ],
)
def test_only_the_calling_and_the_called_number_may_be_shown(
    shown: str, caller: str, status: str, warning: int
) -> None:
    how = dialled(Callee(), shown=shown, caller=caller)
    assert (how.status, how.warning) == (status, warning)


def test_a_leg_ends_when_one_of_the_two_hangs_up() -> None:
    leg = dialled(Callee(talks_s=2)).record("CA9", DESK, 10**9)
    assert (leg.answered_ns, leg.ended_ns, leg.status) == (2 * 10**9, 4 * 10**9, "completed")
    assert dialled(Callee("busy")).record("CA9", DESK, 10**9).answered_ns == 0
    assert dialled(Callee(talks_s=2)).fields("CA9") == {
        "DialCallSid": "CA9",
        "DialCallStatus": "completed",
        "DialCallDuration": "2",
    }
