"""One call as Twilio carries it: the messages of bidirectional Media Streams, the caller and the ear.

Messages out are exactly those of Twilio's page "Media Streams - WebSocket messages": every number is a string, except
in `mediaFormat`. Messages in are checked as strictly as error 31951 says: a missing or extra field, an unknown type,
text that is not JSON, and another stream's SID are all "Invalid Message", a warning that Twilio gives once a stream.

Pure: times are nanoseconds of CLOCK_MONOTONIC, passed in.
"""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import msgspec

from shared.audio import FRAME_MS, FRAME_NS

from .caller import Caller, Said, line_audio
from .dial import LegRecord
from .ear import Ear, EarRecord

# Error codes of Twilio's debugger.
WEBHOOK_FAILED: Final = 11200
TWIML_INVALID: Final = 12100
STREAM_REFUSED: Final = 31920
STREAM_CLOSED: Final = 31921
STREAM_BROKEN: Final = 31924
MEDIA_DISCARDED: Final = 31931
INVALID_MESSAGE: Final = 31951
# "If the payload contains audio file type header bytes, the audio is streamed incorrectly": no code of its own.
FILE_HEADER: Final = 0
_FILE_HEADERS: Final = (b"RIFF", b"OggS", b"ID3", b".snd", b"fLaC")


@dataclass(frozen=True)
class CarrierWarning:
    """An entry of Twilio's debugger: its error code and its text."""

    code: int
    at_ns: int
    text: str


@dataclass(frozen=True)
class Key:
    """A key that the caller pressed."""

    at_ns: int
    digit: str


@dataclass(frozen=True)
class StreamRecord:
    """One media stream of the call; a call has several when its TwiML leads back to <Connect>."""

    stream_sid: str
    # When `start` was sent.
    started_ns: int
    # When the stream ended: the caller hung up, or the socket was found closed.
    ended_ns: int
    # "caller": by `stop`; "server": with a closing handshake; "lost": without one; "" while it lasts.
    ended_by: Literal["", "caller", "server", "lost"]
    custom_parameters: Mapping[str, str]
    # Messages that Twilio would have refused, beyond the one it warns about.
    invalid_messages: int = 0


@dataclass(frozen=True)
class Lag:
    """An instant at which the carrier itself woke too late: figures of that time are void."""

    at_ns: int
    late_ns: int


@dataclass(frozen=True)
class VerbRecord:
    """A TwiML verb that was carried out: what the caller gets when no AI is on the line."""

    at_ns: int
    name: str
    text: str


@dataclass(frozen=True)
class CallRecord:
    """A whole call from the carrier's side. `started_ns` is when the first stream's `start` was sent (0: none was)."""

    call_sid: str
    started_ns: int
    ended_ns: int
    streams: tuple[StreamRecord, ...]
    ear: EarRecord
    said: tuple[Said, ...]
    keys: tuple[Key, ...]
    warnings: tuple[CarrierWarning, ...]
    # When each of the caller's 20 ms frames was handed to the socket.
    sent_ns: array[int] = field(default_factory=lambda: array("q"))
    # The seed of the line noise between the caller's words; None: silence.
    noise_seed: int | None = None
    # All that a caller with a speakerphone sent; None: it had none.
    line: bytes | None = None
    # Filled in by the shell, from here on: how the call ended, the verbs of its TwiML and their legs, and how late the
    # shell was.
    outcome: str = ""
    verbs: tuple[VerbRecord, ...] = ()
    legs: tuple[LegRecord, ...] = ()
    lags: tuple[Lag, ...] = ()
    # Webhooks that were requested again because they had failed.
    webhook_retries: int = 0

    def sent_audio(self) -> bytes:
        """All that the caller sent, end to end over all streams, mu-law."""
        if self.line is not None:
            return self.line
        return line_audio(self.noise_seed, self.said, len(self.sent_ns))


class _Media(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    # msgspec decodes the base64, and refuses what is not base64.
    payload: bytes


class _Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class _MediaMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="media"):
    streamSid: str  # noqa: N815  # Twilio's name
    media: _Media


class _MarkMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="mark"):
    streamSid: str  # noqa: N815
    mark: _Mark


class _ClearMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="clear"):
    streamSid: str  # noqa: N815


_decode_message: Final = msgspec.json.Decoder(_MediaMessage | _MarkMessage | _ClearMessage).decode
_encode: Final = msgspec.json.Encoder().encode


def _text(message: dict[str, Any]) -> str:
    return _encode(message).decode()


@dataclass
class CarrierCall:
    """One call. `open` begins a stream, `receive` takes what the server sent, `advance` says what is due by now.

    Each returns the texts to send, in order. After the caller hung up (`has_hung_up`), by its script or by `hang_up`,
    the socket is to be closed; when it closes by itself, `closed` is to be called, and the call may `open` again.
    """

    call_sid: str
    account_sid: str
    caller: Caller
    _ear: Ear = field(default_factory=Ear)
    _streams: list[StreamRecord] = field(default_factory=list)
    _keys: list[Key] = field(default_factory=list)
    _warnings: list[CarrierWarning] = field(default_factory=list)
    _sent_ns: array[int] = field(default_factory=lambda: array("q"))
    # What a speakerphone made of the caller's line.
    _line: bytearray = field(default_factory=bytearray)
    _stream_sid: str = ""
    # The last sequenceNumber and the last chunk of this stream.
    _sequence: int = 0
    _chunk: int = 0
    # The instant of the caller's next sample to send, and when the stream's first was.
    _next_ns: int = 0
    _is_open: bool = False
    has_hung_up: bool = False

    def open(self, stream_sid: str, custom_parameters: Mapping[str, str], now_ns: int) -> list[str]:
        """The socket is open: `connected` and `start`. The caller's first 20 ms are complete, and due, 20 ms later."""
        if self._is_open or self.has_hung_up:
            raise RuntimeError(f"call {self.call_sid} has a stream already, or is over")
        self._is_open = True
        self._stream_sid = stream_sid
        self._sequence = self._chunk = 0
        self._next_ns = now_ns
        self._streams.append(StreamRecord(stream_sid, now_ns, 0, "", dict(custom_parameters)))
        start = {
            "event": "start",
            "sequenceNumber": self._number(),
            "start": {
                "accountSid": self.account_sid,
                "streamSid": stream_sid,
                "callSid": self.call_sid,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": dict(custom_parameters),
            },
            "streamSid": stream_sid,
        }
        return ['{"event":"connected","protocol":"Call","version":"1.0.0"}', _text(start)]

    def receive(self, message: str | bytes, now_ns: int) -> list[str]:
        """The server sent a message, which was read at `now_ns`. A binary message is invalid."""
        if isinstance(message, str) or not self._is_open:
            return self.receive_text(message, now_ns)
        self._invalid("a binary message", now_ns)
        return self._echo(self._ear.advance(now_ns))

    def receive_text(self, message: str | bytes, now_ns: int) -> list[str]:
        """`receive` for a text message, as a string or as UTF-8."""
        if not self._is_open:
            return []
        out = self._echo(self._ear.advance(now_ns))
        try:
            decoded = _decode_message(message)
        except msgspec.DecodeError as exc:  # includes ValidationError
            self._invalid(str(exc), now_ns)
            return out
        if decoded.streamSid != self._stream_sid:
            self._invalid("the streamSid of another stream", now_ns)
        elif isinstance(decoded, _MediaMessage):
            payload = decoded.media.payload
            if payload.startswith(_FILE_HEADERS):
                self._warn(FILE_HEADER, "an audio file header in the payload", now_ns)
            if not self._ear.media(payload, now_ns):
                self._warn(MEDIA_DISCARDED, "more than 10 minutes of audio are buffered", now_ns)
        elif isinstance(decoded, _MarkMessage):
            self._ear.mark(decoded.mark.name, now_ns)
            out += self._echo(self._ear.advance(now_ns))
        else:
            out += self._echo(self._ear.clear(now_ns))
        return out

    def advance(self, now_ns: int) -> list[str]:
        """What is due by now: the caller's frames on absolute 20 ms steps, keys, marks, and `stop` at the end."""
        out: list[str] = []
        while self._is_open and self._next_ns + FRAME_NS <= now_ns:
            at_ns = self._next_ns
            out += self._echo(self._ear.advance(self._next_ns + FRAME_NS))
            tick = self.caller.tick(at_ns, ai_audible=self._ear.is_playing(at_ns))
            if tick.hang_up:
                return out + self.hang_up(now_ns)
            self._next_ns = at_ns + FRAME_NS
            if tick.digit:
                self._keys.append(Key(at_ns, tick.digit))
                out.append(self._dtmf(tick.digit))
            out.append(self._media(self._echoed(tick.payload, at_ns)))
            self._sent_ns.append(now_ns)
        if self._is_open:
            out += self._echo(self._ear.advance(now_ns))
        return out

    def next_due_ns(self) -> int | None:
        """When `advance` has something to do; None while no stream is open."""
        if not self._is_open:
            return None
        frame_ns = self._next_ns + FRAME_NS
        mark_ns = self._ear.next_due_ns()
        return frame_ns if mark_ns is None else min(frame_ns, mark_ns)

    def hang_up(self, now_ns: int) -> list[str]:
        """The caller hangs up: what the ear has not played by now is never heard. Returns `stop`; nothing twice."""
        self.has_hung_up = True
        if not self._is_open:
            return []
        self._end("caller", now_ns)
        stop = {
            "event": "stop",
            "sequenceNumber": self._number(),
            "streamSid": self._stream_sid,
            "stop": {"accountSid": self.account_sid, "callSid": self.call_sid},
        }
        return [_text(stop)]

    def closed(self, now_ns: int, *, lost: bool) -> None:
        """The server closed the socket; `lost`: without a closing handshake. The call goes on."""
        if self._is_open:
            self._end("lost" if lost else "server", now_ns)
            self._warn(STREAM_CLOSED, "the server closed the socket", now_ns)

    def warn(self, code: int, text: str, now_ns: int) -> None:
        """Add an entry to the debugger for what happened outside a stream."""
        self._warnings.append(CarrierWarning(code, now_ns, text))

    def record(self) -> CallRecord:
        return CallRecord(
            call_sid=self.call_sid,
            started_ns=self._streams[0].started_ns if self._streams else 0,
            ended_ns=self._streams[-1].ended_ns if self._streams else 0,
            streams=tuple(self._streams),
            ear=self._ear.record(),
            said=tuple(self.caller.said),
            keys=tuple(self._keys),
            warnings=tuple(self._warnings),
            sent_ns=self._sent_ns[:],
            noise_seed=self.caller.noise_seed,
            line=bytes(self._line) if self.caller.speakerphone is not None else None,
        )

    def _echoed(self, payload: str, at_ns: int) -> str:
        if self.caller.speakerphone is None:
            return payload
        frame = self.caller.speakerphone.line(b64decode(payload), at_ns, self._ear.heard)
        self._line += frame
        return b64encode(frame).decode()

    def _end(self, by: Literal["caller", "server", "lost"], now_ns: int) -> None:
        self._is_open = False
        self._ear.close(now_ns)
        self._streams[-1] = replace(self._streams[-1], ended_ns=now_ns, ended_by=by)

    def _number(self) -> str:
        self._sequence += 1
        return str(self._sequence)

    def _media(self, payload: str) -> str:
        # By hand: 50 of these a second for each call, and base64 needs no escaping.
        self._chunk += 1
        self._sequence += 1
        return (
            f'{{"event":"media","sequenceNumber":"{self._sequence}","media":{{"track":"inbound","chunk":"{self._chunk}",'
            f'"timestamp":"{(self._chunk - 1) * FRAME_MS}","payload":"{payload}"}},"streamSid":"{self._stream_sid}"}}'
        )

    def _dtmf(self, digit: str) -> str:
        return _text(
            {
                "event": "dtmf",
                "streamSid": self._stream_sid,
                "sequenceNumber": self._number(),
                "dtmf": {"track": "inbound_track", "digit": digit},
            }
        )

    def _echo(self, names: list[str]) -> list[str]:
        return [
            _text(
                {
                    "event": "mark",
                    "sequenceNumber": self._number(),
                    "streamSid": self._stream_sid,
                    "mark": {"name": name},
                }
            )
            for name in names
        ]

    def _invalid(self, text: str, now_ns: int) -> None:
        stream = self._streams[-1]
        self._streams[-1] = replace(stream, invalid_messages=stream.invalid_messages + 1)
        self._warn(INVALID_MESSAGE, text, now_ns)

    def _warn(self, code: int, text: str, now_ns: int) -> None:
        """Once a stream for each code, as Twilio does."""
        started_ns = self._streams[-1].started_ns
        if not any(w.code == code and w.at_ns >= started_ns for w in self._warnings):
            self.warn(code, text, now_ns)
