"""The facts of a conversation: after the first frame, each turn when it is settled, the rest at the end."""

from __future__ import annotations

from aibridge.core.history import Hesitation, History, Interruption
from aibridge.core.reporter import Reporter
from aibridge.core.tools import ToolRule, Tools
from aibridge.core.utterances import Utterance
from aibridge.models.port import Usage
from shared import facts
from shared.metrics import Page, counter

from .fake_shell import FakeShell

S = 1_000_000_000


def reporter(record=True):
    shell = FakeShell()
    history = History()
    one = Reporter(
        shell,
        call=7,
        call_sid="CA1",
        stream_sid="MZ1",
        agent="sales",
        model="m",
        record=record,
        resumed=False,
        history=history,
    )
    return one, history, shell.noted


def say(history, *, ended_ns=2 * S, text="one two three four", heard=16_000):
    """Record the AI's first words."""
    turn = history.begin_utterance(Utterance(1, 1, 16_000, heard_bytes=heard, began_ns=S, settled_ns=ended_ns))
    turn.text = text
    return turn


def test_nothing_is_noted_before_the_first_frame():
    one, history, noted = reporter()
    say(history)
    one.sweep()
    assert noted == []
    one.first_frame(5 * S)
    one.first_frame(6 * S)
    one.sweep()
    assert [type(fact) for fact in noted] == [facts.ConversationBegan, facts.Turn]
    assert noted[0].record


def test_a_turn_is_noted_at_its_end_and_again_when_its_words_come():
    one, history, noted = reporter()
    one.first_frame(S)
    turn = say(history, ended_ns=None, text="")
    one.sweep()
    assert len(noted) == 1
    turn.speech.settled_ns = 3 * S
    one.sweep()
    one.sweep()
    assert len(noted) == 2
    history.add_words(1, "hello", is_all=True)
    one.sweep()
    assert [fact.heard_text for fact in noted[1:]] == ["", "hello"]


def test_a_turn_cut_off_by_the_end_of_the_call_holds_the_words_that_there_was_time_to_hear():
    one, history, noted = reporter()
    one.first_frame(S)
    say(history, ended_ns=None, heard=None)
    history.interruptions.append(Interruption(S, S + 120_000_000, False, True))
    history.responses = 3
    one.gap(3_000_000)
    one.gap(1_000_000, continued=True)
    one.ended(2 * S, "stop")
    _, interruption, turn, usage, last = noted
    assert interruption.silent_ms == 120
    assert (turn.spoken_ms, turn.heard_ms, turn.heard_text) == (2_000, 1_000, "one two")
    assert (usage.responses, usage.conversation) == (3, 7)
    assert (last.ear_gaps, last.ear_gap_us) == (1, 4_000)


def test_an_early_pause_is_noted_from_the_first_sound_on_and_a_hesitation_with_its_length():
    one, history, noted = reporter()
    one.first_frame(S)
    ms = S // 1_000
    history.interruptions.append(Interruption(1_900 * ms, 1_680 * ms, False, True, 1_500 * ms, 1_560 * ms))
    history.hesitations.append(Hesitation("unconfirmed", 2_000 * ms, 2_060 * ms, 2_300 * ms))
    one.sweep()
    one.sweep()
    interruption, hesitation = noted[1:]
    assert (interruption.silent_ms, interruption.stopped_ms) == (0, 180)
    assert interruption.at_ms - interruption.onset_ms == 400
    assert interruption.at_ms - interruption.paused_ms == 340
    assert (hesitation.kind, hesitation.lasted_ms) == ("unconfirmed", 240)


def test_a_gap_at_the_ear_shortens_what_was_heard_by_the_end_of_the_call():
    one, history, noted = reporter()
    one.first_frame(S)
    say(history, ended_ns=None, heard=None).speech.gap_ns = S // 2
    one.ended(2 * S, "stop")
    assert [fact.heard_ms for fact in noted if isinstance(fact, facts.Turn)] == [500]


def test_a_turn_that_continues_at_another_worker_is_noted_by_that_worker():
    one, history, noted = reporter()
    one.first_frame(S)
    say(history, ended_ns=None, heard=None)
    one.ended(2 * S, "moved")
    assert not [fact for fact in noted if isinstance(fact, facts.Turn)]


def test_a_call_that_ended_without_a_frame_is_not_recorded():
    one, _, noted = reporter()
    one.ended(S, "lost")
    assert not noted[0].record


def test_a_record_names_the_model_that_the_session_reports():
    one, _, noted = reporter()
    one.first_frame(S)
    one.speaks("sales", "simulated")
    one.ended(2 * S, "stop")
    began = [fact for fact in noted if isinstance(fact, facts.ConversationBegan)]
    assert [(fact.model, fact.record) for fact in began] == [("m", True), ("simulated", False)]
    assert [fact.model for fact in noted if isinstance(fact, facts.ModelUsage)] == ["simulated"]


def test_the_tokens_of_each_agent_that_spoke_are_noted_apart():
    one, history, noted = reporter()
    one.first_frame(S)
    one.speaks("sales", "large")
    history.count_usage(Usage(output_audio=3))
    one.speaks("office", "small")
    one.sweep()
    history.count_usage(Usage(output_audio=4))
    one.ended(2 * S, "stop")
    used = [fact for fact in noted if isinstance(fact, facts.ModelUsage)]
    assert [(each.agent, each.model, each.responses, each.audio_out) for each in used] == [
        ("sales", "large", 1, 3),
        ("office", "small", 0, 0),
        ("office", "small", 1, 4),
    ]
    first, *others = (each.conversation for each in used)
    assert others == [others[0]] * 2
    assert others[0] != first
    assert {fact.agent for fact in noted if isinstance(fact, facts.ConversationBegan)} == {"sales"}


def test_a_tool_is_noted_with_arguments_answer_and_outcome_when_it_has_answered_or_the_call_is_over():
    one, history, noted = reporter()
    one.first_frame(S)
    tools = Tools(Page.in_memory([counter("illegal", "")]).counter("illegal"))
    answered, unanswered = (tools.begin(n, "book", '{"people":2}', ToolRule(9 * S), S, response=1) for n in (1, 2))
    history.tool_called(answered, S)
    history.tool_called(unanswered, S)
    answered.output, answered.outcome = "Booked.", "done"
    history.tool_answered(answered, 2 * S)
    one.sweep()
    one.ended(3 * S, "stop")
    found = [
        (each.role, each.tool, each.arguments, each.outcome, each.text)
        for each in noted
        if isinstance(each, facts.Turn)
    ]
    assert found == [("tool", "book", '{"people":2}', "done", "Booked."), ("tool", "book", '{"people":2}', "", "")]
