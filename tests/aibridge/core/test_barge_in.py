"""Who has the floor: interruption, confirmation, drain."""

from __future__ import annotations

from aibridge.core.commands import (
    PauseSpeech,
    ResumeSpeech,
    WithdrawSpeech,
)
from aibridge.core.rules import Rules
from aibridge.models.port import Truncate
from tests.aibridge.bench import MS, Bench


def test_a_cough_pauses_the_line_and_the_line_resumes() -> None:
    bench = Bench(rules=Rules(confirm_ns=300 * MS))
    bench.answers()
    bench.speaks()
    assert bench.take()[-1] == PauseSpeech()
    bench.falls_silent()
    bench.wait(310)
    assert bench.take() == [ResumeSpeech()]
    assert bench.count("aibridge_false_alarms") == 1
    assert bench.count("aibridge_interruptions") == 0


def test_speech_that_lasts_is_confirmed_as_an_interruption() -> None:
    bench = Bench(rules=Rules(confirm_ns=300 * MS))
    bench.answers()
    bench.speaks()
    bench.wait(310)
    assert bench.take()[1:] == [WithdrawSpeech(1, False)]


def test_drain_cancels_the_active_response_and_plays_the_speech_that_was_made() -> None:
    bench = Bench(rules=Rules(barge_in="drain"))
    bench.began()
    bench.speech(3_000)
    bench.ear()
    bench.speaks()
    assert bench.all(WithdrawSpeech) == []
    bench.ended(outcome="cancelled", cut=(1,))  # the model had made more than it sent
    bench.heard()
    assert bench.all(Truncate) == [Truncate(1, 3_000)]
