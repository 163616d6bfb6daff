"""What a conversation that comes from another cell takes for heard, and what it owes."""

from __future__ import annotations

from aibridge.core import story
from aibridge.core.other_cell import continued
from aibridge.core.story import LineMemory, Said, Story

T = 1_800_000_000_000


def told(*turns: Said, left_ms: int, states: dict[str, str] | None = None) -> tuple[Story, LineMemory]:
    memory = story.encode(
        Story(turns=turns, states=states or {}), LineMemory({7: "answer"}, 7, 3, (7, 160), last_key_ns=5)
    )
    return story.decode(continued(memory, left_ms))


def speaking(began_ms: int, gap_ms: int = 0) -> Said:
    return Said(2, "ai", 7, "one two three four", began_ms, made_bytes=32_000, gap_ms=gap_ms)


def test_an_utterance_was_heard_until_the_other_cell_was_last_alive() -> None:
    after, _ = told(speaking(T, gap_ms=500), left_ms=T + 1_500)
    assert (after.turns[0].heard_bytes, after.turns[0].ended_ms) == (8_000, T + 1_500)
    assert after.states["owed"] == "CONTINUE"


def test_never_more_is_taken_for_heard_than_was_made() -> None:
    after, _ = told(speaking(T), left_ms=T + 60_000)
    assert after.turns[0].heard_bytes == 32_000
    assert "owed" not in after.states


def test_an_utterance_that_the_ear_had_not_begun_was_not_heard() -> None:
    for began_ms in (0, T + 10):
        after, _ = told(speaking(began_ms), left_ms=T)
        assert after.turns[0].heard_bytes == 0


def test_an_interrupted_utterance_is_not_continued() -> None:
    interrupted = Said(2, "ai", 7, "one two", T, T + 500, made_bytes=32_000, heard_bytes=4_000)
    after, _ = told(interrupted, left_ms=T + 1_000)
    assert after.turns == (interrupted,)
    assert "owed" not in after.states


def test_what_is_owed_already_stays_owed() -> None:
    after, _ = told(speaking(T), left_ms=T + 100, states={"owed": "REPEAT", "line": "FLOWING", "goodbye": "NONE"})
    assert after.states == {"owed": "REPEAT", "goodbye": "NONE"}


def test_numbers_continue_and_the_other_machine_s_line_and_clock_are_forgotten() -> None:
    _, line = told(left_ms=T)
    assert line == LineMemory({}, 7, 3)


def test_an_unreadable_story_is_an_empty_one() -> None:
    assert story.decode(continued(b"garbage", T))[0] == Story()
