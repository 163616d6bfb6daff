"""The early pause: the near ear pauses the line, and the model decides."""

from __future__ import annotations

from itertools import pairwise

import pytest

from aibridge.core.barge_in import Floor
from aibridge.core.commands import EndSpeech, PauseSpeech, ResumeSpeech, Speak, WithdrawSpeech
from aibridge.core.early_pause import Near
from aibridge.core.near_ear.events import Sound
from aibridge.core.rules import Line, Rules, Script
from aibridge.models.port import Ask, Cancel, Truncate
from shared.messages import PlayoutShifted, Withdrawn
from tests.aibridge.bench import MS, Bench

EARLY = Rules(early_ns=500 * MS)


def answering(rules: Rules = EARLY) -> Bench:
    bench = Bench(rules=rules)
    bench.answers()
    return bench


def test_the_first_sound_pauses_the_line_and_the_report_interrupts() -> None:
    bench = answering()
    bench.first_sound()
    assert bench.take() == [PauseSpeech()]
    bench.wait(350)
    bench.speaks()
    assert bench.take() == [WithdrawSpeech(1, False)]
    bench.report(Withdrawn(1, 1, ((1, 1_120 * 8),), bench.ns - 230 * MS))
    assert bench.take() == [Truncate(1, 1_120)]
    assert bench.count("aibridge_early_pauses", "confirmed") == 1
    (interruption,) = bench.talk.history.interruptions
    assert interruption.silent_ns - interruption.onset_ns == (60 + 350 - 230) * MS
    assert interruption.at_ns - interruption.paused_ns == 350 * MS
    bench.wait(5_000)
    assert bench.all(ResumeSpeech) == []
    assert bench.all(Cancel) == []


def test_without_a_report_the_line_goes_on_at_the_deadline_and_nothing_else_happened() -> None:
    bench = answering()
    bench.first_sound()
    bench.wait(499)
    assert bench.take() == [PauseSpeech()]
    bench.wait(1)
    assert bench.take() == [ResumeSpeech()]
    assert bench.count("aibridge_early_pauses", "resumed") == 1
    (hesitation,) = bench.talk.history.hesitations
    assert hesitation.until_ns - hesitation.from_ns == 500 * MS
    assert bench.talk.history.interruptions == []


def test_speech_that_ends_waits_a_moment_for_its_report() -> None:
    bench = answering()
    bench.first_sound()
    bench.wait(180)
    bench.sound_ends()
    bench.wait(99)
    assert bench.take() == [PauseSpeech()]
    bench.wait(1)
    assert bench.take() == [ResumeSpeech()]


def test_speech_that_goes_on_after_a_break_does_not_prolong_the_pause() -> None:
    bench = answering()
    bench.first_sound()
    for _ in range(3):
        bench.wait(100)
        bench.sound_ends()
        bench.wait(50)
        bench.first_sound()
    bench.wait(49)
    assert bench.take() == [PauseSpeech()]
    bench.wait(1)
    assert bench.take() == [ResumeSpeech()]


def test_a_report_after_the_deadline_interrupts_the_line_that_went_on() -> None:
    bench = answering()
    bench.first_sound()
    bench.wait(600)
    assert bench.take() == [PauseSpeech(), ResumeSpeech()]
    bench.speaks()
    assert bench.take() == [WithdrawSpeech(1, False)]


def test_after_pauses_in_vain_the_next_one_is_later_and_later() -> None:
    bench = Bench(rules=EARLY)
    bench.began()
    bench.speech(60_000)
    bench.ear()
    pauses = []
    for _ in range(300):
        bench.first_sound()
        if PauseSpeech() in bench.take():
            pauses.append(bench.now)
        bench.wait(50)
        bench.sound_ends()
        bench.wait(50)
    gaps = [later - earlier for earlier, later in pairwise(pauses)]
    assert gaps[:5] == pytest.approx([600, 1_600, 2_600, 4_600, 8_600], abs=110)


def test_a_confirmed_pause_makes_the_next_one_prompt_again() -> None:
    bench = answering()
    bench.first_sound()
    bench.wait(2_000)
    bench.sound_ends()
    bench.first_sound()
    bench.speaks()
    assert bench.count("aibridge_early_pauses", "confirmed") == 1
    bench.withdrawn(1, (1, 1_000))
    bench.stops()
    bench.began(2)
    bench.speech(5_000, utterance=2, response=2)
    bench.ear(2)
    bench.take()
    for _ in range(2):
        bench.sound_ends()
        bench.first_sound()
        bench.wait(600)
        bench.sound_ends()
        bench.wait(1_000)
    assert bench.take() == [PauseSpeech(), ResumeSpeech(), PauseSpeech(), ResumeSpeech()]


def test_a_response_that_is_being_made_is_cancelled_by_the_report_alone() -> None:
    bench = Bench(rules=EARLY)
    bench.began()
    bench.speech(3_000)
    bench.ear()
    bench.wait(500)
    bench.first_sound()
    bench.speech(500)
    assert bench.take()[-2:] == [PauseSpeech(), Speak(1, bytes(4_000))]  # what comes meanwhile waits in the line
    bench.speaks()
    assert bench.take() == [Cancel(1), WithdrawSpeech(1, False)]


def test_speech_over_the_silent_ai_pauses_nothing() -> None:
    bench = Bench(rules=EARLY)
    bench.first_sound()
    assert bench.take() == []
    assert bench.talk.near.state is Near.SETTLED


@pytest.mark.parametrize("rules", [Rules(), Rules(early_ns=500 * MS, barge_in="drain")], ids=["off", "drain"])
def test_no_early_pause_where_it_is_off_or_nothing_would_be_interrupted(rules: Rules) -> None:
    bench = answering(rules)
    bench.first_sound()
    assert bench.take() == []


def test_the_greeting_is_paused_when_its_protection_ends_and_the_caller_still_speaks() -> None:
    bench = Bench(rules=EARLY, script=Script(greeting=Line("Hello.", bytes(16_000))))
    bench.ear()
    bench.wait(200)
    bench.first_sound()
    bench.wait(299)
    assert bench.all(PauseSpeech) == []
    bench.wait(2)
    assert bench.take() == [PauseSpeech()]


def test_the_greeting_is_not_paused_when_the_caller_stops_in_its_protection() -> None:
    bench = Bench(rules=EARLY, script=Script(greeting=Line("Hello.", bytes(16_000))))
    bench.ear()
    bench.wait(200)
    bench.first_sound()
    bench.wait(150)
    bench.sound_ends()
    bench.wait(1_000)
    assert bench.all(PauseSpeech) == []


def test_the_recording_notice_is_never_paused() -> None:
    bench = Bench(rules=EARLY, script=Script(notice=Line("Recorded.", bytes(16_000))))
    bench.ear()
    bench.first_sound()
    bench.wait(1_500)
    assert bench.all(PauseSpeech) == []
    bench.heard()
    bench.wait(1_500)
    assert bench.all(PauseSpeech) == []


def test_a_lost_session_ends_the_pause_at_once() -> None:
    bench = answering()
    bench.first_sound()
    bench.lost()
    assert bench.take()[:2] == [PauseSpeech(), ResumeSpeech()]
    bench.sound_ends()
    bench.first_sound()
    assert bench.all(PauseSpeech) == [PauseSpeech()]  # nobody would report what this is


def test_a_confirmation_takes_the_pause_over() -> None:
    bench = answering(Rules(early_ns=500 * MS, confirm_ns=300 * MS))
    bench.first_sound()
    bench.wait(400)
    bench.speaks()
    assert bench.talk.floor.state is Floor.CONFIRMING
    bench.wait(200)
    assert bench.take() == [PauseSpeech(), PauseSpeech()]  # txpacer would end the first one
    bench.wait(101)
    assert bench.take() == [WithdrawSpeech(1, False)]


def test_an_utterance_that_ends_in_the_pause_is_heard_and_the_line_is_free() -> None:
    bench = Bench(rules=EARLY)
    bench.began()
    bench.speech(1_000)
    bench.ear()
    bench.wait(950)
    bench.first_sound()
    bench.speech_ended()
    bench.ended()
    bench.wait(60)
    bench.heard()  # its last frame was paced before the pause
    assert bench.take()[-2:] == [PauseSpeech(), EndSpeech(1)]
    bench.wait(500)
    assert bench.take() == [ResumeSpeech()]


def test_short_speech_is_no_interruption_where_the_agent_says_so() -> None:
    bench = answering()
    bench.first_sound()
    bench.wait(300)
    bench.sound_ends(Sound.SHORT)
    bench.wait(50)
    bench.speaks()
    assert bench.take() == [PauseSpeech(), ResumeSpeech()]
    assert bench.count("aibridge_false_alarms") == 1
    assert bench.count("aibridge_interruptions") == 0


def test_the_ledger_counts_no_time_of_a_pause_as_heard() -> None:
    bench = answering()
    bench.first_sound()
    utterance = bench.talk.utterances.get(1)
    assert utterance is not None
    at = bench.ns
    bench.wait(400)
    playout = bench.talk.playout
    assert utterance.estimate_heard(playout.ear_clock_ns(bench.ns), 0) == (1_000 + 40) * 8
    bench.wait(101)
    bench.report(PlayoutShifted(1, 1, bench.ns - at - 120 * MS))
    assert utterance.estimate_heard(playout.ear_clock_ns(bench.ns), 0) == 1_120 * 8


# --- the AI's own voice ---


def test_an_echo_is_no_interruption_and_the_model_forgets_it() -> None:
    bench = answering()
    bench.echoes()
    bench.speaks(7)
    bench.wait(900)
    bench.stops(7)
    assert [type(each).__name__ for each in bench.take()] == ["ForgetTurn"]
    assert bench.count("aibridge_echoes_ignored") == 1
    bench.began(2)  # the model's answer to it
    bench.speech(500, utterance=2, response=2)
    bench.ended(2, "cancelled")
    assert [type(each).__name__ for each in bench.take()] == ["Cancel", "Forget"]
    bench.wait(5_000)
    assert bench.all(Ask) == []
    assert [turn.role for turn in bench.talk.history.turns if turn.received_bytes == 40_000] == ["ai"]
    assert [each.kind for each in bench.talk.history.hesitations] == ["echo"]


def test_the_caller_is_heard_through_the_echo() -> None:
    bench = answering()
    bench.echoes()
    bench.speaks(7)
    bench.wait(300)
    bench.first_sound()
    assert bench.take() == [WithdrawSpeech(1, False)]
    bench.withdrawn(1, (1, 1_420))
    bench.stops(7)
    assert [turn.role for turn in bench.talk.history.turns] == ["ai", "caller"]
    bench.began(2)
    assert bench.all(Cancel) == []


def test_the_caller_who_answers_after_an_echo_is_answered() -> None:
    bench = answering()
    bench.echoes()
    bench.speaks(7)
    bench.wait(4_000)
    bench.heard()
    bench.wait(200)
    bench.first_sound()  # in the same turn of the model
    bench.wait(900)
    bench.stops(7)
    assert [turn.role for turn in bench.talk.history.turns] == ["ai", "caller"]


def test_the_near_ear_listens_while_the_ai_is_audible_and_a_moment_longer() -> None:
    bench = answering()
    bench.hears()
    assert bench.near_ear.listened
    bench.heard()
    bench.wait(1_100)
    bench.hears()
    assert bench.near_ear.listened
    bench.wait(200)
    bench.hears()
    assert not bench.near_ear.listened
