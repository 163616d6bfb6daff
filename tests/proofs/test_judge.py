"""Interruptions, answers and the model's history: each figure is clean for a clean call, and each can fail."""

from __future__ import annotations

from base64 import b64encode

from .judged_call import MS, START, Line, interrupted, speech


def test_an_end_that_is_never_heard_without_an_interruption_is_a_cut() -> None:
    line = Line()
    line.pace(line.item(3000)[:16_000], 200)
    verdict = line.verdict()
    assert [cut.missing_bytes for cut in verdict.cuts] == [8000]
    assert any("cut off" in problem for problem in verdict.problems())


def test_an_item_never_heard_without_an_interruption_is_a_cut() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.item(500, created_ms=3000)
    assert [cut.item_id for cut in line.verdict().cuts] == ["item_2"]


def test_an_interruption_that_ends_within_the_lead_has_no_leftover() -> None:
    verdict = interrupted().verdict()
    assert verdict.problems() == []
    assert [each.silence_ms for each in verdict.interruptions] == [120]
    assert verdict.response_ms == (300,)


def test_speech_beyond_the_lead_after_an_interruption_is_a_leftover() -> None:
    verdict = interrupted(tail_ms=260).verdict()
    (interruption,) = verdict.interruptions
    assert interruption.silence_ms == 260
    assert interruption.leftover_ms(170) == 90
    assert any("went on for 260 ms" in problem for problem in verdict.problems())


def test_an_item_that_was_queued_after_the_interrupted_one_is_a_leftover_when_it_is_heard() -> None:
    line = Line()
    line.pace(line.item(2000, response="r"), 200)
    second = line.item(1000, response="r")
    line.speak(1500, 2500)
    line.hold(1, 2000)
    line.pace(second, 2200)
    verdict = line.verdict()
    assert verdict.interruptions[0].silence_ms == 1700
    assert verdict.leftover_ms(170) == 1530


def test_after_an_interruption_each_item_of_a_response_is_held_as_it_was_heard() -> None:
    line = Line()
    preamble = line.item(1000, response="r")
    answer = line.item(3000, response="r")
    end = line.pace(preamble, 200)
    line.pace(answer[: 620 * 8], end)
    line.speak(1700, 2300)
    line.hold(2, 620)
    third = line.item(800, response="r")
    line.hold(3, 0)
    assert third
    line.pace(line.item(400, created_ms=2301), 2600)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert [each.heard_ms for each in verdict.history] == [1000, 620, 0, 400]


def test_a_history_that_holds_more_than_was_heard_is_an_error() -> None:
    verdict = interrupted(held_ms=6000).verdict()
    assert verdict.history_error_ms == 6000 - 1120
    assert len(verdict.problems()) == 1


def test_an_unheard_item_that_stays_in_the_history_is_an_error() -> None:
    line = interrupted()
    line.items.insert(2, dict(line.items[1], item_id="item_x", audio_b64=b64encode(speech(700, 77)).decode()))
    line.items[2] |= {"held_ms": 700, "truncated_ms": None}
    assert line.verdict().history_error_ms == 700


def test_an_interruption_during_the_tail_needs_no_truncation() -> None:
    line = Line()
    line.pace(line.item(3000), 200)
    line.speak(3150, 3900)
    line.pace(line.item(500, created_ms=3901), 4100)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert [each.silence_ms for each in verdict.interruptions] == [50]


def test_speech_during_silence_of_the_ai_is_not_an_interruption() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.speak(1300, 2000)
    line.pace(line.item(500, created_ms=2001), 2300)
    verdict = line.verdict()
    assert verdict.interruptions == ()
    assert verdict.response_ms == (300,)
    assert verdict.problems() == []


def test_a_caller_who_stops_within_the_protection_does_not_interrupt_the_greeting() -> None:
    line = Line()
    end = line.pace(line.item(3000), 200)
    line.speak(300, 600)
    line.pace(line.item(500, created_ms=end), end + 100)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert [(each.is_protected, each.effective_ns) for each in verdict.interruptions] == [(True, None)]


def test_a_greeting_cut_for_a_caller_who_stopped_within_the_protection_is_a_cut() -> None:
    line = Line()
    line.pace(line.item(3000)[: 700 * 8], 200)
    line.hold(1, 700)
    line.speak(300, 600)
    assert [cut.item_id for cut in line.verdict(4000).cuts] == ["item_1"]


def test_a_caller_who_speaks_through_the_protection_interrupts_at_its_end() -> None:
    line = Line()
    line.pace(line.item(3000)[: 620 * 8], 200)
    line.hold(1, 620)
    line.speak(300, 1500)
    line.pace(line.item(500, created_ms=1501), 1800)
    verdict = line.verdict()
    (interruption,) = verdict.interruptions
    assert interruption.effective_ns == START + 700 * MS
    assert interruption.silence_ms == 120
    assert verdict.problems() == []


def test_an_interruption_inside_the_protection_is_a_breach() -> None:
    line = Line()
    line.pace(line.item(3000)[: 300 * 8], 200)
    line.hold(1, 300)
    line.speak(300, 1500)
    line.pace(line.item(500, created_ms=1501), 1800)
    verdict = line.verdict()
    assert verdict.greeting is not None
    assert verdict.greeting.is_breached
    assert len(verdict.problems()) == 1


def test_speech_that_the_end_of_the_call_cut_off_breaks_no_promise() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.pace(line.item(6000, created_ms=1900), 2000)
    line.item(700, response="resp_2")
    verdict = line.verdict(end_ms=4000)
    assert verdict.problems() == []
    assert verdict.speech_ms == 3000


def test_an_interruption_long_after_a_cut_does_not_excuse_it() -> None:
    line = Line()
    line.pace(line.item(3000)[:8000], 200)
    line.speak(5000, 6000)
    assert len(line.verdict().cuts) == 1


def test_a_key_that_interrupts_explains_the_silence_after_it_and_no_other_cut() -> None:
    for keys_ms, keys_interrupt, cuts in (
        ((3_000,), True, 0),
        ((3_000,), False, 1),
        ((), True, 1),
        ((9_000,), True, 1),
    ):
        line = Line()
        line.pace(line.item(1000), 200)
        answer = line.item(6000, created_ms=1900)
        line.pace(answer[: 1_120 * 8], 2000)
        line.hold(2, 1_120)
        verdict = line.verdict(keys_ms=keys_ms, keys_interrupt=keys_interrupt)
        assert len(verdict.cuts) == cuts


def test_speech_that_a_lost_socket_cut_off_is_due_on_the_next_one() -> None:
    def call() -> tuple[Line, bytes]:
        line = Line()
        audio = line.item(3000)
        line.pace(audio[: 1_040 * 8], 200)
        line.lose(1_240)
        return line, audio

    line, _ = call()
    verdict = line.verdict()
    assert [cut.missing_bytes for cut in verdict.cuts] == [1_960 * 8]
    assert [(each.held_ms, each.heard_ms) for each in verdict.history] == [(3000, 1040)]
    line, audio = call()
    line.pace(audio[1_040 * 8 :], 1_600)
    verdict = line.verdict()
    assert (verdict.cuts, verdict.history_error_ms, verdict.damages) == ((), 0, ())
    assert [gap.ms for gap in verdict.gaps] == [360]


def test_an_answer_made_when_the_call_ends_need_not_be_heard_and_one_made_before_must() -> None:
    for before_ms, cuts in ((310, 0), (490, 0), (510, 1)):
        line = Line()
        line.pace(line.item(1000), 200)
        line.speak(2000, 3000)
        line.item(2000, created_ms=20_000 - before_ms)
        verdict = line.verdict()
        assert len(verdict.cuts) == cuts
        assert len(verdict.history) == 1 + cuts


def test_an_answer_that_a_stalled_path_holds_up_when_the_call_ends_need_not_be_heard() -> None:
    for before_ms, held_up_ms, cuts in ((1_400, 1_000, 0), (1_400, 0, 1), (1_600, 1_000, 1)):
        line = Line()
        line.pace(line.item(1000), 200)
        line.speak(2000, 3000)
        line.item(2000, created_ms=20_000 - before_ms)
        assert len(line.verdict(held_up_ms=held_up_ms).cuts) == cuts


def test_a_turn_without_an_answer_is_a_problem() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.speak(2000, 3000)
    assert line.verdict().unanswered == 1
    assert line.verdict(end_ms=3500).unanswered == 0


def test_an_answer_that_is_never_heard_is_excused_by_speech_on_its_way_to_the_ear_and_not_by_later_speech() -> None:
    for speaks_ms, cuts in ((3_100, 0), (3_440, 0), (3_460, 1), (7_000, 1)):
        line = Line()
        line.pace(line.item(1000), 200)
        # Its first word is made at 3,200, and due at the ear 250 ms later.
        line.item(2000, created_ms=3_000)
        line.speak(speaks_ms, speaks_ms + 600)
        line.pace(line.item(500, created_ms=speaks_ms + 601), speaks_ms + 850)
        assert len(line.verdict().cuts) == cuts, speaks_ms


def test_an_answer_that_waits_for_the_line_is_due_when_the_line_is_free() -> None:
    for speaks_ms, cuts in ((6_440, 0), (6_460, 1)):
        line = Line()
        line.pace(line.item(6000), 200)
        line.item(2000, created_ms=3_000)
        line.speak(speaks_ms, speaks_ms + 600)
        line.pace(line.item(500, created_ms=speaks_ms + 601), speaks_ms + 850)
        assert len(line.verdict().cuts) == cuts, speaks_ms


def test_a_late_answer_is_a_problem_and_the_models_own_time_does_not_count() -> None:
    for at_ms, late in ((2_320, 0), (2_340, 1)):
        line = Line()
        line.pace(line.item(1000), 200)
        line.speak(1_300, 2_000)
        line.pace(line.item(500, created_ms=2_001), at_ms)
        faults = line.verdict().faults()
        assert [each.kind for each in faults] == ["late answer"] * late


def test_a_turn_without_a_request_to_the_model_counts_as_unanswered_after_a_second() -> None:
    for end_ms, unanswered in ((3_990, 0), (4_010, 1)):
        line = Line()
        line.pace(line.item(1000), 200)
        line.speak(2_000, 3_000)
        assert line.verdict(end_ms).unanswered == unanswered


def test_the_refusal_of_the_servers_own_answer_is_not_an_error() -> None:
    for at_ms, errors in ((2_000, 0), (2_010, 1)):
        line = Line()
        line.pace(line.item(1000), 200)
        line.speak(1_300, 2_000)
        line.pace(line.item(500, created_ms=2_001), 2_250)
        line.errors = [{"at_ns": START + at_ms * MS, "code": "conversation_already_has_active_response"}]
        assert len(line.verdict().errors) == errors


def test_the_answer_to_a_turn_that_is_heard_all_at_once_is_not_interrupted_by_that_turn() -> None:
    line = Line()
    line.pace(line.item(3000)[: 1_120 * 8], 200)
    line.hold(1, 1_120)
    line.speak(1_200, 1_200)
    line.pace(line.item(2000, created_ms=1_200), 1_450)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert [each.response_ids for each in verdict.interruptions] == [("resp_1",)]


def test_a_cancel_that_crosses_the_end_of_its_response_is_no_error_and_a_later_one_is() -> None:
    for since_ms, errors in ((50, 0), (51, 1)):
        line = Line()
        line.pace(line.item(1000), 200)
        done_ns = line.responses[0]["done_ns"]
        line.errors = [{"at_ns": done_ns + since_ms * MS, "code": "response_cancel_not_active"}]
        assert line.verdict().cancel_not_active == errors
