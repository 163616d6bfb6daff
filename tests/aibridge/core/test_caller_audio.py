"""The caller's own audio: what a new session still has to hear, and whether the caller speaks right now."""

from __future__ import annotations

import pytest

from aibridge.core.caller_audio import HELD_BYTES, CallerAudio
from simulator.voice import clips
from tests.aibridge.bench import LOUD, QUIET


def test_the_caller_counts_as_speaking_for_160_ms_after_speech() -> None:
    caller = CallerAudio()
    assert not caller.is_speaking()
    for _ in range(10):
        caller.take(LOUD)
    assert caller.is_speaking()
    for _ in range(7):
        caller.take(QUIET)
    assert caller.is_speaking()
    for _ in range(2):
        caller.take(QUIET)
    assert not caller.is_speaking()


@pytest.mark.parametrize("clip", clips("caller"), ids=lambda clip: clip.name)
def test_recorded_speech_counts_as_speech_and_the_noise_after_it_does_not(clip) -> None:
    caller = CallerAudio()
    heard = total = 0
    loud = [
        at
        for at in range(0, len(clip.audio) - 160, 160)
        if any(code & 0x7F < 0x40 for code in clip.audio[at : at + 160])
    ]
    for at in range(0, loud[-1] + 160, 160):
        caller.take(clip.audio[at : at + 160])
        if at >= loud[0] + 640:
            total += 1
            heard += caller.is_speaking()
    assert heard / total > 0.9
    for _ in range(60):
        caller.take(b"\xfe\x7e" * 80)  # the least noise that mu-law can say
    assert not caller.is_speaking()


def test_a_turn_that_was_lost_with_its_session_is_delivered_from_its_beginning() -> None:
    caller = CallerAudio()
    caller.deliver()
    for number in range(100):
        caller.take(bytes([number]) * 160)
    caller.turn_started()
    caller.take(b"s" * 160)
    caller.session_lost()
    caller.take(b"t" * 160)
    audio, again = caller.deliver()
    assert again == []
    assert audio.endswith(b"s" * 160 + b"t" * 160)
    assert len(audio) == 27 * 160
    assert caller.deliver() == (b"", [])


def test_kept_audio_is_bounded_and_the_oldest_goes_first() -> None:
    caller = CallerAudio()
    for number in range(2_000):
        caller.take(bytes([number % 256]) * 160)
    audio, _ = caller.deliver()
    assert HELD_BYTES <= len(audio) <= HELD_BYTES + 8_000
    assert audio.endswith(bytes([1_999 % 256]) * 160)
    assert caller.dropped_bytes == 2_000 * 160 - len(audio)


def turn_of(caller: CallerAudio, turn: int, sound: bytes) -> None:
    """The caller says ten chunks of `sound`, and the session takes them as this turn."""
    caller.turn_started()
    for _ in range(10):
        caller.take(sound * 160)
    caller.turn_taken(turn, has_speech=True)


def test_a_turn_whose_words_are_not_known_is_heard_again_by_the_next_session() -> None:
    caller = CallerAudio()
    caller.deliver()
    turn_of(caller, 1, b"a")
    caller.take(b"q" * 160)
    caller.session_lost()
    audio, again = caller.deliver()
    assert audio == b"a" * 1_600 + b"q" * 160
    assert again == [1]


@pytest.mark.parametrize("settle", [CallerAudio.turn_settled, CallerAudio.answer_heard])
def test_a_turn_whose_words_are_known_or_whose_answer_was_heard_is_not_kept(settle) -> None:
    caller = CallerAudio()
    caller.deliver()
    turn_of(caller, 1, b"a")
    settle(caller, 1)
    caller.session_lost()
    assert caller.deliver() == (b"", [])


def test_the_words_of_one_turn_release_that_turn_only() -> None:
    caller = CallerAudio()
    caller.deliver()
    turn_of(caller, 1, b"a")
    for _ in range(30):
        caller.take(b"q" * 160)
    turn_of(caller, 2, b"b")
    caller.turn_settled(1)
    audio, again = caller.deliver()
    assert audio.count(b"b") == 1_600
    assert b"a" not in audio
    assert again == [2]


def test_audio_that_a_lost_session_may_not_have_read_is_heard_by_the_next_one() -> None:
    for chunks, kept in ((10, 10), (40, 25)):
        caller = CallerAudio()
        caller.deliver()
        turn_of(caller, 1, b"a")
        caller.turn_settled(1)
        for _ in range(chunks):
            caller.take(b"q" * 160)
        caller.session_lost()
        assert caller.deliver() == (b"q" * 160 * kept, [])


def test_no_audio_is_kept_for_a_turn_without_speech() -> None:
    caller = CallerAudio()
    caller.deliver()
    caller.turn_started()
    caller.turn_taken(1, has_speech=False)
    caller.session_lost()
    assert caller.deliver() == (b"", [])
