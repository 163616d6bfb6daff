"""The recordings that the caller of `twentyms call` can speak."""

from __future__ import annotations

import wave

import pytest

from shared.audio import FRAME_BYTES, MULAW_TO_LINEAR
from shared.process import ConfigError
from twentyms.caller import any_recording, script


@pytest.mark.parametrize(("width", "channels", "rate"), [(1, 1, 8_000), (2, 1, 16_000), (2, 2, 44_100), (3, 1, 48_000)])
def test_any_pcm_becomes_speech_of_the_same_length(tmp_path, width, channels, rate):
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        sample = (-12_000).to_bytes(2, "little", signed=True)
        one = {1: bytes([81]), 2: sample, 3: b"\0" + sample}[width]
        file.writeframes(one * channels * rate)
    audio = any_recording(path)
    assert 8_000 <= len(audio) <= 8_000 + 2 * FRAME_BYTES
    assert all(abs(MULAW_TO_LINEAR[code] + 12_000) < 500 for code in audio[:8_000])


def test_a_file_that_is_not_a_recording_is_named(tmp_path):
    path = tmp_path / "voice.wav"
    with pytest.raises(ConfigError, match=r"voice.wav cannot be read \(No such file or directory\)"):
        script(path)
    path.write_bytes(b"hello")
    with pytest.raises(ConfigError, match=r"voice\.wav cannot be spoken"):
        script(path)
