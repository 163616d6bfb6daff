"""A session comes and goes: what the next one is told, hears and owes."""

from __future__ import annotations

from aibridge.core.commands import DialModel, UseSession
from aibridge.core.history import UNKNOWN_CALLER
from aibridge.models.port import Ask, CallerWords, HearAudio, Tell
from tests.aibridge.bench import LOUD, Bench


def reconnected(bench: Bench) -> None:
    bench.lost()
    bench.wait(100)
    assert len(bench.all(DialModel)) == 1
    bench.take()
    bench.ready()


def loud_bytes(bench: Bench) -> int:
    """How much of the caller's speech the fresh session hears."""
    return sum(each.data.count(LOUD) * len(LOUD) for each in bench.all(HearAudio))


def test_a_turn_whose_words_never_come_is_heard_again_instead_of_answered_blind() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    reconnected(bench)
    assert loud_bytes(bench) == 10 * len(LOUD)
    assert [each.text for each in bench.all(Tell)] == []
    assert bench.all(Ask) == []
    bench.speaks(2)  # what the new session notices in that audio
    bench.stops(2)
    bench.began()
    bench.wait(5_000)
    assert bench.all(Ask) == []
    assert [turn.key for turn in bench.talk.history.turns] == ["caller-2"]


def test_a_turn_in_which_the_new_session_notices_nothing_is_answered_all_the_same() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    reconnected(bench)
    bench.wait(2_100)
    assert [each.purpose for each in bench.all(Ask)] == ["answer"]


def test_a_turn_whose_words_are_known_is_told_and_answered_at_once() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    bench.event(CallerWords(1, "What time is it?"))
    reconnected(bench)
    assert loud_bytes(bench) == 0
    assert [each.text for each in bench.all(Tell)] == ["What time is it?"]
    assert [each.purpose for each in bench.all(Ask)] == ["answer"]


def test_a_turn_whose_answer_the_caller_has_begun_to_hear_is_not_heard_again() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    bench.began()
    bench.speech(1_000, words="Noon.")
    bench.speech_ended()
    bench.ended()
    bench.ear()
    reconnected(bench)
    assert loud_bytes(bench) == 0
    assert [each.text for each in bench.all(Tell)] == [UNKNOWN_CALLER, "Noon."]


def test_a_turn_whose_answer_was_interrupted_unheard_is_heard_again() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    bench.began()
    bench.speech(1_000)
    bench.speaks(2)
    bench.withdrawn(1)
    bench.ended(1, "cancelled")
    bench.stops(2)
    reconnected(bench)
    assert loud_bytes(bench) == 2 * 10 * len(LOUD)


def test_an_empty_transcript_is_no_knowledge_of_the_words() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    bench.event(CallerWords(1, ""))
    reconnected(bench)
    assert loud_bytes(bench) == 10 * len(LOUD)


def test_the_new_session_is_told_everything_before_it_hears_or_is_asked_anything() -> None:
    bench = Bench()
    bench.answers()
    bench.speaks()
    bench.withdrawn(1, (1, 1_000))
    reconnected(bench)
    kinds = [type(each) for each in bench.take()]
    assert kinds == [UseSession, Tell, HearAudio]
