"""The record of a call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aibridge.core.history import REPLAY_TURNS, TEXT_MAX, UNKNOWN_CALLER, History, cut_text
from aibridge.core.utterances import Utterance
from tests.aibridge.bench import MS, Bench


def says(history: History, turn: int, words: str) -> None:
    history.speech_started(turn, 1)
    history.speech_stopped(turn, 2)
    history.taken(turn)
    history.caller_words(turn, words)


@given(st.text(alphabet="ab \n", max_size=60), st.floats(0, 1))
def test_a_text_is_cut_at_its_end_and_at_a_whole_word(text: str, share: float) -> None:
    head = cut_text(text, share)
    assert text.startswith(head)
    assert len(head) <= round(len(text) * share) or head == text
    assert not head or head == text or text[len(head)].isspace()


def test_a_text_that_was_heard_whole_is_not_cut() -> None:
    assert cut_text("all of it", 1.0) == "all of it"
    assert cut_text("all of it", 0.0) == ""


def test_a_replay_holds_the_heard_words_and_marks_unknown_ones() -> None:
    history = History()
    for number, heard in ((1, 800), (2, 400), (3, 0)):
        history.begin_utterance(Utterance(number, 1, received_bytes=800, heard_bytes=heard)).text = "one two three four"
    history.speech_started(1, 5)
    history.speech_stopped(1, 9)
    history.taken(1)
    assert [text for _, text in history.replay()] == ["one two three four", "one two", UNKNOWN_CALLER]
    assert history.turns[-1].ended_ns == 9


def test_a_turn_without_speech_is_not_recorded() -> None:
    history = History()
    assert not history.taken(1)
    assert history.turns == []


def test_a_replay_is_bounded_and_keeps_the_last_turns() -> None:
    history = History()
    for number in range(2 * REPLAY_TURNS):
        says(history, number, f"{number} " + "word " * 40)
    told = history.replay()
    assert len(told) <= REPLAY_TURNS
    assert told[-1][0] is history.turns[-1]
    assert sum(len(text) for _, text in told) <= 24_000


def test_each_change_is_returned_once() -> None:
    history = History()
    says(history, 1, "")
    assert [turn.key for turn in history.take_changed()] == ["caller-1"]
    assert history.take_changed() == []
    history.caller_words(1, "Hello.")
    assert len(history.take_changed()) == 1


def test_a_turn_that_a_new_session_hears_again_is_recorded_once_and_not_replayed() -> None:
    history = History()
    says(history, 1, "")
    history.hear_again([1])
    assert history.replay() == []
    says(history, 7, "What time is it?")
    assert [(turn.number, turn.key, turn.text) for turn in history.turns] == [(1, "caller-7", "What time is it?")]
    says(history, 8, "Hello?")
    assert len(history.turns) == 2


def test_the_stored_words_are_cut_at_the_same_share_and_marked() -> None:
    bench = Bench()
    bench.answers()
    bench.speaks()
    bench.withdrawn(1, (1, 2_500))
    turn = bench.talk.history.turns[0]
    assert turn.interrupted
    assert turn.heard_text == "one two three four five"
    assert bench.talk.history.interruptions[0].silent_ns == bench.ns + 120 * MS


def test_the_history_of_many_hours_holds_only_what_a_new_session_is_told() -> None:
    bench = Bench()
    for number in range(1, 1_001):
        bench.began(number)
        bench.speech(100, number, number, words="word " * 10_000)
        bench.speech_ended(number)
        bench.ended(number)
        bench.ear(number)
        bench.heard(number)
        bench.take()
        bench.done.clear()
    turns = bench.talk.history.turns
    assert [turn.number for turn in turns] == list(range(801, 1_001))
    assert all(len(turn.text) == TEXT_MAX for turn in turns)
    ledger = bench.talk.utterances
    assert ledger.get(1) is None
    assert ledger.get(1_000) is not None
    assert bench.talk.history.of_utterance(1_000) is turns[-1]
