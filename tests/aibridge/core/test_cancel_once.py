"""A response is cancelled at most once, and only while the model makes it."""

from __future__ import annotations

from aibridge.core.commands import (
    DialModel,
    LeaveSession,
    WithdrawSpeech,
)
from aibridge.models.port import Ask, CallerWords, Cancel, Truncate
from tests.aibridge.bench import Bench


def test_interrupting_an_active_response_cancels_withdraws_and_then_truncates() -> None:
    bench = Bench()
    bench.began()
    bench.speech(3_000)
    bench.ear()
    bench.now += 1_000
    bench.speaks()
    assert bench.take()[1:] == [Cancel(1), WithdrawSpeech(1, False)]
    bench.withdrawn(1, (1, 1_120))
    assert bench.take() == []  # the server may still append to the item
    bench.ended(outcome="cancelled")
    assert bench.all(Truncate) == [Truncate(1, 1_120)]


def test_interrupting_a_finished_response_sends_no_cancel() -> None:
    bench = Bench()
    bench.answers()
    bench.speaks()
    bench.withdrawn(1, (1, 1_100))
    assert bench.all(Cancel) == []
    assert bench.all(Truncate) == [Truncate(1, 1_100)]
    assert bench.count("aibridge_cancels_spared") == 1


def test_repeated_speech_started_cancels_and_withdraws_once() -> None:
    bench = Bench()
    bench.began()
    bench.speech(3_000)
    bench.ear()
    for _ in range(3):
        bench.speaks()
    assert len(bench.all(Cancel)) == 1
    assert len(bench.all(WithdrawSpeech)) == 1
    assert bench.count("aibridge_interruptions") == 1


def test_speech_during_a_request_cancels_the_response_when_it_begins() -> None:
    bench = Bench()
    bench.answers()
    bench.began(2)
    bench.speaks()
    bench.stops()  # a response is in the way of an answer
    bench.withdrawn(1, (1, 1_000))
    bench.ended(2, "cancelled")
    bench.wait(150)
    assert len(bench.all(Ask)) == 1
    bench.speaks(2)
    assert len(bench.all(Cancel)) == 1
    bench.began(3, "answer")
    assert bench.all(Cancel)[-1] == Cancel(3)


def test_a_cancel_that_crosses_the_end_of_its_response_is_harmless() -> None:
    bench = Bench()
    bench.began()
    bench.speech(3_000)
    bench.ear()
    bench.speaks()
    bench.ended()
    bench.fault("cancel_too_late")
    bench.withdrawn(1, (1, 200))
    bench.stops()
    bench.began(2)
    assert bench.all(Truncate) == [Truncate(1, 200)]
    assert bench.count("aibridge_illegal_events") == 0


def test_an_unanswered_cancel_costs_the_session_and_the_next_session_answers() -> None:
    bench = Bench()
    bench.began()
    bench.speech(3_000)
    bench.ear()
    bench.now += 1_000
    bench.speaks()
    bench.withdrawn(1, (1, 1_120))
    bench.stops()
    bench.event(CallerWords(1, "Stop."))
    bench.wait(4_900)
    assert bench.all(LeaveSession) == []
    bench.wait(200)
    assert bench.all(LeaveSession) == [LeaveSession()]
    assert bench.all(DialModel) == [DialModel()]
    bench.ready()
    assert bench.all(Ask)[-1].purpose == "answer"
    assert bench.count("aibridge_stalled_sessions") == 1
