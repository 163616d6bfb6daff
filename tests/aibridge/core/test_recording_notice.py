"""The recording notice plays first and whole, also when the caller speaks first."""

from __future__ import annotations

import pytest

from aibridge.core.commands import DialModel, EndCall, Speak, WithdrawSpeech
from aibridge.core.greeting_protection import Opening
from aibridge.core.rules import Line, Rules, Script
from aibridge.models.port import Ask, CallerWords, Cancel, Forget, Outcome
from tests.aibridge.bench import MS, Bench

NOTICE = Line("This call is recorded.")
SCRIPT = Script(notice=NOTICE, greeting=Line("Hello."))


def asked(bench: Bench) -> list[str]:
    return [each.purpose for each in bench.all(Ask)]


def notice_in_line(script: Script = SCRIPT, rules: Rules | None = None) -> Bench:
    """The model has said a notice of 1 s, as utterance 1; the greeting is asked for."""
    bench = Bench(script=script, rules=rules)
    bench.began(1, "notice")
    bench.speech(1_000)
    bench.speech_ended()
    bench.ended()
    return bench


def test_the_notice_is_asked_for_first_and_the_greeting_while_it_is_heard() -> None:
    bench = notice_in_line()
    assert asked(bench) == ["notice", "greeting"]
    bench.began(2, "greeting")
    bench.speech(1_000, 2, 2)
    assert [each.utterance for each in bench.all(Speak)] == [1, 2]


def test_a_response_of_the_model_s_own_that_gets_ahead_of_the_notice_is_never_spoken_and_answered_after_it() -> None:
    bench = Bench(script=SCRIPT)
    bench.speaks()
    bench.stops()
    bench.began(1)  # the model answers the caller before it has read our Ask
    assert bench.all(Cancel) == [Cancel(1)]
    bench.speech(500)
    bench.fault("busy", 1)
    bench.ended(1, "cancelled", cut=(1,))
    bench.wait(150)
    assert asked(bench) == ["notice", "notice"]
    bench.began(2, "notice")
    bench.speech(1_000, 2, 2)
    bench.ended(2)
    bench.wait(150)
    assert asked(bench) == ["notice", "notice", "answer"]
    assert bench.all(Forget) == [Forget(1)]
    assert [each.utterance for each in bench.all(Speak)] == [2]


def test_a_caller_who_speaks_into_the_notice_interrupts_what_follows_at_its_end() -> None:
    bench = notice_in_line()
    bench.began(2, "greeting")
    bench.speech(3_000, 2, 2)
    bench.ear(1)
    bench.now += 600
    bench.speaks()
    bench.wait(300)
    assert bench.all(Cancel) == []
    bench.now += 100
    bench.heard(1)
    bench.ear(2)
    assert bench.all(WithdrawSpeech) == []  # the greeting has a protection of its own
    bench.speaks(2)
    bench.wait(501)
    assert bench.all(WithdrawSpeech) == [WithdrawSpeech(2, False)]
    assert len(bench.all(Cancel)) == 1


def test_a_notice_without_a_greeting_is_interruptible_from_its_end_on() -> None:
    bench = notice_in_line(Script(notice=NOTICE))
    bench.speaks()
    bench.stops()
    bench.began(2)
    bench.speech(3_000, 2, 2)
    bench.ear(1)
    bench.now += 900
    bench.speaks(2)
    assert bench.all(WithdrawSpeech) == []
    bench.now += 100
    bench.heard(1)
    assert bench.all(WithdrawSpeech) == [WithdrawSpeech(2, False)]
    bench.withdrawn(2, (2, 120))
    assert bench.talk.history.turns[0].heard_bytes == 8_000


def test_a_caller_who_is_silent_again_at_the_end_of_the_notice_interrupts_nothing() -> None:
    bench = notice_in_line()
    bench.speaks()
    bench.stops()
    bench.ear(1)
    bench.now += 1_000
    bench.heard(1)
    assert bench.all(WithdrawSpeech) == []
    assert bench.count("aibridge_interruptions") == 0


@pytest.mark.parametrize("confirm_ms", [0, 300])
def test_the_protection_of_the_notice_needs_no_setting(confirm_ms: int) -> None:
    bench = notice_in_line(rules=Rules(protect_ns=0, confirm_ns=confirm_ms * MS))
    bench.ear(1)
    bench.speaks()
    bench.wait(900)
    assert bench.all(WithdrawSpeech) == []
    assert not bench.talk.playout.is_paused


def test_a_notice_is_said_while_the_caller_speaks() -> None:
    bench = Bench(script=SCRIPT)
    bench.speaks()
    bench.fault("other", 1)  # the first Ask is refused
    bench.wait(1_000)
    assert asked(bench) == ["notice", "notice"]


@pytest.mark.parametrize("outcome", ["failed", "incomplete", "cancelled"])
def test_a_notice_that_broke_off_is_said_again_whole(outcome: Outcome) -> None:
    bench = Bench(script=SCRIPT)
    bench.began(1, "notice")
    bench.speech(400)
    bench.ended(1, outcome)
    bench.wait(1_000)
    assert asked(bench) == ["notice", "notice"]


def test_a_notice_that_never_comes_ends_in_the_fallback_and_not_in_a_call_without_it() -> None:
    bench = Bench(script=SCRIPT)
    for number in range(1, 5):
        bench.began(number, "notice")
        bench.ended(number)
        bench.wait(4_900)
    assert asked(bench) == ["notice"] * 4
    assert len(bench.all(EndCall)) == 1


def test_a_notice_whose_session_is_lost_is_said_again_by_the_next_one() -> None:
    bench = Bench(script=SCRIPT)
    bench.began(1, "notice")
    bench.speech(400)
    bench.lost()
    bench.wait(100)
    assert len(bench.all(DialModel)) == 1
    bench.ready()
    assert asked(bench) == ["notice", "notice"]


def test_a_recorded_notice_is_said_at_once_and_before_a_recorded_greeting() -> None:
    script = Script(notice=Line("Recorded.", bytes(8_000)), greeting=Line("Hello.", bytes(800)))
    bench = Bench(script=script, start=False)
    bench.done += bench.talk.start(bench.ns)
    assert [(each.utterance, len(each.data)) for each in bench.all(Speak)] == [(1, 8_000), (2, 800)]
    bench.ready()
    assert asked(bench) == []


def test_a_recorded_greeting_waits_for_a_notice_that_the_model_says() -> None:
    bench = notice_in_line(Script(notice=NOTICE, greeting=Line("Hello.", bytes(800))))
    assert [(each.utterance, len(each.data)) for each in bench.all(Speak)] == [(1, 8_000), (2, 800)]
    assert asked(bench) == ["notice"]
    assert bench.talk.greeting.state is Opening.MADE


def test_the_answer_to_a_caller_who_spoke_into_the_notice_takes_the_place_of_the_greeting() -> None:
    bench = Bench(script=SCRIPT)
    bench.began(1, "notice")
    bench.speaks()
    bench.stops()
    bench.event(CallerWords(1, "What time is it?"))
    bench.speech(1_000)
    bench.ended()
    bench.wait(150)
    assert asked(bench) == ["notice", "answer"]
    assert bench.talk.greeting.state is Opening.OVER
