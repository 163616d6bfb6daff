"""Every decoder accepts its input or refuses it in its one documented way, whatever the input is."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.core import story
from aibridge.core.story import LineMemory, Said, Story
from aibridge.models.realtime.wire import MalformedEventError, ServerEvent, decode_event
from gateway.core.media_streams import MediaStream, ViolationError, parse_mark
from shared import facts, messages
from shared.messages import UndecodableError, decode, encode

UNIONS = {
    name: value
    for name in dir(messages)
    if name
    in ("GatewayToBridge", "BridgeToGateway", "BridgeToPacer", "PacerToBridge", "PacerToGateway", "GatewayToPacer")
    for value in [getattr(messages, name)]
} | {"GatewayToCallbook": facts.Fact | facts.Leaving, "CallbookToGateway": messages.Header, "spool": facts.Noted}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["MZ1", "8000", "-1", "", "\ud800", "AAAA", "A", "=", "mark", "0.1"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

GOOD: list[dict[str, Any]] = [
    {"event": "connected", "protocol": "Call", "version": "1.0.0"},
    {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": "MZ1",
        "start": {
            "accountSid": "AC1",
            "streamSid": "MZ1",
            "callSid": "CA1",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"token": "x"},
        },
    },
    {
        "event": "media",
        "sequenceNumber": "3",
        "streamSid": "MZ1",
        "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": base64.b64encode(bytes(160)).decode()},
    },
    {"event": "mark", "sequenceNumber": "4", "streamSid": "MZ1", "mark": {"name": "0.1"}},
    {"event": "dtmf", "sequenceNumber": "5", "streamSid": "MZ1", "dtmf": {"track": "inbound_track", "digit": "5"}},
    {"event": "stop", "sequenceNumber": "6", "streamSid": "MZ1", "stop": {"accountSid": "AC1", "callSid": "CA1"}},
]


@st.composite
def damaged(draw: st.DrawFn) -> str | bytes:
    """A damaged message of Twilio's, or arbitrary text or bytes."""
    message = json.loads(json.dumps(draw(st.sampled_from(GOOD))))
    where = message
    while True:
        key = draw(st.sampled_from(sorted(where)))
        if isinstance(where[key], dict) and where[key] and draw(st.booleans()):
            where = where[key]
            continue
        break
    match draw(st.integers(0, 5)):
        case 0:
            del where[key]
        case 1:
            where[key] = draw(values)
        case 2:
            where[draw(st.text(max_size=10))] = draw(values)
        case 3:
            return draw(st.binary(max_size=200))
        case 4:
            text = json.dumps(message)
            return text[: draw(st.integers(0, len(text)))] + draw(st.text(st.characters(codec="utf-8"), max_size=10))
    return json.dumps(message)


@given(st.lists(damaged(), max_size=12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_media_stream_accepts_a_message_or_names_the_violation(texts: list[str | bytes], is_live: bool) -> None:
    stream = MediaStream()
    if is_live:
        for good in GOOD[:2]:
            stream.receive(json.dumps(good))
    # As the socket gives it: text in UTF-8, which `receive_text` gets, and anything else.
    entries = (stream.receive, lambda text: stream.receive_text(text.encode() if isinstance(text, str) else text))
    for text in texts:
        for receive in entries:
            before = (stream.state, stream.stream_sid)
            try:
                taken = receive(text)
            except ViolationError:
                assert (stream.state, stream.stream_sid) == before
            else:
                assert taken is not None


@pytest.mark.parametrize(
    "text", ["[" * 60_000, '{"event":' * 6_000, '{"a":' * 10_000 + "1" + "}" * 10_000, "\x00", '"\ud800"']
)
def test_deep_and_broken_json_is_a_violation(text: str) -> None:
    for stream in (MediaStream(), MediaStream()):
        with pytest.raises(ViolationError):
            stream.receive(text)


@given(st.text(max_size=40))
def test_a_mark_name_is_one_of_ours_or_parses_as_none(name: str) -> None:
    parsed = parse_mark(name)
    assert parsed is None or f"{parsed[0]}.{parsed[1]}" == name or name.startswith("0")


STORIES = [
    (Story(), LineMemory()),
    (
        Story(turns=(Said(1, "ai", 7, "Hello", 5, 9, 800, 400, 2, 800),), states={"floor": "SPEAKING"}),
        LineMemory({7: "answer"}, 7, 1, (7, 160)),
    ),
]


@given(st.sampled_from(STORIES), values, st.binary(max_size=40), st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_any_story_is_read_or_empty(written: tuple[Story, LineMemory], value: Any, noise: bytes, at: int) -> None:
    good = story.encode(*written)
    assert story.decode(good) == written
    candidates = [noise, good[:at], good[:at] + noise + good[at:], b"\x81\xa1x" + b"\x91" * 10_000 + noise]
    with contextlib.suppress(OverflowError, UnicodeEncodeError):
        for whole in (
            value,
            {"story": value, "line": value},
            {"story": {"turns": [value], "states": value}, "line": {}},
        ):
            candidates.append(msgspec.msgpack.encode(whole))
    for data in candidates:
        read, line = story.decode(data)
        assert isinstance(read, Story)
        assert isinstance(line, LineMemory)


EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "r", "metadata": {"purpose": "greeting"}}},
    {
        "type": "response.done",
        "response": {"id": "r", "status": "completed", "output": [{"id": "i", "type": "message"}]},
    },
    {"type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "content_index": 0, "delta": "AAAA"},
    {
        "type": "response.output_item.done",
        "response_id": "r",
        "item": {"id": "i", "type": "function_call", "name": "f"},
    },
    {"type": "input_audio_buffer.speech_started", "audio_start_ms": 1, "item_id": "i"},
    {"type": "error", "error": {"type": "t", "code": None, "message": "m"}},
    {"type": "session.updated", "session": {}},
    {"type": "session.created", "session": {}},
    {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 1, "item_id": "i"},
    {"type": "input_audio_buffer.committed", "item_id": "i"},
    {"type": "conversation.item.added", "item": {"id": "i", "type": "function_call_output", "call_id": "c"}},
    {"type": "conversation.item.truncated", "item_id": "i", "content_index": 0, "audio_end_ms": 1},
    {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": "t"},
    {"type": "response.output_item.added", "response_id": "r", "item": {"id": "i", "type": "message"}},
    {"type": "response.output_audio.done", "response_id": "r", "item_id": "i", "content_index": 0},
    {"type": "response.mcp_call_arguments.done", "response_id": "r", "item_id": "i", "arguments": "{}"},
    {"type": "response.output_audio_transcript.delta", "response_id": "r", "item_id": "i", "delta": "t"},
    {
        "type": "response.output_audio_transcript.done",
        "response_id": "r",
        "item_id": "i",
        "content_index": 0,
        "transcript": "t",
    },
]


def test_every_realtime_event_that_is_read_is_also_damaged_here() -> None:
    decoded = {type(decode_event(json.dumps(event).encode())) for event in EVENTS}
    assert decoded == set(get_args(ServerEvent))


@given(st.sampled_from(EVENTS), st.text(max_size=12), values, st.integers(0, 400), st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_realtime_event_is_decoded_or_malformed(
    event: dict[str, Any], key: str, value: Any, at: int, noise: bytes
) -> None:
    changed = [event | {name: value} for name in (*event, key)]
    candidates = [json.dumps(each).encode() for each in changed]
    candidates += [noise, candidates[0][:at], candidates[0][:at] + noise + candidates[0][at:]]
    for data in candidates:
        with contextlib.suppress(MalformedEventError):
            decode_event(data)


@given(st.sampled_from(sorted(UNIONS)), values, st.binary(max_size=200), st.integers(0, 120))
@settings(max_examples=300, deadline=None)
def test_a_bus_message_is_decoded_or_undecodable(name: str, value: Any, noise: bytes, tag: int) -> None:
    union = UNIONS[name]
    candidates = [noise]
    with contextlib.suppress(OverflowError, UnicodeEncodeError, msgspec.ValidationError):
        candidates.append(msgspec.msgpack.encode([messages.VERSION, [tag, value, value, value]]))
        candidates.append(msgspec.msgpack.encode([messages.VERSION, value]))
        candidates.append(msgspec.msgpack.encode(value))
    good = encode([messages.GatewayHello("gateway-0-1")])
    candidates += [good + noise, good[: len(noise) % len(good)]]
    for data in candidates:
        try:
            decoded = decode(data, union)
        except UndecodableError:
            continue
        assert all(isinstance(each, messages.Message) for each in decoded)
