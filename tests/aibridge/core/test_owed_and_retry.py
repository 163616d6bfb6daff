"""What is owed is asked for once nothing is in the way, and failures are retried."""

from __future__ import annotations

from aibridge.core.commands import (
    EndCall,
    Speak,
)
from aibridge.core.rules import Line, Script
from aibridge.models.port import Ask, Truncate
from shared.plan import Fallback
from tests.aibridge.bench import Bench


def test_a_turn_that_ended_before_an_unwanted_response_began_is_answered_after_that_response() -> None:
    bench = Bench()
    bench.answers()
    bench.began(2)
    bench.speaks()
    bench.stops()
    bench.withdrawn(1, (1, 1_000))
    bench.ended(2, "cancelled")
    bench.wait(150)
    assert len(bench.all(Ask)) == 1
    bench.speaks(2)
    bench.stops(2)  # all of it in one instant, as a session hears what waited for it
    bench.began(3, "answer")
    bench.ended(3, "cancelled")
    bench.wait(150)
    assert len(bench.all(Ask)) == 2


def test_the_answer_is_asked_for_only_after_the_truth_was_told() -> None:
    bench = Bench()
    bench.began()
    bench.speech(3_000)
    bench.ear()
    bench.speaks()
    bench.stops()
    bench.ended(outcome="cancelled")
    bench.wait(500)
    assert bench.all(Ask) == []  # txpacer has not said yet what was heard
    bench.withdrawn(1, (1, 300))
    kinds = [type(command) for command in bench.take()]
    assert kinds == [Truncate, Ask]


def test_an_answer_that_the_model_owes_and_never_makes_is_asked_for() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    bench.wait(1_900)
    assert bench.all(Ask) == []
    bench.wait(200)
    assert bench.all(Ask) == [Ask(1, "answer")]


def test_failed_responses_are_asked_for_again_and_in_the_end_the_caller_gets_the_fallback() -> None:
    script = Script(greeting=Line("Hi."), fallback=Line("Sorry.", bytes(800)))
    bench = Bench(script=script)
    for number in range(1, 5):
        assert len(bench.all(Ask)) == number
        bench.began(number, "greeting")
        bench.ended(number, "failed")
        bench.wait(3_000)
    assert bench.all(EndCall) == [EndCall(Fallback(), 1, "the model fails")]
    assert bench.all(Speak) == [Speak(1, bytes(800))]


def test_an_incomplete_response_without_a_sound_is_retried_and_counted() -> None:
    bench = Bench()
    bench.began()
    bench.ended(outcome="incomplete")
    assert bench.count("aibridge_retries") == 1
    bench.wait(1_000)
    assert [each.purpose for each in bench.all(Ask)] == ["answer"]


def test_an_incomplete_response_that_spoke_is_heard_and_not_retried() -> None:
    bench = Bench()
    bench.began()
    bench.speech(500)
    bench.ended(outcome="incomplete")
    bench.wait(1_000)
    assert bench.all(Ask) == []


def test_an_incomplete_response_that_the_caller_interrupted_is_not_retried() -> None:
    bench = Bench()
    bench.began()
    bench.speaks()
    bench.ended(outcome="incomplete")
    bench.wait(1_000)
    assert bench.count("aibridge_retries") == 0
