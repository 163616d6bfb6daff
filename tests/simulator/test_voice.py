"""The recordings match the manifest, and no two utterances are equal to a judge."""

from __future__ import annotations

import pytest

from shared.audio import MULAW_TO_LINEAR
from simulator.model.vad import Vad
from simulator.voice import VOICES, Clip, Voice, clip, clips


def loudness(audio: bytes) -> float:
    return sum(abs(MULAW_TO_LINEAR[byte]) for byte in audio) / max(len(audio), 1)


def test_there_is_a_voice_for_every_part_of_a_call() -> None:
    (greeting,) = clips("ai", "greeting")
    assert 5_000 <= greeting.duration_ms <= 8_000
    assert [c.duration_ms >= 6_000 for c in clips("ai", "answer")].count(True) >= 5
    assert len(clips("ai", "preamble")) == len(clips("ai", "goodbye")) == 1
    assert len(clips("caller")) >= 4
    assert all(400 <= c.duration_ms <= 3_000 for c in clips("caller"))


@pytest.mark.parametrize("recording", clips("ai") + clips("caller"), ids=lambda c: c.name)
def test_a_recordings_duration_fits_its_words(recording: Clip) -> None:
    """A speaker says 8 to 22 letters a second, pauses included ("w w w" takes long, "no" is drawn out)."""
    assert 4 <= len(recording.text) / (recording.duration_ms / 1_000) <= 22


@pytest.mark.parametrize("recording", clips("caller"), ids=lambda c: c.name)
def test_a_callers_voice_starts_at_the_first_sample(recording: Clip) -> None:
    assert loudness(recording.audio[:320]) > 400
    assert Vad().feed(recording.audio)[0].at_ms == 0


def test_the_recordings_are_small_and_name_their_speaker() -> None:
    assert sum(path.stat().st_size for path in VOICES.iterdir()) < 2_600_000
    assert "Allison Smith" in (VOICES / "README.md").read_text()
    assert "ShareAlike" in (VOICES / "LICENSE").read_text()


def test_every_frame_names_its_utterance() -> None:
    voice = Voice()
    one, two = (voice.answer(1, seed=seed).render() for seed in (1, 2))
    frames = [audio[at : at + 160] for audio in (one, two) for at in range(0, len(audio) - 159, 160)]
    assert len(set(frames)) == len(frames)
    assert one == voice.answer(1, seed=1).render()


def test_the_mask_of_an_utterance_moves_a_sample_by_one_step_at_most() -> None:
    voice = Voice()
    marked, plain = voice.answer(1, seed=5).render(), clips("ai", "answer")[0].audio
    assert all((a ^ b) in (0, 1) for a, b in zip(marked, plain, strict=True))
    assert 0.4 < sum(a != b for a, b in zip(marked, plain, strict=True)) / len(plain) < 0.6


def test_the_greeting_comes_first_then_the_answers_in_turn() -> None:
    voice = Voice()
    greeting, answers = clips("ai", "greeting")[0], clips("ai", "answer")
    assert voice.answer(0, seed=1, instructions="Greet, and say goodbye later.").text == greeting.text
    turns = range(1, 2 * len(answers) + 1)
    assert [voice.answer(turn, seed=1).text for turn in turns] == [c.text for c in answers] * 2
    assert voice.answer(3, seed=1, instructions="Say goodbye to the caller.").text == clips("ai", "goodbye")[0].text
    assert voice.answer(3, seed=1, name="demo-congrats").text == clip("demo-congrats").text


def test_an_answer_is_cut_or_repeated_to_a_length() -> None:
    voice = Voice()
    assert len(voice.answer(1, seed=1, length_ms=1_000).render()) == 8_000
    assert len(voice.answer(1, seed=1, length_ms=60_000).render()) == 480_000
    assert len(voice.answer(0, seed=1, times=10).render()) == 10 * len(clips("ai", "greeting")[0].audio)


def test_a_callers_recordings_are_recognised_and_other_audio_is_not() -> None:
    voice = Voice()
    hello, weasels = clip("hello"), clip("tt-weasels")
    silence = b"\xff" * 4_003
    assert voice.transcribe(silence + hello.audio + silence + weasels.audio) == f"{hello.text} {weasels.text}"
    assert voice.transcribe(clip("demo-nogo").audio) == "(speech)"


def test_a_parrot_repeats_the_caller() -> None:
    hello = clip("hello")
    speech = Voice().parrot(hello.audio, seed=3)
    assert speech.text == hello.text
    assert all((a ^ b) in (0, 1) for a, b in zip(speech.render(), hello.audio, strict=True))
    assert len(Voice().parrot(b"", seed=3).render()) == 160
