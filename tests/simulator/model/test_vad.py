"""Speech is noticed within 60 ms; noise and clicks are not noticed."""

from __future__ import annotations

import random

import pytest

from shared.audio import MULAW_TO_LINEAR, SILENCE, linear_to_mulaw
from simulator.model.vad import Edge, Vad
from simulator.voice import Clip, clips

SECOND = SILENCE * 8_000


def edges_heard(audio: bytes, chunk_bytes: int = 160, **settings: float) -> list[tuple[Edge, int]]:
    """Each edge with the number of bytes that had been written when it was noticed."""
    vad = Vad(**settings)  # type: ignore[arg-type]
    found = []
    for at in range(0, len(audio), chunk_bytes):
        found += [(edge, at + chunk_bytes) for edge in vad.feed(audio[at : at + chunk_bytes])]
    return found


def noise(amplitude: float, seconds: int = 10) -> bytes:
    rng = random.Random(7)
    return bytes(linear_to_mulaw(int(rng.gauss(0, amplitude))) for _ in range(8_000 * seconds))


@pytest.mark.parametrize("clip", clips("caller"), ids=lambda clip: clip.name)
@pytest.mark.parametrize("lead_in_bytes", [0, 37, 80, 159])
def test_real_speech_is_noticed_within_60_ms_and_its_end_after_the_silence(clip: Clip, lead_in_bytes: int) -> None:
    before = SECOND + SILENCE * lead_in_bytes
    (started, noticed_at), (stopped, _) = edges_heard(before + clip.audio + SECOND)
    assert 160 <= noticed_at - len(before) <= 480
    assert started.kind == "started"
    assert abs(started.at_ms - len(before) // 8) <= 20
    assert stopped.kind == "stopped"
    spoken_until_ms = (len(before) + len(clip.audio)) // 8
    assert spoken_until_ms + 300 <= stopped.at_ms <= spoken_until_ms + 520


@pytest.mark.parametrize("amplitude", [0, 8, 32, 64])
def test_line_noise_is_not_speech(amplitude: float) -> None:
    assert edges_heard(noise(amplitude)) == []


def test_a_click_is_not_speech() -> None:
    click = bytes([0x80, 0x00] * 40)
    assert edges_heard(SECOND + click + SECOND) == []


def test_a_pause_shorter_than_the_silence_belongs_to_the_speech() -> None:
    voice = clips("caller")[0].audio
    audio = voice + SILENCE * 8 * 300 + voice + SECOND
    assert [edge.kind for edge, _ in edges_heard(audio)] == ["started", "stopped"]
    assert [edge.kind for edge, _ in edges_heard(audio, silence_duration_ms=200)] == ["started", "stopped"] * 2


def test_a_high_threshold_needs_a_louder_voice() -> None:
    quiet = bytes(linear_to_mulaw(MULAW_TO_LINEAR[byte] // 24) for byte in clips("caller")[0].audio)
    assert edges_heard(quiet + SECOND)
    assert not edges_heard(quiet + SECOND, threshold=1.0)


@pytest.mark.parametrize("chunk_bytes", [1, 77, 160, 161, 5_000])
def test_the_edges_do_not_depend_on_the_length_of_the_appends(chunk_bytes: int) -> None:
    audio = SECOND + clips("caller")[0].audio + SECOND
    edges = [edge for edge, _ in edges_heard(audio, chunk_bytes)]
    assert edges == [edge for edge, _ in edges_heard(audio, len(audio))]


def test_pcm_at_24_khz_is_judged_like_mulaw() -> None:
    audio = SECOND + clips("caller")[0].audio + SECOND
    pcm = b"".join(MULAW_TO_LINEAR[byte].to_bytes(2, "little", signed=True) * 3 for byte in audio)
    vad = Vad(pcm_24k=True)
    edges, reference = vad.feed(pcm), Vad().feed(audio)
    assert [edge.kind for edge in edges] == ["started", "stopped"]
    assert all(abs(edge.at_ms - other.at_ms) <= 60 for edge, other in zip(edges, reference, strict=True))
    whisper_of_a_line = b"".join(
        random.Random(1).choice((-3, 0, 3)).to_bytes(2, "little", signed=True) for _ in range(9)
    )
    assert Vad(pcm_24k=True).feed(whisper_of_a_line * 20_000) == []


def test_after_a_clear_speech_begins_again() -> None:
    vad = Vad()
    voice = clips("caller")[0].audio
    assert vad.feed(voice[:1_600])
    vad.forget_speech()
    assert not vad.speaking
    assert [edge.kind for edge in vad.feed(voice[1_600:3_200])] == ["started"]


def test_a_model_that_needs_more_speech_notices_it_later_and_over_the_holes_between_words() -> None:
    loud, quiet = b"\x00\x80" * 80, b"\xff" * 160
    assert Vad(needed_ms=300).feed(loud * 14) == []
    assert Vad(needed_ms=300).feed(loud * 15) == [Edge("started", 0)]
    assert Vad(needed_ms=300).feed(quiet * 3 + (loud * 8 + quiet * 2) * 2 + loud * 3) == [Edge("started", 60)]
