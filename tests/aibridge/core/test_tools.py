"""Tools in the conversation: each call is answered once, and the model speaks about the answers once."""

from __future__ import annotations

import pytest

from aibridge.core.commands import CallTool, CancelTool, EndCall
from aibridge.core.story import LineMemory
from aibridge.core.successor import successor, tell
from aibridge.core.tool_events import MODEL_TOOL_LOST
from aibridge.core.tools import TOOLBOX_LATE_NS, ToolRule
from aibridge.models.port import (
    AnswerTaken,
    AnswerTool,
    Ask,
    CallerWords,
    ModelToolAnswered,
    ModelToolCalled,
    TellAnswer,
    TellCall,
)
from tests.aibridge.bench import MS, Bench

RULES = {
    "look": ToolRule(10_000 * MS),
    "book": ToolRule(10_000 * MS, filler_after_ns=2_000 * MS),
    "play": ToolRule(10_000 * MS, ends_at_speech=True),
}


def bench() -> Bench:
    return Bench(tools=RULES)


def asked(bench: Bench) -> list[str]:
    bench.wait(150)
    return [ask.purpose for ask in bench.all(Ask)]


def answered(bench: Bench) -> list[tuple[int, str]]:
    return [(answer.tool_call, answer.output) for answer in bench.all(AnswerTool)]


def calling(*names: str) -> Bench:
    """The caller has asked something, and the model calls tools and ends its response."""
    own = bench()
    own.speaks()
    own.stops()
    own.began()
    for number, name in enumerate(names, 1):
        own.calls(name, tool_call=number)
    own.ended()
    return own


def test_a_tool_is_called_answered_and_spoken_about_once() -> None:
    own = calling("look")
    assert own.all(CallTool) == [CallTool(1, "look", "{}")]
    assert asked(own) == []
    own.tool_answers("sunny")
    assert answered(own) == [(1, "sunny")]
    assert asked(own) == ["answer"]
    own.began(2, "answer")
    own.speech(500, 1, 2)
    own.ended(2)
    own.ear()
    own.heard()
    assert asked(own) == ["answer"]


def test_parallel_calls_get_one_response_when_all_are_answered() -> None:
    own = calling("look", "book")
    own.tool_answers("first", 2)
    assert asked(own) == []
    own.tool_answers("second", 1)
    assert answered(own) == [(2, "first"), (1, "second")]
    assert asked(own) == ["answer"]


def test_an_answer_before_the_end_of_the_response_waits_for_that_end() -> None:
    own = bench()
    own.speaks()
    own.stops()
    own.began()
    own.calls("look")
    own.tool_answers()
    assert asked(own) == []
    own.ended()
    assert len(own.all(Ask)) == 1


def test_toolbox_that_answers_twice_is_heard_once() -> None:
    own = calling("look")
    own.tool_answers("one")
    own.tool_answers("two")
    assert answered(own) == [(1, "one")]
    assert asked(own) == ["answer"]


def test_a_toolbox_that_never_answers_is_answered_for_after_the_deadline() -> None:
    own = calling("look")
    own.wait(10_000 + TOOLBOX_LATE_NS // MS)
    assert answered(own) == [(1, '{"error":"it took too long"}')]
    assert own.all(CancelTool) == [CancelTool(1)]
    assert asked(own) == ["answer"]
    own.tool_answers("late")
    assert len(answered(own)) == 1


def test_an_answer_while_the_caller_speaks_is_known_to_the_answer_of_that_turn() -> None:
    own = calling("look")
    own.speaks(2)
    own.tool_answers()
    assert answered(own) == [(1, "done")]
    own.event(AnswerTaken(1))
    own.stops(2)
    own.began(2)
    own.speech(500, 1, 2)
    own.ended(2)
    own.ear()
    own.heard()
    assert asked(own) == []


def test_an_answer_that_crosses_the_beginning_of_a_response_is_spoken_about_after_it() -> None:
    own = calling("look")
    own.speaks(2)
    own.tool_answers()  # and the model has begun before it got this
    own.stops(2)
    own.began(2)
    own.speech(500, 1, 2)
    own.event(AnswerTaken(1))
    assert own.all(Ask) == []
    own.ended(2)
    assert asked(own) == ["answer"]


def test_an_answer_while_the_model_answers_the_caller_is_spoken_about_after_it() -> None:
    own = calling("look")
    own.speaks(2)
    own.stops(2)
    own.began(2)
    own.tool_answers()
    own.event(AnswerTaken(1))
    assert own.all(Ask) == []
    own.ended(2)
    assert asked(own) == ["answer"]


def test_a_tool_that_ends_at_speech_is_cancelled_and_answered_when_the_caller_speaks() -> None:
    own = calling("play", "look")
    own.speaks(2)
    assert own.all(CancelTool) == [CancelTool(1)]
    assert answered(own) == [(1, '{"error":"the caller interrupted"}')]
    own.tool_answers("late", 1)
    own.tool_answers("sunny", 2)
    assert [number for number, _ in answered(own)] == [1, 2]


def test_a_filler_is_asked_for_once_after_a_silent_wait() -> None:
    own = calling("book")
    own.wait(1_900)
    assert own.all(Ask) == []
    own.wait(200)
    assert asked(own) == ["filler"]
    own.began(2, "filler")
    own.speech(400, 1, 2)
    own.tool_answers()
    own.ended(2)
    own.wait(5_000)
    assert asked(own) == ["filler", "answer"]


@pytest.mark.parametrize("speaks", ["caller", "model"])
def test_nobody_is_talked_over_with_a_filler(speaks: str) -> None:
    own = calling("book")
    if speaks == "caller":
        own.speaks(2)
    else:
        own.began(2)
        own.speech(5_000, 1, 2)
    own.wait(3_000)
    assert own.all(Ask) == []


def test_a_filler_that_fails_is_not_tried_again() -> None:
    own = calling("book")
    own.wait(2_050)
    own.fault("other", own.all(Ask)[-1].request)
    own.wait(4_000)
    assert asked(own) == ["filler"]


def test_a_call_does_not_end_while_a_tool_runs() -> None:
    own = bench()
    own.began()
    own.calls("look", tool_call=1)
    own.calls("end_call", tool_call=2)
    own.ended()
    own.wait(5_000)
    assert own.all(EndCall) == []
    own.tool_answers()
    own.wait(100)
    own.began(2, "answer")
    own.ended(2)
    own.wait(200)
    assert len(own.all(EndCall)) == 1


def test_the_next_session_is_told_of_a_tool_that_runs_and_later_its_answer() -> None:
    own = calling("look")
    own.lost()
    own.wait(100)
    own.ready()
    assert own.all(TellCall) == [TellCall(own.all(TellCall)[0].number, "look", "{}")]
    assert own.all(TellAnswer) == []
    own.tool_answers("sunny")
    assert answered(own) == []
    assert own.all(TellAnswer) == [TellAnswer(own.all(TellCall)[0].number, "sunny")]
    assert asked(own) == ["answer"]


def test_an_answer_without_a_session_is_told_to_the_next_one_with_the_history() -> None:
    own = calling("look")
    own.lost()
    own.tool_answers("sunny")
    own.wait(100)
    own.ready()
    (call,) = own.all(TellCall)
    assert own.all(TellAnswer) == [TellAnswer(call.number, "sunny")]
    assert asked(own) == ["answer"]


def test_a_turn_that_led_to_a_tool_is_not_heard_again_by_the_next_session() -> None:
    own = calling("look")
    own.lost()
    assert own.talk.caller.deliver() == (b"", [])


def succeed(own: Bench) -> Bench:
    story, line = tell(own.talk, 0)
    after = Bench(start=False, tools=RULES)
    after.now = own.now
    after.done += successor(after.talk, story, line, [], after.ns, 0)
    after.ready()
    return after


def test_a_successor_asks_toolbox_for_the_answer_under_the_same_number() -> None:
    after = succeed(calling("look"))
    assert after.all(CallTool) == [CallTool(1, "look", "{}")]
    assert asked(after) == []
    after.tool_answers("sunny")
    assert len(after.all(TellCall)) == len(after.all(TellAnswer)) == 1
    assert asked(after) == ["answer"]


def test_a_successor_repeats_no_tool_that_was_answered() -> None:
    own = calling("look")
    own.tool_answers("sunny")
    after = succeed(own)
    assert after.all(CallTool) == []
    assert [each.output for each in after.all(TellAnswer)] == ["sunny"]


def calling_at_the_model() -> Bench:
    """The model has called a tool that its own server carries out, and ends its response."""
    own = bench()
    own.speaks()
    own.stops()
    own.began()
    own.event(ModelToolCalled(1, 1, "notes.find", "{}"))
    own.ended()
    return own


@pytest.mark.parametrize("is_error", [False, True])
def test_a_tool_of_the_models_server_is_spoken_about_once_and_neither_called_nor_answered_here(is_error: bool) -> None:
    own = calling_at_the_model()
    assert asked(own) == []
    own.event(ModelToolAnswered(1, "found", is_error))
    assert asked(own) == ["answer"]
    assert own.all(CallTool) == own.all(AnswerTool) == []
    (turn,) = (turn for turn in own.talk.history.turns if turn.role == "tool")
    assert turn.tool is not None
    assert (turn.shown_text, turn.tool.outcome) == ("notes.find: found", "failed" if is_error else "done")


def test_an_answer_of_the_models_server_within_the_response_waits_for_its_end() -> None:
    own = bench()
    own.speaks()
    own.stops()
    own.began()
    own.event(ModelToolCalled(1, 1, "notes.find", "{}"))
    own.event(ModelToolAnswered(1, "found"))
    assert asked(own) == []
    own.ended()
    assert asked(own) == ["answer"]


def test_a_tool_of_the_models_server_that_is_lost_with_its_session_is_told_as_unknown() -> None:
    own = calling_at_the_model()
    own.lost()
    own.wait(100)
    own.ready()
    assert [each.name for each in own.all(TellCall)] == ["notes.find"]
    assert [MODEL_TOOL_LOST in each.output for each in own.all(TellAnswer)] == [True]
    assert asked(own) == ["answer"]


def test_a_successor_asks_nobody_for_a_tool_of_the_models_server() -> None:
    after = succeed(calling_at_the_model())
    assert after.all(CallTool) == []
    assert [MODEL_TOOL_LOST in each.output for each in after.all(TellAnswer)] == [True]


def test_a_successor_numbers_its_calls_beyond_those_of_its_predecessor() -> None:
    own = calling("look")
    after = succeed(own)
    assert after.talk.numbers.next_tool_call() > 1_000
    assert tell(after.talk, 0)[1] != LineMemory()


def test_the_history_shows_a_tool_between_the_turns() -> None:
    own = calling("look")
    own.event(CallerWords(1, "How is the weather?"))
    own.tool_answers("sunny")
    assert [(turn.role, turn.shown_text) for turn in own.talk.history.turns] == [
        ("caller", "How is the weather?"),
        ("tool", "look: sunny"),
    ]
