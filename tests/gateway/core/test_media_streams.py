"""The Media Streams protocol: each message is accepted, or is one documented violation that changes nothing."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.media_streams import (
    MAX_MESSAGE_BYTES,
    NEXT,
    Connected,
    Dtmf,
    Mark,
    MediaStream,
    Outbound,
    Start,
    State,
    Stop,
    Violation,
    ViolationError,
    parse_mark,
    parse_probe,
)

CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
START = {
    "event": "start",
    "sequenceNumber": "1",
    "streamSid": "MZ1",
    "start": {
        "accountSid": "AC1",
        "streamSid": "MZ1",
        "callSid": "CA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"token": "t"},
    },
}
MEDIA = {
    "event": "media",
    "sequenceNumber": "3",
    "streamSid": "MZ1",
    "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": base64.b64encode(b"\x7f" * 160).decode()},
}
DTMF = {"event": "dtmf", "streamSid": "MZ1", "sequenceNumber": "5", "dtmf": {"track": "inbound_track", "digit": "1"}}
MARK = {"event": "mark", "sequenceNumber": "4", "streamSid": "MZ1", "mark": {"name": "0.1"}}
STOP = {"event": "stop", "sequenceNumber": "5", "streamSid": "MZ1", "stop": {"accountSid": "AC1", "callSid": "CA1"}}


def streaming() -> MediaStream:
    stream = MediaStream()
    stream.receive(json.dumps(CONNECTED))
    stream.receive(json.dumps(START))
    return stream


def refused(stream: MediaStream, message: object) -> ViolationError:
    state = stream.state
    with pytest.raises(ViolationError) as caught:
        stream.receive(message if isinstance(message, str | bytes) else json.dumps(message))
    assert stream.state is state
    return caught.value


def test_a_stream_is_accepted_from_connected_to_stop():
    stream = MediaStream()
    assert stream.receive(json.dumps(CONNECTED)) == Connected("Call", "1.0.0")
    start = stream.receive(json.dumps(START))
    assert isinstance(start, Start)
    assert start.start.call_sid == "CA1"
    assert start.start.account_sid == "AC1"
    assert start.start.custom_parameters == {"token": "t"}
    assert stream.receive(json.dumps(MEDIA)) == b"\x7f" * 160
    dtmf = stream.receive(json.dumps(DTMF))
    assert isinstance(dtmf, Dtmf)
    assert dtmf.dtmf.digit == "1"
    mark = stream.receive(json.dumps(MARK))
    assert isinstance(mark, Mark)
    assert mark.mark.name == "0.1"
    assert isinstance(stream.receive(json.dumps(STOP)), Stop)
    assert stream.state is State.STOPPED


def test_twilios_numbers_may_be_strings_or_numbers():
    stream = MediaStream()
    stream.receive(json.dumps(CONNECTED))
    start = {**START, "sequenceNumber": 1}
    start["start"] = {
        **START["start"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": "8000", "channels": "1"},
    }
    assert isinstance(stream.receive(json.dumps(start)), Start)
    media = {**MEDIA, "sequenceNumber": 3, "media": {**MEDIA["media"], "chunk": 1, "timestamp": 5}}
    assert stream.receive(json.dumps(media)) == b"\x7f" * 160


def test_unknown_fields_and_events_do_no_harm():
    stream = MediaStream()
    assert not refused(stream, {"event": "weather", "rain": True}).fatal
    stream.receive(json.dumps({**CONNECTED, "new": [1]}))
    stream.receive(json.dumps(START))
    violation = refused(stream, {"event": "weather", "streamSid": "MZ1"})
    assert (violation.kind, violation.fatal) == (Violation.UNKNOWN_EVENT, False)
    assert stream.receive(json.dumps({**MEDIA, "media": {**MEDIA["media"], "new": {"a": None}}})) == b"\x7f" * 160
    # The sequence numbers of caller audio are not used.
    assert stream.receive(json.dumps({**MEDIA, "sequenceNumber": "one"})) == b"\x7f" * 160


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"\x00", Violation.BINARY),
        ("", Violation.MALFORMED),
        ("{", Violation.MALFORMED),
        ("[]", Violation.MALFORMED),
        ("{}", Violation.MALFORMED),
        ('{"event": 5}', Violation.MALFORMED),
        ("\ud800", Violation.MALFORMED),
        ("[" * 60_000, Violation.MALFORMED),
        ('{"event":"media","x":' + "[" * 60_000, Violation.MALFORMED),
        ({"event": "media", "streamSid": "MZ1"}, Violation.MALFORMED),
        ({**MEDIA, "media": {"payload": 5}}, Violation.MALFORMED),
        ({**MEDIA, "media": {"payload": "A"}}, Violation.BAD_BASE64),
        ({**DTMF, "sequenceNumber": "one"}, Violation.MALFORMED),
        ({**MEDIA, "media": {"payload": "AA\n=="}}, Violation.BAD_BASE64),
        ({**MEDIA, "media": {"payload": "A-_="}}, Violation.BAD_BASE64),
        ({**MEDIA, "media": {"payload": "\u00fc==="}}, Violation.BAD_BASE64),
        *(
            ({**DTMF, "dtmf": {"digit": digit}}, Violation.MALFORMED)
            for digit in ("", "12", "5\n", "a", "E", "\u0665", "5" * 60_000)
        ),
        (CONNECTED, Violation.WRONG_ORDER),
    ],
)
def test_a_bad_message_inside_a_stream_is_not_fatal(message, kind):
    stream = streaming()
    violation = refused(stream, message)
    assert (violation.kind, violation.fatal) == (kind, False)
    assert stream.receive(json.dumps(MEDIA)) == b"\x7f" * 160


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (START, Violation.SECOND_START),
        ({**MEDIA, "streamSid": "MZ2"}, Violation.WRONG_STREAM),
        ({**STOP, "streamSid": "MZ2"}, Violation.WRONG_STREAM),
        ({**MEDIA, "streamSid": "MZ2", "media": {"payload": "A"}}, Violation.WRONG_STREAM),
        ("x" * (MAX_MESSAGE_BYTES + 1), Violation.OVERSIZED),
    ],
)
def test_a_violation_after_which_the_audio_cannot_be_attributed_is_fatal(message, kind):
    violation = refused(streaming(), message)
    assert (violation.kind, violation.fatal) == (kind, True)


@pytest.mark.parametrize("message", [START, MEDIA, STOP, MARK, DTMF, "{", b"x"])
def test_a_socket_has_to_begin_with_connected(message):
    assert refused(MediaStream(), message).fatal


@pytest.mark.parametrize("message", [CONNECTED, MEDIA, STOP, MARK, DTMF, "{"])
def test_start_has_to_follow_connected(message):
    stream = MediaStream()
    stream.receive(json.dumps(CONNECTED))
    assert refused(stream, message).fatal


def test_a_violation_of_order_or_stream_is_named_before_a_bad_payload():
    bad = {**MEDIA, "media": {"payload": "A"}}
    stream = streaming()
    assert refused(MediaStream(), bad).kind is Violation.WRONG_ORDER
    stream.receive(json.dumps(STOP))
    assert refused(stream, bad).kind is Violation.WRONG_ORDER


@pytest.mark.parametrize("message", [CONNECTED, MEDIA, STOP, MARK, DTMF])
def test_every_message_after_stop_is_a_violation(message):
    stream = streaming()
    stream.receive(json.dumps(STOP))
    assert refused(stream, message).kind is Violation.WRONG_ORDER


@pytest.mark.parametrize(
    "fields",
    [
        {"streamSid": "MZ2"},
        *(
            {"streamSid": sid, "start": {**START["start"], "streamSid": sid}}
            for sid in ("", "M", "M" * 65, "MZ-1", "MZ1\n", "\u00fcz")
        ),
        {"start": {**START["start"], "mediaFormat": {"encoding": "audio/x-l16", "sampleRate": 8000, "channels": 1}}},
        {"start": {**START["start"], "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 16000, "channels": 1}}},
    ],
)
def test_a_start_that_contradicts_itself_or_the_format_is_fatal(fields):
    stream = MediaStream()
    stream.receive(json.dumps(CONNECTED))
    assert refused(stream, {**START, **fields}).fatal


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)
MUTATED = st.builds(
    lambda base, name, value: json.dumps({**base, name: value}),
    st.sampled_from([CONNECTED, START, MEDIA, DTMF, MARK, STOP]),
    st.sampled_from(["event", "streamSid", "sequenceNumber", "start", "media", "mark", "dtmf", "stop"]),
    JSON,
)
VALID = st.sampled_from([json.dumps(m) for m in (CONNECTED, START, MEDIA, DTMF, MARK, STOP)])


@given(st.lists(VALID | MUTATED | st.text(max_size=40) | st.binary(max_size=8) | JSON.map(json.dumps), max_size=12))
def test_any_input_is_accepted_in_order_or_is_a_violation(messages):
    stream = MediaStream()
    for message in messages:
        before = stream.state
        try:
            accepted = stream.receive(message)
        except ViolationError:
            assert stream.state is before
        else:
            if isinstance(accepted, bytes):
                assert before is stream.state is State.STREAMING
            else:
                assert NEXT[before, type(accepted)] is stream.state


@given(st.binary(max_size=400))
def test_audio_passes_unchanged_in_both_directions(audio):
    text = Outbound("MZ1").media(audio).decode()
    assert json.loads(text) == {
        "event": "media",
        "streamSid": "MZ1",
        "media": {"payload": base64.b64encode(audio).decode()},
    }
    assert streaming().receive(text) == audio


@given(st.text(max_size=40))
def test_a_stream_id_cannot_break_out_of_an_outbound_message(stream_sid):
    outbound = Outbound(stream_sid)
    assert json.loads(outbound.clear) == {"event": "clear", "streamSid": stream_sid}
    mark = {"event": "mark", "streamSid": stream_sid, "mark": {"name": "2.7.9"}}
    assert json.loads(outbound.mark(2, 7, 9)) == mark


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
def test_the_name_of_a_mark_of_ours_is_parsed(generation, utterance, seq):
    name = json.loads(Outbound("MZ1").mark(generation, utterance, seq))["mark"]["name"]
    assert parse_mark(name) == (generation, utterance, seq)


@pytest.mark.parametrize(
    "name", ["", "1", "1.2", ".1.1", "1.2.3.4", "-1.2.3", "1.2.3 ", "\u0661.2.3", "1" * 30 + ".1.1", "responsePart"]
)
def test_other_mark_names_are_not_parsed(name):
    assert parse_mark(name) is None


def test_a_probes_name_is_told_apart_from_a_marks():
    name = json.loads(Outbound("MZ1").probe(b"123"))["mark"]["name"]
    assert (parse_probe(name), parse_mark(name)) == (b"123", None)
    assert [parse_probe(other) for other in ("1.2.3", "probe.", "probe.\u0661", "probe.1x")] == [None] * 4
