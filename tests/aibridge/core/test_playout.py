"""What the caller hears."""

from __future__ import annotations

from aibridge.core.commands import (
    Speak,
)
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
    assert bench.count("bridge_excess_bytes") == 0


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
