"""The wait for an answer, split into its parts."""

from __future__ import annotations

import pytest

from aibridge.core.latency import Latency, split
from aibridge.models.port import CallerSilent, TurnTaken
from shared.facts import LATENCY_PARTS
from shared.messages import PlayoutStarted
from tests.aibridge.bench import Bench

MS = 1_000_000


def test_the_parts_of_an_answer_add_up_to_the_wait_from_last_sound_to_ear_and_the_path_there_and_back() -> None:
    latency = split(
        last_sound_ns=1_000 * MS,
        silent_ns=1_550 * MS,
        first_delta_ns=1_900 * MS,
        ear_ns=1_930 * MS,
        ahead_ns=20 * MS,
        round_trip_ns=80 * MS,
    )
    assert latency == Latency(40 * MS, 550 * MS, 350 * MS, 10 * MS, 60 * MS)
    assert latency is not None
    assert sum(latency) == (1_930 - 1_000 + 80) * MS


def test_a_path_that_no_ping_has_measured_is_unknown_and_not_zero() -> None:
    latency = split(last_sound_ns=0, silent_ns=5, first_delta_ns=6, ear_ns=9, ahead_ns=2, round_trip_ns=0)
    assert latency == Latency(-1, 5, 1, 1, 2)


def test_speech_that_began_before_the_caller_fell_silent_answers_nothing() -> None:
    assert split(last_sound_ns=0, silent_ns=5, first_delta_ns=4, ear_ns=9, ahead_ns=0, round_trip_ns=1) is None


def answer(bench: Bench, *, silent_ms: int) -> None:
    bench.speaks()
    bench.falls_silent()
    bench.event(CallerSilent(1, silent_ms))
    bench.event(TurnTaken(1))
    bench.wait(300)
    bench.began()
    bench.wait(50)
    bench.speech(200)
    bench.wait(4)
    bench.report(PlayoutStarted(1, 1, bench.ns, 0, 60 * MS))


@pytest.mark.parametrize(
    ("part", "expected_s"),
    [("carrier", 0.03), ("detection", 0.54), ("model", 0.35), ("line", 0.004), ("network", 0.03)],
)
def test_an_answer_is_counted_by_part(part: str, expected_s: float) -> None:
    bench = Bench()
    answer(bench, silent_ms=540)
    counted = bench.page.histogram("aibridge_latency_seconds", part)
    assert counted.count == 1
    assert counted._cells[counted._sum_at] == pytest.approx(expected_s)


def test_only_the_first_words_after_the_callers_turn_carry_its_latency() -> None:
    bench = Bench()
    answer(bench, silent_ms=540)
    bench.speech(200, 2)
    bench.ear(2)
    first, second = (bench.talk.utterances.get(number) for number in (1, 2))
    assert first is not None
    assert first.latency is not None
    assert len(first.latency) == len(LATENCY_PARTS)
    assert second is not None
    assert second.latency is None
