"""Agents and their recordings."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import pytest

from aibridge import agent
from aibridge.core.rules import Line
from aibridge.recording import read_recording
from shared.audio import MULAW_TO_LINEAR
from shared.plan import Fallback, HangUp
from shared.process import ConfigError
from simulator.voice import VOICES, clip


def _agent(directory: Path, text: str) -> Path:
    path = directory / "agent.toml"
    path.write_text('instructions = "Be kind."\n' + text)
    return path


def test_the_defaults_of_the_code_are_those_of_the_shipped_file() -> None:
    shipped = agent.load(None)
    words = {"instructions": shipped.instructions, "greeting": shipped.greeting}
    assert agent.Agent(**words) == shipped


def test_the_notice_is_said_only_when_the_call_is_recorded() -> None:
    chosen = agent.Agent(instructions="x", greeting="Hello.", recording_notice="This call is recorded.")
    assert chosen.is_recorded("on")
    assert not chosen.is_recorded("off")
    assert not agent.Agent(instructions="x", recording="off").is_recorded("on")
    assert agent.Agent(instructions="x", recording="on").is_recorded("off")
    assert chosen.script(recorded=False).notice.text == ""
    assert chosen.script(recorded=True).notice.text == "This call is recorded."
    assert chosen.script(recorded=True).greeting.text == "Hello."


def test_a_recorded_fallback_ends_the_call_when_no_number_follows() -> None:
    chosen = agent.Agent(instructions="x", fallback="Sorry.", fallback_audio=b"sorry")
    assert chosen.script(fallback_ends_call=True).fallback_order == HangUp()
    assert chosen.script().fallback_order == Fallback()
    assert agent.Agent(instructions="x").script(fallback_ends_call=True).fallback_order == Fallback()


def test_a_greeting_file_is_read_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "hello.wav").write_bytes((VOICES / "demo-congrats.wav").read_bytes())
    loaded = agent.load(_agent(tmp_path, 'greeting = "Well done."\ngreeting_file = "hello.wav"\n'))
    assert loaded.script().greeting == Line("Well done.", clip("demo-congrats").audio)


def test_a_notice_file_may_come_with_a_greeting_file(tmp_path: Path) -> None:
    (tmp_path / "hello.wav").write_bytes((VOICES / "demo-congrats.wav").read_bytes())
    words = 'greeting = "Well done."\ngreeting_file = "hello.wav"\nrecording_notice = "Recorded."\n'
    notice = agent.load(_agent(tmp_path, words)).script(recorded=True).notice
    assert notice == Line("Recorded.")  # the model says it
    notice = agent.load(_agent(tmp_path, words + 'recording_notice_file = "hello.wav"\n')).script(recorded=True).notice
    assert notice == Line("Recorded.", clip("demo-congrats").audio)


@pytest.mark.parametrize(
    "text",
    [
        'greeting_file = "hello.wav"',
        'recording_notice_file = "hello.wav"',
        'greeting = "Hi."\ngreeting_file = "missing.wav"',
        'greeting = "Hi."\ngreeting_file = "agent.toml"',
        'greeting_audio = "aGk="',
        "voice = 3",
        "unknown = 1",
        "[[[",
    ],
)
def test_an_invalid_agent_file_is_refused_in_one_line_with_advice(tmp_path: Path, text: str) -> None:
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
