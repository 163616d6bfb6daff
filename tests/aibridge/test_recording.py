"""Recorded sentences."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import pytest

from aibridge.recording import read_recording
from shared.audio import MULAW_TO_LINEAR


def test_pcm_becomes_mulaw(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    samples = [value for value in MULAW_TO_LINEAR if value]
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    assert [MULAW_TO_LINEAR[code] for code in read_recording(path)] == samples


def test_raw_mulaw_is_used_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "hello.ulaw"
    path.write_bytes(b"\x01\x02\x03")
    assert read_recording(path) == b"\x01\x02\x03"


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_other_rates_are_refused(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "wide.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes(200))
    with pytest.raises(ValueError, match="8 kHz"):
        read_recording(path)


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01", b"ID3" * 99]
)
def test_a_file_that_is_not_a_recording_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="it "):
        read_recording(path)
