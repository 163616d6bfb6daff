"""Twilio's Media Streams protocol without I/O: the messages, their order, and what may be sent.

Source: twilio.com/docs/voice/media-streams/websocket-messages. Everything is JSON text. Twilio writes its numbers as
strings; both forms are accepted. Unknown fields and events do no harm, because Twilio adds some.

The table `NEXT` is the order of a stream: a missing key *is* the violation, and a violation changes nothing. A
violation is fatal when the audio can no longer be attributed to a call. After any other, the stream goes on.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from enum import Enum
from typing import Annotated, Final

import msgspec

# Twilio's own messages are under 1 kB. 64 KiB is what OpenAI's Twilio example allows (openai-agents-python#5110).
MAX_MESSAGE_BYTES: Final = 65_536


# Twilio's are "MZ" and 32 hex digits. A stream id stands in front of every frame and in the call's record.
StreamSid = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9]{2,64}\Z")]
# The sixteen DTMF tones.
Digit = Annotated[str, msgspec.Meta(pattern=r"\A[0-9*#A-D]\Z")]


class _Inbound(msgspec.Struct, frozen=True, gc=False, tag_field="event", rename="camel"):
    """Base of the messages from Twilio. `gc=False`: no message is part of a cycle, and each call brings 50 a second."""


class Connected(_Inbound, frozen=True, gc=False, tag="connected"):
    """The first message. It has neither a stream id nor a sequence number."""

    protocol: str = ""
    version: str = ""


class MediaFormat(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Documented as always `audio/x-mulaw`, 8000, 1."""

    encoding: str
    sample_rate: int
    channels: int


class StartFields(msgspec.Struct, frozen=True, rename="camel"):
    account_sid: str
    call_sid: str
    stream_sid: StreamSid
    media_format: MediaFormat
    custom_parameters: dict[str, str] = {}


class Start(_Inbound, frozen=True, tag="start"):
    """The second message, once: the call's ids, and the `<Parameter>`s of the TwiML."""

    stream_sid: StreamSid
    start: StartFields
    sequence_number: int = 0


class MediaFields(msgspec.Struct, frozen=True, gc=False):
    """Without `track`, `chunk` and `timestamp`: reading them would be a third of the cost."""

    # msgspec decodes the base64 in half the time of a separate decoding.
    payload: bytes


class Media(_Inbound, frozen=True, gc=False, tag="media"):
    """Caller audio: mu-law in base64. Usually 20 ms a message; the documentation promises no size."""

    stream_sid: str
    media: MediaFields


class _EncodedFields(msgspec.Struct, frozen=True, gc=False):
    payload: str


class _EncodedMedia(_Inbound, frozen=True, gc=False, tag="media"):
    """A `media` message whose payload need not be base64."""

    stream_sid: str
    media: _EncodedFields


class MarkFields(msgspec.Struct, frozen=True, gc=False):
    name: str


class Mark(_Inbound, frozen=True, gc=False, tag="mark"):
    """The echo of a mark of ours: Twilio played everything before it, or a `clear` discarded it."""

    stream_sid: str
    mark: MarkFields
    sequence_number: int = 0


class DtmfFields(msgspec.Struct, frozen=True, gc=False):
    digit: Digit
    track: str = "inbound_track"


class Dtmf(_Inbound, frozen=True, gc=False, tag="dtmf"):
    """The caller pressed a key."""

    stream_sid: str
    dtmf: DtmfFields
    sequence_number: int = 0


class Stop(_Inbound, frozen=True, gc=False, tag="stop"):
    """The stream or the call ended."""

    stream_sid: str
    sequence_number: int = 0


class _AnyEvent(msgspec.Struct, frozen=True, gc=False):
    event: str


Inbound = Connected | Start | Media | Mark | Dtmf | Stop
_KNOWN_EVENTS: Final = frozenset(("connected", "start", "media", "mark", "dtmf", "stop"))

# `strict=False` takes "8000" for 8000.
_decoder: Final = msgspec.json.Decoder(Inbound, strict=False)
_encoded_decoder: Final = msgspec.json.Decoder(_EncodedMedia, strict=False)
_any_decoder: Final = msgspec.json.Decoder(_AnyEvent)


class State(Enum):
    EXPECT_CONNECTED = "expect connected"
    EXPECT_START = "expect start"
    STREAMING = "streaming"
    STOPPED = "stopped"


NEXT: Final[dict[tuple[State, type], State]] = {
    (State.EXPECT_CONNECTED, Connected): State.EXPECT_START,
    (State.EXPECT_START, Start): State.STREAMING,
    (State.STREAMING, Media): State.STREAMING,
    (State.STREAMING, Mark): State.STREAMING,
    (State.STREAMING, Dtmf): State.STREAMING,
    (State.STREAMING, Stop): State.STOPPED,
}


class Violation(Enum):
    """What was wrong with a message. The values are a metric's labels."""

    BINARY = "binary"
    OVERSIZED = "oversized"
    INVALID_UTF8 = "invalid_utf8"
    FRAMING = "framing"  # not WebSocket's framing: no mask, a reserved bit, a continuation without a beginning
    MALFORMED = "malformed"  # not JSON, or a field is missing or of another type
    UNKNOWN_EVENT = "unknown_event"
    BAD_BASE64 = "bad_base64"
    WRONG_ORDER = "wrong_order"
    SECOND_START = "second_start"
    WRONG_STREAM = "wrong_stream"
    WRONG_FORMAT = "wrong_format"  # not mu-law, 8 kHz, mono
    FLOOD = "flood"  # more messages, or more audio, than a call can need


# Fatal at any time. Before `start`, every violation but an unknown event is fatal.
_FATAL: Final = frozenset((Violation.OVERSIZED, Violation.SECOND_START, Violation.WRONG_STREAM, Violation.WRONG_FORMAT))
_AUDIO: Final = MediaFormat("audio/x-mulaw", 8000, 1)


class ViolationError(Exception):
    """The peer broke the protocol. The stream's state is unchanged; with `fatal` the call has to end."""

    def __init__(self, kind: Violation, *, fatal: bool) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.fatal = fatal


class MediaStream:
    """The inbound half of one media socket."""

    __slots__ = ("state", "stream_sid")

    def __init__(self) -> None:
        self.state = State.EXPECT_CONNECTED
        # Set at `start`; every later message has to repeat it.
        self.stream_sid = ""

    def receive(self, text: str | bytes) -> bytes | Connected | Start | Mark | Dtmf | Stop:
        """One WebSocket message in; `bytes` out is caller audio (mu-law, any length, may be empty).

        Raises ViolationError, and nothing else.
        """
        if not isinstance(text, str):
            raise self._violation(Violation.BINARY)
        return self.receive_text(text)

    def receive_text(self, text: str | bytes) -> bytes | Connected | Start | Mark | Dtmf | Stop:
        """`receive` for a text message, as a string or as UTF-8."""
        if len(text) > MAX_MESSAGE_BYTES:
            raise self._violation(Violation.OVERSIZED)
        try:
            message: Inbound = _decoder.decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise self._violation(self._why_undecodable(text)) from None
        # The fast path: nearly every message is this one, and the table allows it.
        if type(message) is Media and self.state is State.STREAMING:
            if message.stream_sid != self.stream_sid:
                raise self._violation(Violation.WRONG_STREAM)
            return message.media.payload
        following = NEXT.get((self.state, type(message)))
        if following is None:
            second = isinstance(message, Start) and self.state is not State.EXPECT_CONNECTED
            raise self._violation(Violation.SECOND_START if second else Violation.WRONG_ORDER)
        if isinstance(message, Start):
            if message.stream_sid != message.start.stream_sid:
                raise self._violation(Violation.WRONG_STREAM)
            if message.start.media_format != _AUDIO:
                raise self._violation(Violation.WRONG_FORMAT)
            self.stream_sid = message.stream_sid
        elif not isinstance(message, Connected | Media) and message.stream_sid != self.stream_sid:
            raise self._violation(Violation.WRONG_STREAM)
        assert not isinstance(message, Media)  # the fast path handled it
        self.state = following
        return message

    def _why_undecodable(self, text: str | bytes) -> Violation:
        try:
            media = _encoded_decoder.decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass
        else:
            # Name the violations of order and stream first: the payload matters only to a valid message.
            if self.state is not State.STREAMING:
                return Violation.WRONG_ORDER
            return Violation.BAD_BASE64 if media.stream_sid == self.stream_sid else Violation.WRONG_STREAM
        try:
            event = _any_decoder.decode(text).event
        except (msgspec.DecodeError, ValueError, RecursionError):
            return Violation.MALFORMED
        return Violation.MALFORMED if event in _KNOWN_EVENTS else Violation.UNKNOWN_EVENT

    def _violation(self, kind: Violation) -> ViolationError:
        before_start = self.state in (State.EXPECT_CONNECTED, State.EXPECT_START)
        return ViolationError(kind, fatal=kind in _FATAL or (before_start and kind is not Violation.UNKNOWN_EVENT))


class Outbound:
    """The messages that may be sent on one stream, in UTF-8, with exactly the documented keys.

    Twilio answers an extra or missing key with error 31951, once a stream; further such messages it drops in silence.
    """

    __slots__ = ("_mark_prefix", "_media_prefix", "clear")

    def __init__(self, stream_sid: str) -> None:
        quoted = msgspec.json.encode(stream_sid)
        self._media_prefix = b'{"event":"media","streamSid":%b,"media":{"payload":"' % quoted
        self._mark_prefix = b'{"event":"mark","streamSid":%b,"mark":{"name":"' % quoted
        self.clear = b'{"event":"clear","streamSid":%b}' % quoted

    def media(self, frame: bytes) -> bytes:
        """`frame` is raw mu-law, without a file header."""
        return self._media_prefix + b2a_base64(frame, newline=False) + b'"}}'

    def mark(self, generation: int, utterance: int, seq: int) -> bytes:
        """After `generation` clears, at the end of `utterance` (0: of none), before frame `seq`."""
        return b'%b%d.%d.%d"}}' % (self._mark_prefix, generation, utterance, seq)

    def probe(self, payload: bytes) -> bytes:
        """A mark in place of a ping, for a browser phone only: its page echoes the mark on arrival."""
        return b'%bprobe.%b"}}' % (self._mark_prefix, payload)


_MARK_NAME: Final = re.compile(r"(\d{1,9})\.(\d{1,18})\.(\d{1,18})", re.ASCII)


def parse_mark(name: str) -> tuple[int, int, int] | None:
    """`(generation, utterance, seq)` of a name that `Outbound.mark` made; None for any other name."""
    match = _MARK_NAME.fullmatch(name)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


_PROBE_NAME: Final = re.compile(r"probe\.(\d{1,20})", re.ASCII)


def parse_probe(name: str) -> bytes | None:
    """The payload of a name that `Outbound.probe` made; None for any other name."""
    match = _PROBE_NAME.fullmatch(name)
    return match[1].encode() if match else None
