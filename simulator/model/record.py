"""What the simulated model saw, said and believes, for a judge who compares it with the ear."""

from __future__ import annotations

import base64
from collections import deque
from typing import Any, Final

import msgspec

from .items import Item

# A session of an hour has about 10,000; the oldest go first.
MAX_EVENTS: Final = 50_000
# A step that was later than this goes into the record.
LAG_NS: Final = 5_000_000
# The fields of an event that the record keeps.
_NOTED: Final = ("response_id", "item_id", "audio_end_ms", "audio_start_ms")
# Events too frequent to list; they are counted.
_COUNTED: Final = frozenset({"response.output_audio_transcript.delta", "response.output_text.delta"})


class Record:
    """Records the events of a session; `as_dict` returns everything for JSON. Times are the session's."""

    def __init__(self, session_id: str, request_id: str, *, keeps_input: bool = False) -> None:
        self.session_id = session_id
        self.request_id = request_id
        self.conversation_id = session_id.replace("sess", "conv", 1)
        self.opened_ns = 0
        self.closed_ns: int | None = None
        self.close_code: int | None = None
        self.appends = 0
        self.appended_bytes = 0
        # All audio that the client appended, if it is to be kept.
        self.input = bytearray() if keeps_input else None
        # When, and how many bytes it was then.
        self.input_at: list[tuple[int, int]] = []
        self.deltas = 0
        self.transcript_deltas = 0
        self.events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self.errors: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self.speech: list[dict[str, Any]] = []
        self.items: list[Item] = []
        # The calls of functions.
        self.called: list[Item] = []
        # What the client set last: instructions and voice.
        self.instructions = self.voice = ""
        # What the client put into the conversation.
        self.told: list[Item] = []
        self.responses: list[dict[str, Any]] = []
        # When a step was late, and by how much: figures of that time are void.
        self.lags: deque[dict[str, int]] = deque(maxlen=MAX_EVENTS)

    def late(self, due_ns: int, now_ns: int) -> None:
        if now_ns - due_ns > LAG_NS:
            self.lags.append({"at_ns": now_ns, "late_ns": now_ns - due_ns})

    def appended(self, audio: bytes, now_ns: int) -> None:
        self.appends += 1
        self.appended_bytes += len(audio)
        if self.input is not None:
            self.input += audio
            self.input_at.append((now_ns, len(self.input)))

    def received(self, type: str, event: Any, now_ns: int) -> None:
        note = {"at_ns": now_ns, "dir": "in", "type": type}
        for name in _NOTED:
            value = getattr(event, name, None)
            if value is not None:
                note[name] = value
        self.events.append(note)

    def sent(self, event: dict[str, Any], now_ns: int) -> None:
        kind = event["type"]
        if kind in _COUNTED:
            self.transcript_deltas += 1
            return
        note = {"at_ns": now_ns, "dir": "out", "type": kind}
        note.update({name: event[name] for name in _NOTED if name in event})
        if "item" in event:
            note["item_id"] = event["item"]["id"]
        if "response" in event:
            note["response_id"] = event["response"]["id"]
        if kind == "error":
            error = event["error"]
            note["code"] = error["code"]
            self.errors.append({"at_ns": now_ns} | {key: error[key] for key in ("code", "message", "type")})
        self.events.append(note)

    def closed(self, now_ns: int, code: int | None) -> None:
        if self.closed_ns is None:
            self.closed_ns, self.close_code = now_ns, code

    def as_dict(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "session_id": self.session_id,
            "opened_ns": self.opened_ns,
            "closed_ns": self.closed_ns,
            "close_code": self.close_code,
            "instructions": self.instructions,
            "voice": self.voice,
            "items": [_truth(item) for item in self.items],
            "told": [
                {"item_id": item.id, "role": item.role, "text": item.transcript, "deleted": item.deleted}
                for item in self.told
                if item.type == "message"
            ],
            # The calls of functions that the model made, those that it was told of, and all outputs.
            "functions": [
                {"item_id": item.id, "type": item.type, "status": item.status} | item.function
                for item in (*self.called, *self.told)
                if item.type != "message"
            ],
            "responses": [dict(response) for response in self.responses],
            "events": list(self.events),
            "errors": list(self.errors),
            "speech": [dict(speech) for speech in self.speech],
            "lags": list(self.lags),
            "appends": self.appends,
            "appended_bytes": self.appended_bytes,
            "input_at": self.input_at,
            "input_b64": None if self.input is None else base64.b64encode(self.input).decode(),
            "deltas": self.deltas,
            "transcript_deltas": self.transcript_deltas,
        }


def _truth(item: Item) -> dict[str, Any]:
    audio = item.speech.render()[: item.sent_bytes] if item.speech else b""
    return {
        "item_id": item.id,
        "response_id": item.response_id,
        "content_index": 0,
        "phase": item.phase,
        "role": item.role,
        "audio_b64": base64.b64encode(audio).decode(),
        "sent_bytes": item.sent_bytes,
        "first_delta_ns": item.first_delta_ns,
        "held_ms": item.held_ms,
        "deleted": item.deleted,
        "truncated_ms": item.truncated_ms,
        "status": item.status,
        "transcript": item.transcript,
    }


class Outbox:
    """The events that wait to be sent, as JSON texts, each noted in the record."""

    def __init__(self, record: Record, name: str) -> None:
        self.now_ns = 0
        self._record = record
        self._name = name
        self._count = 0
        self._texts: list[str] = []

    def _event_id(self) -> str:
        self._count += 1
        return f"event_{self._name}{self._count:06d}"

    def send(self, type: str, **fields: Any) -> None:
        event = {"type": type, "event_id": self._event_id(), **fields}
        self._record.sent(event, self.now_ns)
        self._texts.append(msgspec.json.encode(event).decode())

    def send_audio(self, head: str, base64_audio: str) -> None:
        """An audio delta: `head` is the start of its JSON, from `audio_head`, the same for a whole item."""
        self._record.deltas += 1
        self._texts.append(f'{head}"event_id":"{self._event_id()}","delta":"{base64_audio}"}}')

    def error(self, type: str, code: str | None, message: str, param: str | None, event_id: str | None) -> None:
        self.send("error", error={"type": type, "code": code, "message": message, "param": param, "event_id": event_id})

    def take(self) -> list[str]:
        texts, self._texts = self._texts, []
        return texts


def audio_head(response_id: str, item_id: str, output_index: int) -> str:
    return (
        f'{{"type":"response.output_audio.delta","response_id":"{response_id}","item_id":"{item_id}",'
        f'"output_index":{output_index},"content_index":0,'
    )
