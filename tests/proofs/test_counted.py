"""The checker of counted side effects: what is wrong whatever was done, and what an act has to explain."""

from __future__ import annotations

from typing import Any

import pytest

from proofs.counted import ANSWERED_NS, UNREAD_NS, Doubt, problems
from toolbox.core.answers import TEXTS

MS = 1_000_000
CALLED_NS = 1_000 * MS
ENDED_NS = CALLED_NS + 2 * ANSWERED_NS


def session(*answers: str, closed_ns: int | None = None, told: bool = False) -> dict[str, Any]:
    """A session in which the model called the tool, or that was told of the call; and its answers."""
    call = {"item_id": "i1", "type": "function_call", "status": "completed", "call_id": "c1", "name": "count"}
    outputs = [{"item_id": "o", "type": "function_call_output", "call_id": "c1", "output": each} for each in answers]
    made = [{"type": "response.function_call_arguments.done", "item_id": "i1", "at_ns": CALLED_NS}]
    return {
        "closed_ns": closed_ns,
        "events": [] if told else made,
        "functions": [call | {"arguments": '{"once": "one"}'}, *outputs],
    }


def found(*sessions: dict[str, Any], times: int, ended_ns: int = ENDED_NS) -> list[str | Doubt]:
    return list(problems(sessions, {"one": times}, ended_ns))


def test_a_call_that_is_carried_out_once_and_answered_is_right() -> None:
    assert found(session("counted one"), times=1) == []
    assert found(session(closed_ns=CALLED_NS + 3_000 * MS), session("counted one", told=True), times=1) == []


@pytest.mark.parametrize(
    ("made", "times", "text"),
    [
        (session("counted one"), 2, "was carried out 2 times"),
        (session("counted one"), 0, "is said to be done"),
        (session(TEXTS["unavailable"]), 1, "is said not to be carried out, and it was"),
        (session("counted one", "counted one"), 1, "told the answer of a tool twice"),
        (session(), 1, "was never answered"),
        (session("hello"), 1, "says nothing of its effect"),
    ],
)
def test_no_act_explains_a_wrong_count_or_a_wrong_answer(made: dict[str, Any], times: int, text: str) -> None:
    assert any(isinstance(each, str) and text in each for each in found(made, times=times))


@pytest.mark.parametrize("times", [0, 1])
@pytest.mark.parametrize("outcome", ["unknown", "crashed", "timeout"])
def test_an_unknown_outcome_needs_an_act_near_the_call(outcome: str, times: int) -> None:
    (doubt,) = found(session(TEXTS[outcome]), times=times)
    assert isinstance(doubt, Doubt)
    assert (doubt.at_ns, doubt.until_ns) == (CALLED_NS, CALLED_NS + ANSWERED_NS)


def test_a_session_that_was_given_up_may_be_told_of_a_timeout_near_an_act_and_of_nothing_else() -> None:
    """A worker that was stopped goes on with its session, which its successor has replaced."""
    late = '{"error":"it took too long"}'
    (doubt,) = found(session(late, closed_ns=ENDED_NS), session("counted one", told=True), times=1)
    assert isinstance(doubt, Doubt)
    (problem,) = found(session("counted two", closed_ns=ENDED_NS), session("counted one", told=True), times=1)
    assert problem == "one was answered in 2 ways"
    assert "one is said to be done" in str(found(session(late), session("counted one", told=True), times=0)[-1])


def test_a_call_that_an_interruption_stopped_needs_no_act() -> None:
    assert found(session('{"error": "the caller interrupted; it was not done"}'), times=0) == []


def test_a_call_may_die_with_its_session_only_at_once_and_unmade() -> None:
    at_once, later = CALLED_NS + UNREAD_NS, CALLED_NS + UNREAD_NS + MS
    assert isinstance(found(session(closed_ns=at_once), times=0)[0], Doubt)
    for closed_ns, times in ((at_once, 1), (later, 0)):
        assert "never answered" in str(found(session(closed_ns=closed_ns), times=times)[0])


def test_a_caller_who_hangs_up_does_not_wait_for_an_answer() -> None:
    assert found(session(), times=1, ended_ns=CALLED_NS + ANSWERED_NS) == []
