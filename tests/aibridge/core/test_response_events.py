"""What the model's responses, tools and faults do to a conversation."""

from __future__ import annotations

import pytest

from aibridge.core.commands import DialModel, LeaveSession, Speak
from aibridge.models.port import AnswerTool, Ask
from tests.aibridge.bench import Bench


def test_a_response_that_is_made_or_heard_does_not_count_as_stalled() -> None:
    bench = Bench()
    bench.began()
    for _ in range(6):
        bench.wait(15_000)
        bench.speech(15_000)
    bench.ear()
    bench.wait(6 * 15_000 - 100)
    assert bench.all(LeaveSession) == []
    bench.wait(1_200)
    assert bench.all(LeaveSession) == [LeaveSession()]


def test_a_response_that_yields_nothing_for_20_s_in_silence_costs_its_session() -> None:
    bench = Bench()
    bench.began()
    bench.wait(19_900)
    assert bench.all(LeaveSession) == []
    bench.wait(200)
    assert bench.all(LeaveSession) == [LeaveSession()]
    bench.wait(100)
    assert bench.all(DialModel) == [DialModel()]
    assert bench.count("bridge_stalled_sessions") == 1


@pytest.mark.parametrize("response", [0, 2])
def test_speech_of_a_response_that_has_not_begun_is_dropped_and_counted(response: int) -> None:
    bench = Bench()
    bench.began(1)
    bench.speech(100, 1, response)
    assert bench.all(Speak) == []
    assert bench.count("bridge_illegal_events") == 1


def test_a_response_that_begins_twice_begins_once() -> None:
    bench = Bench()
    bench.began(1)
    bench.began(1)
    bench.began(2)
    assert bench.count("bridge_illegal_events") == 2


def test_a_tool_that_the_agent_does_not_have_is_answered_and_the_model_speaks_again() -> None:
    bench = Bench()
    bench.began()
    bench.calls("dance")
    bench.ended()
    assert bench.all(AnswerTool) == [AnswerTool(1, '{"error":"no such function"}')]
    bench.wait(150)
    assert [each.purpose for each in bench.all(Ask)] == ["answer"]


def test_a_tool_of_an_interrupted_response_is_not_carried_out() -> None:
    bench = Bench()
    bench.began()
    bench.speech(1_000)
    bench.speaks()
    bench.calls("end_call")
    assert bench.all(AnswerTool) == [AnswerTool(1, '{"error":"the caller interrupted; it was not done"}')]


def test_a_fault_about_another_request_changes_nothing() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    bench.wait(2_100)
    bench.fault("other", 7)
    bench.wait(1_000)
    assert len(bench.all(Ask)) == 1
    assert bench.count("bridge_errors") == 1
