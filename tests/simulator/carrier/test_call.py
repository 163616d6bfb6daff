"""One call's Media Streams messages, in virtual time."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from shared.audio import FRAME_NS, SILENCE
from simulator.carrier.call import FILE_HEADER, INVALID_MESSAGE, MEDIA_DISCARDED, STREAM_CLOSED, CarrierCall
from simulator.carrier.caller import AfterAnswer, Caller, HangUp, Press, Step

SID = "MZ1"
PAYLOAD = b64encode(SILENCE * 160).decode()


def opened(*script: Step) -> CarrierCall:
    call = CarrierCall("CA1", "AC1", Caller(script))
    call.open(SID, {}, 0)
    return call


def media(payload: str = PAYLOAD) -> str:
    return json.dumps({"event": "media", "streamSid": SID, "media": {"payload": payload}})


def mark(name: str) -> str:
    return json.dumps({"event": "mark", "streamSid": SID, "mark": {"name": name}})


def decoded(texts: list[str]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts]


def test_a_stream_opens_with_connected_and_start_as_twilio_writes_them() -> None:
    call = CarrierCall("CA1", "AC1", Caller([]))
    assert decoded(call.open(SID, {"token": "t"}, 0)) == [
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": SID,
            "start": {
                "accountSid": "AC1",
                "streamSid": SID,
                "callSid": "CA1",
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {"token": "t"},
            },
        },
    ]


def test_the_callers_frames_fall_due_every_20_ms_and_all_numbers_are_strings() -> None:
    call = opened()
    assert call.next_due_ns() == FRAME_NS
    assert call.advance(FRAME_NS - 1) == []
    (first,) = decoded(call.advance(FRAME_NS))
    assert first == {
        "event": "media",
        "sequenceNumber": "2",
        "streamSid": SID,
        "media": {"track": "inbound", "chunk": "1", "timestamp": "0", "payload": PAYLOAD},
    }
    (second,) = decoded(call.advance(2 * FRAME_NS))
    assert (second["sequenceNumber"], second["media"]["chunk"], second["media"]["timestamp"]) == ("3", "2", "20")


def test_a_carrier_that_wakes_late_sends_every_overdue_frame_and_keeps_to_its_grid() -> None:
    call = opened()
    assert len(call.advance(5 * FRAME_NS + 3_000_000)) == 5
    assert call.next_due_ns() == 6 * FRAME_NS


def test_a_key_is_a_dtmf_message() -> None:
    call = opened(Press("7", AfterAnswer(0)))
    key, frame = decoded(call.advance(FRAME_NS))
    assert key == {
        "event": "dtmf",
        "streamSid": SID,
        "sequenceNumber": "2",
        "dtmf": {"track": "inbound_track", "digit": "7"},
    }
    assert frame["sequenceNumber"] == "3"
    assert [each.digit for each in call.record().keys] == ["7"]


def test_marks_come_back_after_their_audio_and_at_once_on_an_idle_line() -> None:
    call = opened()
    assert decoded(call.receive(mark("idle"), 5)) == [
        {"event": "mark", "sequenceNumber": "2", "streamSid": SID, "mark": {"name": "idle"}}
    ]
    call.receive(media(), 10)
    assert call.receive(mark("behind"), 20) == []
    names = [each["mark"]["name"] for each in decoded(call.advance(10 + FRAME_NS)) if each["event"] == "mark"]
    assert names == ["behind"]


def test_clear_returns_the_marks_of_the_audio_that_it_discards() -> None:
    call = opened()
    call.receive(media(), 0)
    call.receive(mark("a"), 0)
    echoes = decoded(call.receive(json.dumps({"event": "clear", "streamSid": SID}), 1_000_000))
    assert [each["mark"]["name"] for each in echoes] == ["a"]
    assert call.record().ear.clears[0].cut_bytes == 152


@pytest.mark.parametrize(
    "message",
    [
        json.dumps({"event": "media", "streamSid": SID, "media": {"payload": PAYLOAD}, "sequenceNumber": "1"}),
        json.dumps({"event": "media", "streamSid": SID, "media": {"payload": PAYLOAD, "track": "outbound"}}),
        json.dumps({"event": "media", "streamSid": SID, "media": {}}),
        json.dumps({"event": "media", "media": {"payload": PAYLOAD}}),
        json.dumps({"event": "media", "streamSid": "MZ2", "media": {"payload": PAYLOAD}}),
        json.dumps({"event": "media", "streamSid": SID, "media": {"payload": "no base64!"}}),
        json.dumps({"event": "mark", "streamSid": SID, "mark": {"name": 1}}),
        json.dumps({"event": "clear", "streamSid": SID, "clear": {}}),
        json.dumps({"event": "flush", "streamSid": SID}),
        json.dumps({"streamSid": SID}),
        "no JSON",
        "[]",
        b"\xff\xff",
        media().encode(),
    ],
)
def test_an_unknown_message_is_invalid_and_is_not_played(message: str | bytes) -> None:
    call = opened()
    assert call.receive(message, 1) == []
    record = call.record()
    assert [warning.code for warning in record.warnings] == [INVALID_MESSAGE]
    assert record.ear.audio == b""


def test_a_warning_is_given_once_a_stream_and_every_invalid_message_is_counted() -> None:
    call = opened()
    for _ in range(3):
        call.receive("x", 1)
    call.closed(2, lost=False)
    call.open("MZ2", {}, 3)
    call.receive("x", 4)
    record = call.record()
    assert [warning.code for warning in record.warnings] == [INVALID_MESSAGE, STREAM_CLOSED, INVALID_MESSAGE]
    assert [stream.invalid_messages for stream in record.streams] == [3, 1]


def test_a_file_header_and_a_full_buffer_are_warned_about() -> None:
    call = opened()
    call.receive(media(b64encode(b"RIFF....").decode()), 0)
    call.receive(media(b64encode(bytes(4_800_001)).decode()), 0)
    assert [warning.code for warning in call.record().warnings] == [FILE_HEADER, MEDIA_DISCARDED]


def test_the_scripts_hang_up_sends_stop_and_nothing_after_it() -> None:
    call = opened(HangUp(AfterAnswer(20)))
    call.receive(media(), 0)
    call.receive(media(), 0)
    texts = decoded(call.advance(2 * FRAME_NS))
    assert texts[-1] == {
        "event": "stop",
        "sequenceNumber": "3",
        "streamSid": SID,
        "stop": {"accountSid": "AC1", "callSid": "CA1"},
    }
    assert call.has_hung_up
    assert call.next_due_ns() is None
    assert call.advance(9 * FRAME_NS) == []
    assert call.receive(media(), 9 * FRAME_NS) == []
    assert call.hang_up(9 * FRAME_NS) == []
    assert call.record().streams[0].ended_by == "caller"


def test_audio_that_was_not_played_when_the_call_ended_is_not_heard() -> None:
    call = opened()
    call.receive(media(), 0)
    call.hang_up(FRAME_NS // 4)
    assert list(call.record().ear.heard_bytes) == [40]


@pytest.mark.parametrize(("lost", "by"), [(True, "lost"), (False, "server")])
def test_a_closed_socket_ends_the_stream_and_the_call_may_open_another(lost: bool, by: str) -> None:
    call = opened()
    call.advance(FRAME_NS)
    call.closed(FRAME_NS, lost=lost)
    assert call.next_due_ns() is None
    start = decoded(call.open("MZ2", {}, 5 * FRAME_NS))[1]
    assert start["sequenceNumber"] == "1"
    (frame,) = decoded(call.advance(6 * FRAME_NS))
    assert (frame["streamSid"], frame["media"]["chunk"]) == ("MZ2", "1")
    assert [stream.ended_by for stream in call.record().streams] == [by, ""]
