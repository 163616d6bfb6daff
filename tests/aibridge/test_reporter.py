"""What callbook is told of a conversation: after the first frame, each turn when it is settled, the rest at the end."""

from __future__ import annotations

from aibridge.agent import Agent
from aibridge.core.history import History, Interruption
from aibridge.reporter import Reporter
from shared import facts

S = 1_000_000_000


def reporter(record=True):
    noted = []
    history = History()
    one = Reporter(
        call=7,
        call_sid="CA1",
        stream_sid="MZ1",
        model="m",
        record=record,
        resumed=False,
        history=history,
        note=noted.append,
    )
    return one, history, noted


def say(history, item_id, *, started_ns=S, ended_ns=2 * S, text="one two three four", received=16_000, heard=16_000):
    turn = history.turn("ai", item_id)
    turn.started_ns, turn.ended_ns, turn.text = started_ns, ended_ns, text
    turn.received_bytes, turn.heard_bytes = received, heard
    return turn


def test_nothing_is_noted_before_the_first_frame():
    one, history, noted = reporter()
    say(history, "a")
    one.sweep()
    assert noted == []
    one.first_frame(5 * S)
    one.first_frame(6 * S)
    one.sweep()
    assert [type(fact) for fact in noted] == [facts.ConversationBegan, facts.Turn]
    assert noted[0].record


def test_a_turn_is_noted_when_it_ended_and_again_when_its_words_come():
    one, history, noted = reporter()
    one.first_frame(S)
    turn = say(history, "a", ended_ns=None, text="")
    one.sweep()
    assert len(noted) == 1
    turn.ended_ns = 3 * S
    one.sweep()
    one.sweep()
    assert len(noted) == 2
    history.find("a").text = "hello"
    one.sweep()
    assert [fact.heard_text for fact in noted[1:]] == ["", "hello"]


def test_a_turn_that_the_end_of_the_call_cut_off_holds_what_there_was_time_to_hear():
    one, history, noted = reporter()
    one.first_frame(S)
    say(history, "a", ended_ns=None, heard=None)
    history.interruptions.append(Interruption(S, S + 120_000_000, False, True))
    history.usage.responses = 3
    one.gap(3_000_000)
    one.gap(1_000_000, continued=True)
    one.ended(2 * S, "stop")
    _, interruption, turn, usage, last = noted
    assert interruption.silent_ms == 120
    assert (turn.spoken_ms, turn.heard_ms, turn.heard_text) == (2_000, 1_000, "one two")
    assert (usage.responses, usage.conversation) == (3, 7)
    assert (last.ear_gaps, last.ear_gap_us) == (1, 4_000)


def test_what_the_ear_waited_for_was_not_heard():
    one, history, noted = reporter()
    one.first_frame(S)
    say(history, "a", ended_ns=None, heard=None).gap_ns = S // 2
    one.ended(2 * S, "stop")
    assert [fact.heard_ms for fact in noted if isinstance(fact, facts.Turn)] == [500]


def test_a_turn_that_goes_on_at_another_worker_is_left_to_that_one():
    one, history, noted = reporter()
    one.first_frame(S)
    say(history, "a", ended_ns=None, heard=None)
    one.ended(2 * S, "moved")
    assert not [fact for fact in noted if isinstance(fact, facts.Turn)]


def test_a_call_that_ended_without_a_frame_is_not_recorded():
    one, _, noted = reporter()
    one.ended(S, "lost")
    assert not noted[0].record


def test_the_notice_comes_first_and_only_when_the_call_is_recorded():
    agent = Agent(instructions="x", greeting="Hello.", recording_notice="This call is recorded.")
    assert agent.is_recorded("on")
    assert not agent.is_recorded("off")
    assert not Agent(instructions="x", recording="off").is_recorded("on")
    assert Agent(instructions="x", recording="on").is_recorded("off")
    assert agent.first_words(recorded=False) == "Hello."
    assert agent.first_words(recorded=True) == "This call is recorded. Hello."
    assert Agent(instructions="x", recording_notice="Recorded.").script(recorded=True).greets
