"""Turn taking, event by event."""

from __future__ import annotations

import pytest

from aibridge.core.commands import (
    AnswerFunction,
    CancelResponse,
    CreateResponse,
    DeleteItem,
    Dial,
    EndCall,
    EndSpeech,
    LeaveSession,
    PauseSpeech,
    ResumeSpeech,
    Speak,
    TellItem,
    TruncateItem,
    WithdrawSpeech,
)
from aibridge.core.history import TEXT_MAX
from aibridge.core.ledger import UNHEARD_MAX_BYTES
from aibridge.core.realtime import Item, OutputItemDone, TranscriptDelta
from aibridge.core.rules import Rules, Script
from shared.messages import PlayoutShifted
from shared.plan import Fallback, HangUp

from .bench import MS, Bench

GREETS = Script(greets=True, greeting_text="Hello and welcome.")


def greeting(rules: Rules | None = None) -> Bench:
    bench = Bench(script=GREETS, rules=rules)
    assert bench.all(CreateResponse) == [CreateResponse("greeting", "create_1")]
    bench.created(purpose="greeting")
    return bench


def test_an_interruption_of_what_is_being_made_cancels_withdraws_and_tells_the_truth_last() -> None:
    bench = Bench()
    bench.created()
    bench.audio(3_000)
    bench.ear()
    bench.now += 1_000
    bench.speaks()
    assert bench.take()[1:] == [CancelResponse("r1"), WithdrawSpeech(1, False)]
    bench.withdrawn(1, (1, 1_120))
    assert bench.take() == []  # the server may still append to the item
    bench.response_done(status="cancelled", items=("i1",))
    assert bench.all(TruncateItem) == [TruncateItem("i1", 0, 1_120)]


def test_an_interruption_of_what_was_made_long_ago_sends_no_cancel() -> None:
    bench = Bench()
    bench.answers()
    bench.speaks()
    bench.withdrawn(1, (1, 1_100))
    assert bench.all(CancelResponse) == []
    assert bench.all(TruncateItem) == [TruncateItem("i1", 0, 1_100)]
    assert bench.count("bridge_cancels_spared") == 1


def test_the_item_under_the_playhead_is_cut_and_later_ones_are_deleted() -> None:
    bench = Bench()
    bench.created()
    bench.audio(800, "preamble")
    bench.audio(4_000, "answer")
    bench.response_done(items=("preamble", "answer"))
    bench.ear()
    bench.speaks()
    bench.withdrawn(2, (1, 500))
    assert bench.all(TruncateItem) == [TruncateItem("preamble", 0, 500)]
    assert bench.all(DeleteItem) == [DeleteItem("answer")]


def test_an_item_that_was_heard_whole_is_left_alone() -> None:
    bench = Bench()
    bench.created()
    bench.audio(800, "preamble")
    bench.audio(4_000, "answer")
    bench.response_done(items=("preamble", "answer"))
    bench.ear(1)
    bench.heard(1)
    bench.ear(2)
    bench.speaks()
    bench.withdrawn(2, (2, 900))
    assert bench.all(TruncateItem) == [TruncateItem("answer", 0, 900)]
    assert bench.all(DeleteItem) == []


def test_the_stored_words_are_cut_at_the_same_share_and_marked() -> None:
    bench = Bench()
    bench.answers()
    bench.speaks()
    bench.withdrawn(1, (1, 2_500))
    turn = bench.talk.history.turns[0]
    assert turn.interrupted
    assert turn.heard_text == "one two three four five"
    assert bench.talk.history.interruptions[0].silent_ns == bench.ns + 120 * MS


def test_late_deltas_never_reach_the_line_and_count_as_received() -> None:
    bench = Bench()
    bench.created()
    bench.audio(1_000)
    bench.ear()
    bench.speaks()
    bench.withdrawn(1, (1, 120))
    before = len(bench.all(Speak))
    bench.audio(1_000)
    bench.audio(700, "i2")
    assert len(bench.all(Speak)) == before
    assert bench.count("bridge_late_deltas") == 2
    bench.response_done(status="cancelled", items=("i1", "i2"))
    assert bench.all(TruncateItem) == [TruncateItem("i1", 0, 120)]
    assert bench.all(DeleteItem) == [DeleteItem("i2")]


def test_repeated_speech_started_cancels_and_withdraws_once() -> None:
    bench = Bench()
    bench.created()
    bench.audio(3_000)
    bench.ear()
    for _ in range(3):
        bench.speaks()
    assert len(bench.all(CancelResponse)) == 1
    assert len(bench.all(WithdrawSpeech)) == 1
    assert bench.count("bridge_interruptions") == 1


def test_speech_while_a_response_is_asked_for_cancels_it_when_it_has_an_id() -> None:
    bench = Bench()
    bench.answers()
    bench.created("r2")
    bench.speaks()
    bench.stops()  # a response is in the way of an answer
    bench.withdrawn(1, (1, 1_000))
    bench.response_done("r2", "cancelled")
    bench.wait(150)
    assert len(bench.all(CreateResponse)) == 1
    bench.speaks("u2")
    assert len(bench.all(CancelResponse)) == 1
    bench.created("r3", "answer")
    assert bench.all(CancelResponse)[-1] == CancelResponse("r3")


def test_a_turn_that_ended_before_an_unwanted_response_has_an_id_is_answered_behind_it() -> None:
    bench = Bench()
    bench.answers()
    bench.created("r2")
    bench.speaks()
    bench.stops()
    bench.withdrawn(1, (1, 1_000))
    bench.response_done("r2", "cancelled")
    bench.wait(150)
    assert len(bench.all(CreateResponse)) == 1
    bench.speaks("u2")
    bench.stops("u2")  # all of it in one instant, as a session hears what waited for it
    bench.created("r3", "answer")
    bench.response_done("r3", "cancelled")
    bench.wait(150)
    assert len(bench.all(CreateResponse)) == 2


def test_a_cancel_that_crosses_the_end_is_harmless() -> None:
    bench = Bench()
    bench.created()
    bench.audio(3_000)
    bench.ear()
    bench.speaks()
    bench.response_done(items=("i1",))
    bench.error("response_cancel_not_active")
    bench.withdrawn(1, (1, 200))
    bench.stops()
    bench.created("r2")
    assert bench.all(TruncateItem) == [TruncateItem("i1", 0, 200)]
    assert bench.count("bridge_illegal_events") == 0


def test_the_answer_is_asked_for_only_after_the_truth_was_told() -> None:
    bench = Bench()
    bench.created()
    bench.audio(3_000)
    bench.ear()
    bench.speaks()
    bench.stops()
    bench.response_done(status="cancelled", items=("i1",))
    bench.wait(500)
    assert bench.all(CreateResponse) == []  # txpacer has not said yet what was heard
    bench.withdrawn(1, (1, 300))
    kinds = [type(command) for command in bench.take()]
    assert kinds == [TruncateItem, CreateResponse]


def test_a_withdrawal_that_is_never_answered_is_estimated_from_the_ear() -> None:
    bench = Bench()
    bench.answers()
    bench.speaks()
    bench.wait(2_100)
    assert bench.count("bridge_unanswered_withdrawals") == 1
    (cut,) = bench.all(TruncateItem)
    assert 1_000 <= cut.audio_end_ms <= 5_000


def test_an_answer_that_the_server_owes_and_never_makes_is_asked_for() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    bench.wait(1_900)
    assert bench.all(CreateResponse) == []
    bench.wait(200)
    assert bench.all(CreateResponse) == [CreateResponse("answer", "create_1")]


# --- the greeting ---


def test_speech_that_ended_inside_the_protection_lets_the_greeting_play_though_the_server_does_not_know_yet() -> None:
    bench = greeting()
    bench.audio(3_000)
    bench.ear()
    bench.now += 60
    bench.speaks()
    bench.now += 200
    bench.falls_silent()  # the server will say so 300 ms from now
    bench.wait(400)
    assert bench.all(WithdrawSpeech) == []
    bench.stops()
    bench.response_done(items=("i1",))
    bench.wait(150)
    assert bench.all(CreateResponse)[-1].purpose == "answer"


@pytest.mark.parametrize("protect_ms", [100, 300, 499, 500, 501, 900])
def test_speech_that_lasts_interrupts_at_the_very_end_of_the_protection(protect_ms: int) -> None:
    bench = greeting(Rules(protect_ns=protect_ms * MS))
    bench.audio(3_000)
    bench.ear()
    bench.now += 60
    bench.speaks()
    bench.wait(protect_ms - 61)
    assert bench.all(WithdrawSpeech) == []
    bench.wait(2)
    assert len(bench.all(WithdrawSpeech)) == 1
    assert len(bench.all(CancelResponse)) == 1


def test_without_protection_the_first_word_can_be_interrupted() -> None:
    bench = greeting(Rules(protect_ns=0))
    bench.audio(3_000)
    bench.speaks()
    assert len(bench.all(WithdrawSpeech)) == 1


def test_the_protection_spans_the_items_of_a_greeting() -> None:
    bench = greeting()
    bench.audio(200, "a")
    bench.audio(3_000, "b")
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


def test_a_greeting_that_was_refused_protects_nothing_and_is_tried_again() -> None:
    bench = Bench(script=GREETS)
    bench.error("bad_response_create", "create_1")
    bench.wait(1_000)
    assert [each.purpose for each in bench.all(CreateResponse)] == ["greeting", "greeting"]


def test_a_greeting_without_audio_protects_nothing() -> None:
    bench = greeting()
    bench.response_done()
    bench.created("r2")
    bench.audio(2_000, response_id="r2")
    bench.speaks()
    assert len(bench.all(CancelResponse)) == 1


def test_a_greeting_that_txpacer_never_begins_does_not_protect_for_ever() -> None:
    bench = greeting()
    bench.audio(3_000)
    bench.speaks()
    assert bench.all(WithdrawSpeech) == []
    bench.now += 5_100
    bench.speaks("u2")
    assert len(bench.all(WithdrawSpeech)) == 1


# --- failures ---


def test_failed_responses_are_asked_for_again_and_in_the_end_the_caller_gets_the_fallback() -> None:
    script = Script(greets=True, greeting_text="Hi.", fallback_text="Sorry.", fallback_audio=bytes(800))
    bench = Bench(script=script)
    for number in range(1, 5):
        assert len(bench.all(CreateResponse)) == number
        bench.created(f"r{number}", "greeting")
        bench.response_done(f"r{number}", "failed", code="rate_limit_exceeded")
        bench.wait(3_000)
    assert bench.all(EndCall) == [EndCall(Fallback(), 1, "the model fails")]
    assert bench.all(Speak) == [Speak(1, bytes(800))]


def test_a_recorded_fallback_behind_which_nobody_is_dialled_ends_the_call() -> None:
    script = Script(greets=False, fallback_text="Sorry.", fallback_audio=bytes(800), fallback_ends_call=True)
    bench = Bench(script=script)
    bench.error("insufficient_quota")
    assert bench.all(EndCall) == [EndCall(HangUp(), 1, "the model is gone")]


def test_a_fatal_error_ends_the_call_with_the_fallback_and_others_do_not() -> None:
    bench = Bench()
    bench.error("server_error")
    assert bench.all(EndCall) == []
    bench.error("insufficient_quota")
    assert len(bench.all(EndCall)) == 1


def test_hang_up_waits_until_the_goodbye_was_heard() -> None:
    bench = Bench()
    bench.created()
    bench.audio(1_000)
    bench.event(OutputItemDone("r1", Item("f1", "function_call", status="completed", name="hang_up", call_id="c1")))
    bench.response_done(items=("i1",))
    bench.ear()
    assert bench.all(AnswerFunction) == [AnswerFunction("c1", '{"ok": true}')]
    assert bench.all(EndCall) == []
    bench.heard()
    assert bench.all(EndCall) == [EndCall(HangUp(), 1, "hang_up")]


def test_a_caller_who_speaks_into_the_goodbye_is_not_hung_up_on() -> None:
    bench = Bench()
    bench.created()
    bench.audio(1_000)
    bench.event(OutputItemDone("r1", Item("f1", "function_call", status="completed", name="hang_up", call_id="c1")))
    bench.response_done(items=("i1",))
    bench.ear()
    bench.speaks()
    bench.withdrawn(1, (1, 300))
    assert bench.all(EndCall) == []


# --- false alarms, drain ---


def test_a_cough_pauses_and_resumes() -> None:
    bench = Bench(rules=Rules(confirm_ns=300 * MS))
    bench.answers()
    bench.speaks()
    assert bench.take()[-1] == PauseSpeech()
    bench.falls_silent()
    bench.wait(310)
    assert bench.take() == [ResumeSpeech()]
    assert bench.count("bridge_false_alarms") == 1
    assert bench.count("bridge_interruptions") == 0


def test_speech_that_lasts_is_confirmed() -> None:
    bench = Bench(rules=Rules(confirm_ns=300 * MS))
    bench.answers()
    bench.speaks()
    bench.wait(310)
    assert bench.take()[1:] == [WithdrawSpeech(1, False)]


def test_drain_cancels_what_is_not_made_and_plays_the_rest() -> None:
    bench = Bench(rules=Rules(barge_in="drain"))
    bench.created()
    bench.audio(3_000)
    bench.ear()
    bench.speaks()
    assert bench.all(WithdrawSpeech) == []
    bench.response_done(status="cancelled", items=("i1",))
    bench.heard()
    assert bench.all(TruncateItem) == [TruncateItem("i1", 0, 3_000)]


# --- sessions ---


def test_a_lost_session_is_dialled_again_told_everything_and_goes_on() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    bench.created()
    bench.audio(2_000, text="one two three four")
    bench.ear()
    bench.talk.session_lost(bench.ns)
    bench.wait(100)
    assert bench.all(Dial) == [Dial()]
    bench.talk.session_ready(bench.ns)
    told = bench.all(TellItem)
    assert [(each.role, each.text) for each in told] == [
        ("caller", "(the caller said something that was not written down)"),
        ("ai", "one two three four"),
    ]
    assert bench.all(CreateResponse)[-1].purpose == "continue"


def test_an_interruption_after_the_loss_corrects_what_the_new_session_was_told() -> None:
    bench = Bench()
    bench.created()
    bench.audio(4_000, text="one two three four")
    bench.ear()
    bench.talk.session_lost(bench.ns)
    bench.wait(100)
    bench.talk.session_ready(bench.ns)
    (told,) = bench.all(TellItem)
    bench.created("r2", "continue")
    bench.speaks()
    bench.response_done("r2", "cancelled")
    bench.withdrawn(1, (1, 2_000))
    assert bench.all(TellItem)[-1] == TellItem("told_00002", "ai", "one two", told.item_id)
    assert bench.all(DeleteItem) == [DeleteItem(told.item_id)]
    assert bench.all(TruncateItem) == []


def test_a_model_that_stays_away_ends_in_the_fallback_after_the_reservoir() -> None:
    bench = Bench(rules=Rules(reconnect_ns=2_000 * MS))
    bench.answers()
    bench.talk.session_lost(bench.ns)
    for _ in range(6):
        bench.wait(400)
        bench.talk.dial_failed(bench.ns)
    bench.wait(2_000)
    assert bench.all(EndCall) == [EndCall(Fallback(), 1, "the model is gone")]
    assert 3 <= len(bench.all(Dial)) <= 6


def test_a_recorded_greeting_is_said_before_there_is_a_model_which_then_learns_what_was_heard() -> None:
    script = Script(greets=True, greeting_text="one two three four", greeting_audio=bytes(16_000))
    bench = Bench(script=script, start=False)
    bench.talk.start(bench.ns)
    assert bench.all(Speak) == [Speak(1, bytes(16_000))]
    bench.talk.session_ready(bench.ns)
    assert bench.all(TellItem) == [TellItem("told_00001", "ai", "one two three four")]
    assert bench.all(CreateResponse) == []
    bench.ear()
    bench.now += 900
    bench.speaks()
    bench.withdrawn(1, (1, 1_000))
    assert bench.all(TellItem)[-1] == TellItem("told_00002", "ai", "one two", "told_00001")
    assert bench.all(DeleteItem) == [DeleteItem("told_00001")]


def test_a_session_is_renewed_between_turns_only() -> None:
    bench = Bench(rules=Rules(renew_ns=1_000 * MS))
    bench.answers()
    bench.wait(10)
    assert bench.all(Dial) == [Dial()]
    bench.talk.session_ready(bench.ns)
    bench.wait(500)
    assert bench.all(TellItem) == []  # the caller still hears the answer
    bench.heard()
    bench.wait(300)
    assert len(bench.all(TellItem)) == 1
    assert bench.count("bridge_renewals") == 1


def test_of_a_response_that_says_more_than_a_line_may_hold_the_rest_is_neither_said_nor_believed() -> None:
    bench = Bench()
    bench.created()
    bench.audio(1_000)
    bench.ear()
    for _ in range(12 * 60 - 1):  # twelve minutes, in twelve seconds
        bench.now += 1_000 / 60
        bench.audio(1_000)
    said_ms = sum(len(each.data) for each in bench.all(Speak)) / 8
    assert said_ms == pytest.approx(UNHEARD_MAX_BYTES / 8 + bench.now, abs=2_500)
    bench.audio_done()
    bench.audio(1_000, "i2")
    bench.response_done(items=("i1", "i2"))
    assert len(bench.all(EndSpeech)) == 1
    assert bench.count("bridge_excess_bytes") + bench.count("bridge_late_deltas") > 0
    bench.heard()
    assert bench.talk.history.turns[0].heard_bytes == said_ms * 8
    assert bench.all(TruncateItem) == [TruncateItem("i1", 0, int(said_ms))]
    assert bench.all(DeleteItem) == [DeleteItem("i2")]
    assert bench.talk.playout.unheard() == 0


def test_twelve_minutes_that_are_heard_as_they_come_are_said_whole() -> None:
    bench = Bench()
    bench.created()
    bench.audio(1_000)
    bench.ear()
    for _ in range(12 * 60 - 1):
        bench.now += 500
        bench.audio(1_000)
    assert sum(len(each.data) for each in bench.all(Speak)) == 12 * 60 * 8_000
    assert bench.count("bridge_excess_bytes") == 0


def test_a_conversation_of_many_hours_holds_what_a_new_session_is_told_and_no_more() -> None:
    bench = Bench()
    for number in range(1, 1_001):
        bench.created(f"r{number}")
        bench.audio(100, f"i{number}", f"r{number}", text="word " * 10_000)
        bench.audio_done(f"i{number}", f"r{number}")
        bench.response_done(f"r{number}", items=(f"i{number}",))
        bench.ear(number)
        bench.heard(number)
        bench.take()
        bench.done.clear()
    turns = bench.talk.history.turns
    assert [turn.number for turn in turns] == list(range(801, 1_001))
    assert all(len(turn.text) == TEXT_MAX for turn in turns)
    ledger = bench.talk.playout.ledger
    assert ledger.get(1) is None
    assert ledger.get(1_000) is not None
    assert bench.talk.history.turn("ai", "i1000") is turns[-1]


def test_an_item_without_audio_is_not_waited_for() -> None:
    bench = Bench()
    bench.created()
    bench.audio(0)
    bench.audio_done()
    bench.response_done(items=("i1",))
    assert bench.talk.playout.unheard() == 0


def test_a_cancel_that_is_not_answered_costs_the_session_and_the_next_one_answers() -> None:
    bench = Bench()
    bench.created()
    bench.audio(3_000)
    bench.ear()
    bench.now += 1_000
    bench.speaks()
    bench.withdrawn(1, (1, 1_120))
    bench.stops()
    bench.wait(4_900)
    assert bench.all(LeaveSession) == []
    bench.wait(200)
    assert bench.all(LeaveSession) == [LeaveSession()]
    assert bench.all(Dial) == [Dial()]
    bench.talk.session_ready(bench.ns)
    assert bench.all(CreateResponse)[-1].purpose == "answer"
    assert bench.count("bridge_stalled_sessions") == 1


def test_a_response_that_is_being_made_or_heard_is_not_stalled() -> None:
    bench = Bench()
    bench.created()
    for _ in range(6):
        bench.wait(15_000)
        bench.audio(15_000)
    bench.ear()
    bench.wait(6 * 15_000 - 100)
    assert bench.all(LeaveSession) == []
    bench.wait(1_200)
    assert bench.all(LeaveSession) == [LeaveSession()]


def test_words_that_come_before_their_audio_are_told_when_it_is_heard() -> None:
    bench = Bench()
    bench.created()
    bench.event(TranscriptDelta("r1", "i1", "one two"))
    bench.audio(2_000, text=" three four")
    bench.response_done(items=("i1",))
    bench.ear()
    bench.speaks()
    bench.withdrawn(1, (1, 1_000))
    assert [turn.heard_text for turn in bench.talk.history.turns] == ["one two"]


def test_words_of_which_no_audio_comes_are_nothing_that_was_said() -> None:
    bench = Bench()
    bench.created()
    for number in range(1_000):
        bench.event(TranscriptDelta("r1", f"i{number}", "words"))
    bench.response_done(status="cancelled")
    assert bench.talk.history.turns == []
    assert bench.talk.history.replay() == []


def test_turns_stand_in_the_order_of_their_audio() -> None:
    bench = Bench()
    bench.created()
    bench.event(TranscriptDelta("r1", "i2", "second"))
    bench.audio(100, "i1", text="first")
    bench.audio(100, "i2")
    assert [turn.text for turn in bench.talk.history.turns] == ["first", "second"]


def test_a_gap_is_no_time_in_which_a_turn_was_heard() -> None:
    bench = Bench()
    bench.answers()
    bench.talk.report(PlayoutShifted(1, 1, 700 * MS), bench.ns)
    assert bench.talk.history.turns[0].gap_ns == 700 * MS
