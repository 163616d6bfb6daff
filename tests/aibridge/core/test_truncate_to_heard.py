"""The model's conversation is cut to what was heard."""

from __future__ import annotations

import pytest

from aibridge.core.commands import (
    EndSpeech,
    Speak,
)
from aibridge.core.utterances import UNHEARD_MAX_BYTES
from aibridge.models.port import Forget, Tell, Truncate, Untell
from shared.liveness import WITHDRAWN_S
from tests.aibridge.bench import Bench


def test_the_utterance_under_the_playhead_is_cut_and_later_ones_are_forgotten() -> None:
    bench = Bench()
    bench.began()
    bench.speech(800, 1)
    bench.speech(4_000, 2)
    bench.ended()
    bench.ear()
    bench.speaks()
    bench.withdrawn(2, (1, 500))
    assert bench.all(Truncate) == [Truncate(1, 500)]
    assert bench.all(Forget) == [Forget(2)]


def test_an_utterance_that_was_heard_whole_is_not_cut() -> None:
    bench = Bench()
    bench.began()
    bench.speech(800, 1)
    bench.speech(4_000, 2)
    bench.ended()
    bench.ear(1)
    bench.heard(1)
    bench.ear(2)
    bench.speaks()
    bench.withdrawn(2, (2, 900))
    assert bench.all(Truncate) == [Truncate(2, 900)]
    assert bench.all(Forget) == []


def test_late_speech_of_a_cancelled_response_never_reaches_the_line_and_counts_as_received() -> None:
    bench = Bench()
    bench.began()
    bench.speech(1_000)
    bench.ear()
    bench.speaks()
    bench.withdrawn(1, (1, 120))
    before = len(bench.all(Speak))
    bench.speech(1_000)
    bench.speech(700, 2)
    assert len(bench.all(Speak)) == before
    assert bench.count("bridge_late_deltas") == 2
    bench.ended(outcome="cancelled")
    assert bench.all(Truncate) == [Truncate(1, 120)]
    assert bench.all(Forget) == [Forget(2)]


def test_an_unanswered_withdrawal_is_estimated_from_the_ears_clock() -> None:
    bench = Bench()
    bench.answers()
    bench.speaks()
    bench.wait(WITHDRAWN_S * 1_000 + 100)
    assert bench.count("bridge_unanswered_withdrawals") == 1
    (cut,) = bench.all(Truncate)
    assert 1_000 <= cut.heard_ms <= 5_000


def test_an_interruption_after_a_lost_session_corrects_the_text_that_the_new_one_was_told() -> None:
    bench = Bench()
    bench.began()
    bench.speech(4_000, words="one two three four")
    bench.ear()
    bench.lost()
    bench.wait(100)
    bench.ready()
    bench.began(2, "continue")
    bench.speaks()
    bench.ended(2, "cancelled")
    bench.withdrawn(1, (1, 2_000))
    assert bench.all(Tell)[-1] == Tell(2, "ai", "one two", 1)
    assert bench.all(Untell) == [Untell(1)]
    assert bench.all(Truncate) == []


def test_the_rest_of_a_response_that_exceeds_the_line_is_dropped_and_the_model_is_told() -> None:
    bench = Bench()
    bench.began()
    bench.speech(1_000)
    bench.ear()
    for _ in range(12 * 60 - 1):  # twelve minutes, in twelve seconds
        bench.now += 1_000 / 60
        bench.speech(1_000)
    said_ms = sum(len(each.data) for each in bench.all(Speak)) / 8
    assert said_ms == pytest.approx(UNHEARD_MAX_BYTES / 8 + bench.now, abs=2_500)
    bench.speech_ended()
    bench.speech(1_000, 2)
    bench.ended()
    assert len(bench.all(EndSpeech)) == 1
    assert bench.count("bridge_excess_bytes") + bench.count("bridge_late_deltas") > 0
    bench.heard()
    assert bench.talk.history.turns[0].heard_bytes == said_ms * 8
    assert bench.all(Truncate) == [Truncate(1, int(said_ms))]
    assert bench.all(Forget) == [Forget(2)]
    assert bench.talk.utterances.last_open() == 0
