"""The first words of the greeting are heard."""

from __future__ import annotations

import pytest

from aibridge.core.commands import (
    Speak,
    WithdrawSpeech,
)
from aibridge.core.rules import Line, Rules, Script
from aibridge.models.port import Ask, Cancel, Tell, Untell
from tests.aibridge.bench import MS, Bench

GREETS = Script(greeting=Line("Hello and welcome."))


def greeting(rules: Rules | None = None) -> Bench:
    bench = Bench(script=GREETS, rules=rules)
    assert bench.all(Ask) == [Ask(1, "greeting")]
    bench.began(purpose="greeting")
    return bench


def test_speech_that_ends_inside_the_protection_does_not_interrupt_although_the_model_notices_its_end_late() -> None:
    bench = greeting()
    bench.speech(3_000)
    bench.ear()
    bench.now += 60
    bench.speaks()
    bench.now += 200
    bench.falls_silent()  # the server will say so 300 ms from now
    bench.wait(400)
    assert bench.all(WithdrawSpeech) == []
    bench.stops()
    bench.ended()
    bench.wait(150)
    assert bench.all(Ask)[-1].purpose == "answer"


@pytest.mark.parametrize("protect_ms", [100, 300, 499, 500, 501, 900])
def test_speech_that_lasts_interrupts_at_the_end_of_the_protection(protect_ms: int) -> None:
    bench = greeting(Rules(protect_ns=protect_ms * MS))
    bench.speech(3_000)
    bench.ear()
    bench.now += 60
    bench.speaks()
    bench.wait(protect_ms - 61)
    assert bench.all(WithdrawSpeech) == []
    bench.wait(2)
    assert len(bench.all(WithdrawSpeech)) == 1
    assert len(bench.all(Cancel)) == 1


def test_without_protection_the_first_word_can_be_interrupted() -> None:
    bench = greeting(Rules(protect_ns=0))
    bench.speech(3_000)
    bench.speaks()
    assert len(bench.all(WithdrawSpeech)) == 1


def test_the_protection_spans_the_utterances_of_a_greeting() -> None:
    bench = greeting()
    bench.speech(200, 1)
    bench.speech(3_000, 2)
    bench.ear(1)
    bench.now += 100
    bench.speaks()
    bench.now += 100
    bench.heard(1)
    bench.ear(2)
    bench.wait(299)
    assert bench.all(WithdrawSpeech) == []
    bench.wait(2)
    assert len(bench.all(WithdrawSpeech)) == 1


def test_a_refused_greeting_protects_nothing_and_is_retried() -> None:
    bench = Bench(script=GREETS)
    bench.fault(request=1)
    bench.wait(1_000)
    assert [each.purpose for each in bench.all(Ask)] == ["greeting", "greeting"]


def test_a_greeting_without_audio_protects_nothing() -> None:
    bench = greeting()
    bench.ended()
    bench.began(2)
    bench.speech(2_000, response=2)
    bench.speaks()
    assert len(bench.all(Cancel)) == 1


def test_the_protection_of_a_greeting_that_txpacer_never_begins_ends() -> None:
    bench = greeting()
    bench.speech(3_000)
    bench.speaks()
    assert bench.all(WithdrawSpeech) == []
    bench.now += 5_100
    bench.speaks(2)
    assert len(bench.all(WithdrawSpeech)) == 1


def test_a_recorded_greeting_plays_before_the_model_is_ready_and_the_model_is_told_what_was_heard() -> None:
    script = Script(greeting=Line("one two three four", bytes(16_000)))
    bench = Bench(script=script, start=False)
    bench.done += bench.talk.start(bench.ns)
    assert bench.all(Speak) == [Speak(1, bytes(16_000))]
    bench.ready()
    assert bench.all(Tell) == [Tell(1, "ai", "one two three four")]
    assert bench.all(Ask) == []
    bench.ear()
    bench.now += 900
    bench.speaks()
    bench.withdrawn(1, (1, 1_000))
    assert bench.all(Tell)[-1] == Tell(2, "ai", "one two", 1)
    assert bench.all(Untell) == [Untell(1)]
