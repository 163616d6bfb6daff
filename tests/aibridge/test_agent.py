"""Agents and their recordings."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import pytest

from aibridge import agent
from aibridge.recording import read_recording
from shared.audio import MULAW_TO_LINEAR
from shared.process import ConfigError
from simulator.voice import VOICES, clip


def _agent(directory: Path, text: str) -> Path:
    path = directory / "agent.toml"
    path.write_text('instructions = "Be kind."\n' + text)
    return path


def test_the_shipped_agent_loads_and_asks_for_mulaw_and_our_own_interruptions() -> None:
    session = agent.load(None).session("gpt-realtime-2.1")
    audio = session["audio"]
    assert audio["input"]["format"] == audio["output"]["format"] == {"type": "audio/pcmu"}
    assert audio["input"]["turn_detection"]["interrupt_response"] is False
    assert audio["input"]["turn_detection"]["create_response"] is True


def test_a_greeting_file_is_read_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "hello.wav").write_bytes((VOICES / "demo-congrats.wav").read_bytes())
    loaded = agent.load(_agent(tmp_path, 'greeting = "Well done."\ngreeting_file = "hello.wav"\n'))
    assert loaded.script().greeting_audio == clip("demo-congrats").audio
    assert loaded.script().greeting_text == "Well done."


@pytest.mark.parametrize(
    "text",
    [
        'greeting_file = "hello.wav"',
        'greeting = "Hi."\ngreeting_file = "missing.wav"',
        'greeting = "Hi."\ngreeting_file = "agent.toml"',
        'greeting_audio = "aGk="',
        "voice = 3",
        "unknown = 1",
        "[[[",
    ],
)
def test_an_agent_that_cannot_be_used_is_one_line_of_advice(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        agent.load(_agent(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_pcm_becomes_mulaw(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    samples = [value for value in MULAW_TO_LINEAR if value]
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    assert [MULAW_TO_LINEAR[code] for code in read_recording(path)] == samples


def test_raw_mulaw_is_taken_as_it_is(tmp_path: Path) -> None:
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
def test_what_is_no_recording_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="it "):
        read_recording(path)
