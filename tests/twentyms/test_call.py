"""`twentyms call`: what it speaks, and how it judges."""

from __future__ import annotations

import wave

import pytest

from shared.audio import FRAME_BYTES, FRAME_NS, MULAW_TO_LINEAR
from simulator.carrier.call import CallRecord, CarrierWarning
from simulator.carrier.caller import Said
from simulator.carrier.ear import Ear
from twentyms.call import any_recording, verdict

FRAME = bytes(FRAME_BYTES)


def record(ear: Ear, *, said: tuple[Said, ...] = (), **fields) -> CallRecord:
    values = {"outcome": "hung-up-by-caller", "warnings": (), **fields}
    return CallRecord("CA1", 0, 10**10, (), ear.record(), said, (), **values)


def heard(*utterances: list[int]) -> Ear:
    """Each utterance is a list of the frame times, in frames, at which its frames arrive; a mark lies behind it."""
    ear = Ear()
    for arrivals in utterances:
        for at in arrivals:
            ear.media(FRAME, at * FRAME_NS)
        ear.mark("1.1", arrivals[-1] * FRAME_NS)
    return ear


def test_silence_between_two_utterances_is_no_gap():
    lines, problems = verdict(record(heard([0, 0, 0], [50, 50])), lead_ms=120)
    assert not problems
    assert "gaps at the ear    0 (0.0 ms)" in lines


def test_silence_inside_an_utterance_is_one():
    lines, problems = verdict(record(heard([0, 3])), lead_ms=120)
    assert "gaps at the ear    1 (40.0 ms)" in lines
    assert problems == ["1 gaps at the ear, the longest 40 ms; see docs/operations.md, EarGaps"]


def test_an_ai_that_goes_on_is_named():
    said = (Said(2 * FRAME_NS, "hello", FRAME),)
    assert not verdict(record(heard([0] * 12), said=said), lead_ms=120)[1]
    (problem,) = verdict(record(heard([0] * 60), said=said), lead_ms=120)[1]
    assert problem == "the AI went on for 1160 ms after it was interrupted"


def test_a_call_that_never_spoke_is_no_good_call():
    _, problems = verdict(record(Ear(), outcome="failed", warnings=(CarrierWarning(11200, 0, "refused"),)), lead_ms=120)
    assert [problem.split(";")[0] for problem in problems] == [
        "the call ended otherwise than the caller wanted: failed",
        "refused (as Twilio's debugger would say, 11200)",
        "the caller heard nothing",
    ]


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


def test_what_is_no_recording_is_said(tmp_path):
    path = tmp_path / "voice.wav"
    path.write_bytes(b"hello")
    with pytest.raises((ValueError, wave.Error, EOFError)):
        any_recording(path)
