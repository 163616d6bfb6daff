"""What the caller hears."""

from __future__ import annotations

from aibridge.core.commands import Speak
from aibridge.core.rules import Rules
from aibridge.models.port import Truncate
from shared.messages import PlayoutShifted
from tests.aibridge.bench import MS, Bench


def test_twelve_minutes_of_speech_that_is_heard_as_it_comes_are_spoken_whole() -> None:
    bench = Bench()
    bench.began()
    bench.speech(1_000)
    bench.ear()
    for _ in range(12 * 60 - 1):
        bench.now += 500
        bench.speech(1_000)
    assert sum(len(each.data) for each in bench.all(Speak)) == 12 * 60 * 8_000
    assert bench.count("aibridge_excess_bytes") == 0


def test_an_utterance_without_audio_delays_nothing() -> None:
    bench = Bench()
    bench.began()
    bench.speech(0)
    bench.speech_ended()
    bench.ended()
    assert bench.talk.utterances.last_open() == 0


def test_a_gap_does_not_count_as_heard() -> None:
    bench = Bench()
    bench.answers()
    bench.report(PlayoutShifted(1, 1, 700 * MS))
    assert bench.talk.history.turns[0].gap_ns == 700 * MS


def test_an_unanswered_clear_counts_as_heard_what_preceded_it() -> None:
    bench = Bench(rules=Rules(barge_in="clear", lead_ns=600 * MS))
    bench.answers()
    bench.speaks()
    bench.wait(3_000)
    assert bench.all(Truncate) == [Truncate(1, 1_000)]


def test_a_goodbye_does_not_wait_for_the_mark_of_speech_that_a_clear_threw_away() -> None:
    bench = Bench(rules=Rules(barge_in="clear"))
    bench.answers()
    bench.speaks()
    bench.withdrawn(1, (1, 1_000))
    assert bench.talk.playout.unconfirmed() == 0


def test_new_speech_goes_on_while_a_clear_is_not_answered() -> None:
    bench = Bench(rules=Rules(barge_in="clear"))
    bench.answers()
    bench.speaks()
    bench.take()
    bench.now += 300
    bench.stops()
    bench.began(2)
    bench.speech(500, utterance=2, response=2)
    assert [each.utterance for each in bench.take() if isinstance(each, Speak)] == [2]
    bench.ear(2)
    bench.withdrawn(1, (1, 1_050))
    assert bench.all(Truncate) == [Truncate(1, 1_050)]
    assert bench.talk.utterances.last_open() == 2
