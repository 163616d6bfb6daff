"""The WAV is the call on its own time line, and the picture can be drawn of good and bad calls alike."""

from __future__ import annotations

import random
import wave
from array import array
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from proofs.judge import judge
from proofs.picture import lateness, write_timeline, write_wav
from proofs.spoken import listen, read_sessions
from shared.audio import FRAME_BYTES, MULAW_TO_LINEAR
from simulator.carrier.call import CallRecord, StreamRecord
from simulator.carrier.caller import Said
from simulator.carrier.ear import Ear

MS = 1_000_000
START = 5_000 * MS
AUDIO = random.Random(1).randbytes(1600)
CALLER = random.Random(2).randbytes(800)


def call(*, second_at_ms: int = 100, end_ms: int = 1000) -> tuple[CallRecord, list[dict[str, Any]]]:
    """An item of 200 ms in two halves, the first at 100 ms; the caller speaks at 500 ms for 100 ms."""
    ear = Ear()
    ear.media(AUDIO[:800], START + 100 * MS)
    ear.media(AUDIO[800:], START + second_at_ms * MS)
    end_ns = START + end_ms * MS
    ear.close(end_ns)
    record = CallRecord(
        call_sid="CA1",
        started_ns=START,
        ended_ns=end_ns,
        streams=(StreamRecord("MZ1", START, end_ns, "caller", {}),),
        ear=ear.record(),
        said=(Said(START + 500 * MS, "hello", CALLER),),
        keys=(),
        warnings=(),
        outcome="hung-up-by-caller",
    )
    item = {"item_id": "item_1", "role": "assistant", "response_id": "r", "held_ms": 200}
    item["audio_b64"] = b64encode(AUDIO).decode()
    speech = [{"started_ns": START + 150 * MS, "stopped_ns": None}]
    return record, [{"items": [item], "responses": [{"id": "r", "created_ns": START}], "speech": speech}]


def test_the_wav_has_each_side_where_it_was_heard(tmp_path: Path) -> None:
    record, _ = call(second_at_ms=300)
    write_wav(record, tmp_path / "call.wav")
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        samples = array("h", file.readframes(file.getnframes()))
    left, right = samples[0::2], samples[1::2]
    assert len(left) == len(right) == 8000
    assert [*left[4000:4800]] == [MULAW_TO_LINEAR[code] for code in CALLER]
    assert not any(left[:4000]) and not any(left[4800:])  # noqa: PT018  # one line of silence
    assert [*right[800:1600]] == [MULAW_TO_LINEAR[code] for code in AUDIO[:800]]
    assert not any(right[1600:2400])
    assert [*right[2400:3200]] == [MULAW_TO_LINEAR[code] for code in AUDIO[800:]]


def test_audio_that_the_end_of_the_call_cut_off_is_not_in_the_wav(tmp_path: Path) -> None:
    record, _ = call(end_ms=150)
    write_wav(record, tmp_path / "call.wav")
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert file.getnframes() == 1200


def test_lateness_is_negative_by_what_the_ear_held_and_positive_by_a_gap() -> None:
    def of(second_at_ms: int) -> list[float]:
        record, sessions = call(second_at_ms=second_at_ms)
        pieces = len(AUDIO) // 2 // FRAME_BYTES
        return [ms for _, ms in lateness(listen(record, read_sessions(sessions))[0])][::pieces]

    assert of(150) == [0, -50]
    assert of(260) == [0, 60]


@pytest.mark.parametrize("second_at_ms", [150, 300])
def test_the_picture_of_a_call_is_drawn(tmp_path: Path, second_at_ms: int) -> None:
    pytest.importorskip("matplotlib")
    record, sessions = call(second_at_ms=second_at_ms)
    write_timeline(record, sessions, judge(record, sessions), tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_of_a_call_without_speech_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    record = CallRecord("CA1", START, START + MS, (), Ear().record(), (), (), (), outcome="failed")
    write_timeline(record, [], judge(record, []), tmp_path / "timeline.png")
    write_wav(record, tmp_path / "call.wav")
    assert (tmp_path / "timeline.png").exists()
