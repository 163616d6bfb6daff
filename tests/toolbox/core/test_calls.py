"""The calls of tools in virtual time: carried out once, within the limits, and answered by the deadline."""

from __future__ import annotations

import itertools
from typing import TypeVar

import pytest

from shared.messages import TOOL_OUTCOMES, CallTool, ToolAnswered, ToolSpec
from shared.plan import CallPlan
from toolbox.core.answers import Answers
from toolbox.core.calls import PER_CALLER_MAX, TABLE, WAITING_MAX, Calls, Event, State, Tool
from toolbox.core.commands import CallCommand, Enqueue, Note, Reply, Withdraw

MS = 1_000_000
C = TypeVar("C")


def tool(*, concurrency: int = 8, side_effect: bool = True, cancellable: bool = True) -> Tool:
    return Tool(ToolSpec("book", "", "{}", 300, side_effect), "python", "book", concurrency, cancellable)


def ask(call_id: str = "a", call_sid: str = "CA1") -> CallTool:
    return CallTool(call_sid, call_id, "agent", "book", "{}", CallPlan())


def only(kind: type[C], commands: list[CallCommand]) -> list[C]:
    return [command for command in commands if isinstance(command, kind)]


def answers(commands: list[CallCommand]) -> list[ToolAnswered]:
    return [reply.answer for reply in only(Reply, commands)]


def test_a_call_is_run_and_its_answer_goes_to_the_worker_that_asked() -> None:
    calls = Calls()
    (enqueue,) = only(Enqueue, calls.ask("w0", ask(), tool(), 0))
    assert calls.began(enqueue.number, 1 * MS) == []
    commands = calls.ended(enqueue.number, "done", "at 8", 25 * MS)
    assert commands == [
        Reply("w0", ToolAnswered("CA1", "a", "done", "at 8", 25)),
        Note("book", "CA1", "done", 0.025),
    ]
    assert calls.live == 0
    assert calls.due_ns() is None


def test_a_call_that_is_asked_for_again_runs_once_and_the_last_asker_gets_the_answer() -> None:
    calls = Calls()
    (enqueue,) = only(Enqueue, calls.ask("w0", ask(), tool(), 0))
    calls.began(enqueue.number, 0)
    assert calls.ask("w1", ask(), tool(), 10 * MS) == []
    ended = calls.ended(enqueue.number, "done", "yes", 20 * MS)
    assert only(Reply, ended) == [Reply("w1", ToolAnswered("CA1", "a", "done", "yes", 20))]
    # After the answer, too: the successor of a worker asks for what its predecessor had.
    assert calls.ask("w2", ask(), tool(), 30 * MS) == [Reply("w2", ToolAnswered("CA1", "a", "done", "yes", 20))]


def test_the_same_call_id_in_another_phone_call_is_another_call() -> None:
    calls = Calls()
    assert len(only(Enqueue, calls.ask("w0", ask(), tool(), 0))) == 1
    assert len(only(Enqueue, calls.ask("w0", ask(call_sid="CA2"), tool(), 0))) == 1


def test_a_call_whose_answer_is_forgotten_is_answered_as_unknown_and_not_run_again() -> None:
    calls = Calls(Answers(answers_max=1))
    for call_id in ("a", "b"):
        (enqueue,) = only(Enqueue, calls.ask("w0", ask(call_id), tool(), 0))
        calls.began(enqueue.number, 0)
        calls.ended(enqueue.number, "done", "", 0)
    commands = calls.ask("w0", ask("a"), tool(), 0)
    assert [answer.outcome for answer in answers(commands)] == ["unknown"]
    assert len(commands) == 1


def test_a_running_call_is_answered_at_its_deadline_and_holds_its_place_until_it_has_ended() -> None:
    calls = Calls()
    one_at_a_time = tool(concurrency=1)
    (first,) = only(Enqueue, calls.ask("w0", ask("a"), one_at_a_time, 0))
    assert only(Enqueue, calls.ask("w0", ask("b"), one_at_a_time, 200 * MS)) == []
    calls.began(first.number, 0)
    assert calls.due_ns() == 300 * MS
    assert calls.tick(299 * MS) == []
    late = calls.tick(300 * MS)
    assert [answer.outcome for answer in answers(late)] == ["timeout"]
    assert "not known" in answers(late)[0].output
    assert only(Withdraw, late) == [Withdraw(first.number, "python")]
    # Its own answer comes too late: it is dropped, and the next call gets the place.
    freed = calls.ended(first.number, "done", "late", 310 * MS)
    assert answers(freed) == []
    assert [enqueue.ask.call_id for enqueue in only(Enqueue, freed)] == ["b"]


def test_a_call_that_finds_no_room_until_its_deadline_was_not_carried_out() -> None:
    calls = Calls()
    calls.ask("w0", ask("a"), tool(concurrency=1), 0)
    calls.ask("w0", ask("b"), tool(concurrency=1), 0)
    late = calls.tick(300 * MS)
    assert {answer.call_id: answer.outcome for answer in answers(late)} == {"a": "busy", "b": "busy"}
    assert all("not carried out" in answer.output for answer in answers(late))


def test_a_tool_has_no_more_calls_running_than_its_limit_and_a_bounded_queue() -> None:
    calls = Calls()
    limited = tool(concurrency=2)
    commands: list[CallCommand] = []
    for number in range(2 + WAITING_MAX + 1):
        commands += calls.ask("w0", ask(str(number), f"CA{number}"), limited, 0)
    assert len(only(Enqueue, commands)) == 2
    assert [(answer.call_id, answer.outcome) for answer in answers(commands)] == [(str(2 + WAITING_MAX), "busy")]


def test_one_phone_call_has_a_bounded_number_of_calls_and_costs_no_other_one() -> None:
    calls = Calls()
    wide = tool(concurrency=1_000)
    flood = [calls.ask("w0", ask(str(number)), wide, 0) for number in range(PER_CALLER_MAX + 1)]
    assert [answer.outcome for answer in answers(flood[-1])] == ["busy"]
    assert len(only(Enqueue, calls.ask("w0", ask("a", "CA2"), wide, 0))) == 1


def test_an_unknown_tool_is_refused_at_once() -> None:
    (answer,) = answers(Calls().ask("w0", ask(), None, 0))
    assert answer.outcome == "refused"


def test_a_toolbox_that_leaves_refuses_new_calls_and_still_answers_those_that_it_runs() -> None:
    calls = Calls()
    (enqueue,) = only(Enqueue, calls.ask("w0", ask("a"), tool(), 0))
    calls.began(enqueue.number, 0)
    assert calls.ask("w1", ask("a"), None, 0, refusal=("unavailable", "")) == []
    assert [answer.outcome for answer in answers(calls.ask("w1", ask("b"), None, 0, refusal=("unavailable", "")))] == [
        "unavailable"
    ]
    assert [answer.outcome for answer in answers(calls.cancel_all(0))] == ["cancelled"]


@pytest.mark.parametrize(("began", "words"), [(True, "not known"), (False, "not carried out")])
def test_a_cancelled_call_is_answered_at_once_and_stopped(began: bool, words: str) -> None:
    calls = Calls()
    (enqueue,) = only(Enqueue, calls.ask("w0", ask(), tool(), 0))
    if began:
        calls.began(enqueue.number, 0)
    commands = calls.cancel("CA1", "a", 5 * MS)
    assert answers(commands)[0].outcome == "cancelled"
    assert words in answers(commands)[0].output
    assert only(Withdraw, commands) == [Withdraw(enqueue.number, "python")]
    assert calls.cancel("CA1", "a", 6 * MS) == []


def test_a_hang_up_stops_every_call_of_the_phone_call_except_those_that_are_not_cancellable() -> None:
    calls = Calls()
    for call_id, cancellable in (("a", True), ("b", False), ("c", False)):
        (enqueue,) = only(Enqueue, calls.ask("w0", ask(call_id), tool(cancellable=cancellable), 0))
        if call_id != "c":
            calls.began(enqueue.number, 0)
    calls.ask("w0", ask("d", "CA2"), tool(), 0)
    # One that has not begun is not begun any more.
    stopped = answers(calls.cancel("CA1", "", 0, hung_up=True))
    assert {answer.call_id for answer in stopped} == {"a", "c"}


def test_the_death_of_its_process_answers_a_call_that_ran_as_crashed() -> None:
    calls = Calls()
    (enqueue,) = only(Enqueue, calls.ask("w0", ask(), tool(), 0))
    calls.began(enqueue.number, 0)
    (answer,) = answers(calls.lost(enqueue.number, 1 * MS))
    assert answer.outcome == "crashed"
    assert "not known" in answer.output


def test_what_only_looks_something_up_leaves_no_doubt_about_what_was_done() -> None:
    calls = Calls()
    (enqueue,) = only(Enqueue, calls.ask("w0", ask(), tool(side_effect=False), 0))
    calls.began(enqueue.number, 0)
    (answer,) = answers(calls.tick(300 * MS))
    assert answer.output == "The tool took too long and was stopped."


def test_a_call_without_a_process_to_run_it_was_not_carried_out() -> None:
    calls = Calls()
    (enqueue,) = only(Enqueue, calls.ask("w0", ask(), tool(), 0))
    (answer,) = answers(calls.lost(enqueue.number, 1 * MS))
    assert answer.outcome == "unavailable"


def test_an_answer_is_cut_to_what_a_conversation_has_room_for() -> None:
    calls = Calls()
    (enqueue,) = only(Enqueue, calls.ask("w0", ask(), tool(), 0))
    calls.began(enqueue.number, 0)
    (answer,) = answers(calls.ended(enqueue.number, "done", "x" * 20_000, 0))
    assert answer.output.startswith("x" * 8_000 + "\n[cut: the answer has 20000 characters")


def test_every_outcome_of_the_table_is_one_that_the_conversation_knows() -> None:
    assert {row.outcome for row in TABLE.values()} - {"", "own"} <= set(TOOL_OUTCOMES)
    assert not [key for key in TABLE if key[0] is State.OVER]


def test_in_any_order_of_events_a_call_is_answered_exactly_once() -> None:
    for events in itertools.permutations(Event):
        calls = Calls()
        (enqueue,) = only(Enqueue, calls.ask("w0", ask(), tool(concurrency=1), 0))
        calls.ask("w0", ask("b"), tool(concurrency=1), 1)
        commands: list[CallCommand] = []
        for event in events:
            match event:
                case Event.BEGAN:
                    commands += calls.began(enqueue.number, 0)
                case Event.ENDED:
                    commands += calls.ended(enqueue.number, "done", "own", 0)
                case Event.LOST:
                    commands += calls.lost(enqueue.number, 0)
                case Event.DEADLINE:
                    commands += calls.tick(300 * MS)
                case Event.CANCELLED:
                    commands += calls.cancel("CA1", "a", 0)
        assert [answer.call_id for answer in answers(commands)] == ["a"], events
        # Whatever happened to it, its place is free again.
        assert [enqueued.ask.call_id for enqueued in only(Enqueue, commands)] == ["b"], events
        assert calls.live == 1
