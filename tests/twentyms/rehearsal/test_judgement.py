"""What a rehearsed call is judged by: each expectation fails alone, with a line that says what was instead."""

from __future__ import annotations

from typing import Any

import pytest

from shared.audio import BYTES_PER_MS
from simulator.carrier.call import CallRecord, CarrierWarning
from simulator.carrier.caller import Said
from simulator.carrier.ear import Ear
from twentyms.rehearsal.judgement import Rehearsed, judged
from twentyms.rehearsal.scenario import convert

S = 1_000_000_000
MS = 1_000_000


def call(*, gap_ms: int = 0, outcome: str = "hung-up-by-caller", answer_ms: int = 700, **more: Any) -> CallRecord:
    """The AI greets for a second; the caller speaks for one; the AI answers for a second, perhaps with a gap in it."""
    ear = Ear()
    ear.media(bytes(1_000 * BYTES_PER_MS), S)
    ear.mark("greeting", S)
    said = Said(3 * S, "hello", bytes(1_000 * BYTES_PER_MS))
    began_ns = 4 * S + answer_ms * MS
    ear.media(bytes(500 * BYTES_PER_MS), began_ns)
    ear.media(bytes(500 * BYTES_PER_MS), began_ns + (500 + gap_ms) * MS)
    return CallRecord("CA1", S, 9 * S, (), ear.record(), (said,), (), more.pop("warnings", ()), outcome=outcome, **more)


def record(*tools: tuple[str, str, str]) -> dict[str, Any]:
    words = [
        {"role": "ai", "heard_text": "Good  evening!", "interrupted": False},
        {"role": "caller", "heard_text": "", "interrupted": False},
        {"role": "ai", "heard_text": "A table is booked.", "interrupted": False},
    ]
    called = [
        {
            "role": "tool",
            "tool": name,
            "arguments": arguments,
            "outcome": outcome,
            "text": "Done.",
            "interrupted": False,
        }
        for name, arguments, outcome in tools
    ]
    return {"turns": words[:2] + called + words[2:], "interruptions": [{}], "agent": "restaurant"}


BOOKED = ("book", '{"guests": 2, "day": "Saturday"}', "done")


def problems(expect: dict[str, Any], *, of: CallRecord | None = None, told: dict[str, Any] | None = None) -> list[str]:
    scenario = convert({"step": [{"say": "hello"}], "expect": expect}, "here")
    return list(judged(Rehearsed(scenario, of or call(), record(BOOKED) if told is None else told)))


def test_a_call_in_which_all_of_it_held_has_no_problem() -> None:
    tool = {"name": "book", "arguments": {"guests": 2}}
    expect = {"tool": [tool], "heard": ["good evening"], "not_heard": ["sorry"], "ended_by": "caller"}
    assert problems(expect | {"agent": "restaurant", "answered_within_ms": 700, "interruptions_at_most": 1}) == []


@pytest.mark.parametrize(
    ("expect", "line"),
    [
        ({"heard": ["a table for three"]}, '"a table for three" was not heard'),
        ({"not_heard": ["Booked"]}, '"Booked" was heard'),
        ({"ended_by": "agent"}, "ended by caller, not by the agent"),
        ({"agent": "office"}, "the agent was restaurant, not office"),
        ({"answered_within_ms": 699}, "answered after 700 ms, within 699 ms was expected"),
        ({"interruptions_at_most": 0}, "1 interruptions, 0 at most were expected"),
        ({"tool": [{"name": "cancel"}]}, "cancel was not called"),
        ({"tool": [{"name": "book", "times": 2}]}, "book was called 1 times, not 2"),
        ({"tool": [{"name": "book", "times": 0}]}, "book was called 1 times, not 0"),
        ({"tool": [{"name": "book", "outcome": "failed"}]}, 'book ended with "done", not "failed": Done.'),
        (
            {"tool": [{"name": "book", "arguments": {"guests": 3}}]},
            'book({"guests": 3}) was called with {"guests": 2, "day": "Saturday"}',
        ),
    ],
)
def test_what_did_not_hold_is_one_line_that_says_what_was_instead(expect: dict[str, Any], line: str) -> None:
    assert problems(expect) == [line]


def test_a_tool_that_must_not_be_called_and_was_not_is_right() -> None:
    assert problems({"tool": [{"name": "book", "times": 0}]}, told=record()) == []


def test_a_gap_is_a_problem_unless_the_scenario_permits_it() -> None:
    assert problems({}, of=call(gap_ms=120)) == ["120 ms of gaps at the ear, 0 at most were expected"]
    assert problems({"gaps_ms_at_most": 120}, of=call(gap_ms=120)) == []


def test_a_call_that_ended_in_no_ordinary_way_or_that_twilio_would_warn_about_is_a_problem() -> None:
    assert problems({}, of=call(outcome="time-limit")) == ["the call ended with time-limit"]
    warned = call(warnings=(CarrierWarning(31951, S, "a binary message"),))
    assert problems({}, of=warned) == ["a binary message (as Twilio's debugger would say, 31951)"]


def test_a_call_without_a_record_or_without_a_stream_says_where_to_look() -> None:
    assert problems({"heard": ["x"]}, told={}) == ["the call has no record; look at the processes' log"]
    nobody = CallRecord("CA1", 0, 0, (), Ear().record(), (), (), (), outcome="failed")
    assert problems({}, of=nobody) == ["the call was not answered (failed); look at the processes' log"]


def test_words_over_the_ai_are_no_turn_that_is_timed() -> None:
    over = call()
    into = Said(S, "wait", bytes(300 * BYTES_PER_MS))
    scenario = convert({"step": [{"say": "x"}]}, "here")
    both = CallRecord(
        **{name: getattr(over, name) for name in over.__dataclass_fields__} | {"said": (into, *over.said)}
    )
    assert Rehearsed(scenario, both, record()).answers_ms == [700.0]


def test_the_transcript_holds_what_was_heard_and_the_tools() -> None:
    scenario = convert({"step": [{"say": "x"}]}, "here")
    assert Rehearsed(scenario, call(), record(BOOKED)).transcript.splitlines() == [
        "ai: Good  evening!",
        "caller: (not written down)",
        'tool book {"guests": 2, "day": "Saturday"}: Done.',
        "ai: A table is booked.",
    ]
