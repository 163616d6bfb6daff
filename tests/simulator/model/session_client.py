"""The other end of a simulated session, in virtual time. Every event that it receives is validated strictly against the
openai SDK's own type."""

from __future__ import annotations

import base64
import json
import typing
from typing import Any

from openai.types.realtime import RealtimeServerEvent

from shared.audio import SILENCE
from simulator.model.behaviour import Behaviour
from simulator.model.session import ModelSession
from simulator.voice import Voice, clip, clips

MS = 1_000_000
PCMU = {"type": "audio/pcmu"}
VOICE = Voice()
GREETING_MS = clips("ai", "greeting")[0].duration_ms
TYPES = {
    typing.get_args(event.model_fields["type"].annotation)[0]: event
    for event in typing.get_args(typing.get_args(RealtimeServerEvent)[0])
}
TOOL = {"type": "function", "name": "look_up", "description": "d", "parameters": {"type": "object", "properties": {}}}


class Client:
    """The other end of a session, with a clock of its own. `events` is everything received, with `at_ms`."""

    def __init__(self, behaviour: Behaviour | None = None, *, configured: bool = True, **input: Any) -> None:
        self.session = ModelSession("sess_1", behaviour=behaviour or Behaviour(), voice=VOICE, seed=1, request_id="CA1")
        self.now_ns = 5_000 * MS
        self.events: list[dict[str, Any]] = []
        self._take(self.session.open(self.now_ns))
        if configured:
            detection = {"type": "server_vad", "interrupt_response": False} | input.pop("turn_detection", {})
            audio = {"input": {"format": PCMU, "turn_detection": detection, **input}, "output": {"format": PCMU}}
            self.update(audio=audio)

    @property
    def now_ms(self) -> int:
        return self.now_ns // MS

    def _take(self, texts: list[str]) -> list[dict[str, Any]]:
        new = []
        for text in texts:
            event = json.loads(text)
            parsed = TYPES[event["type"]].model_validate_json(text, strict=True)
            assert not parsed.model_extra, f"{event['type']} has no field {parsed.model_extra}"
            new.append(event | {"at_ms": self.now_ms})
        self.events += new
        return new

    def send(self, type: str, **fields: Any) -> list[dict[str, Any]]:
        return self._take(self.session.receive(json.dumps({"type": type, **fields}), self.now_ns))

    def update(self, **session: Any) -> list[dict[str, Any]]:
        return self.send("session.update", session={"type": "realtime", **session})

    def run(self, ms: int) -> list[dict[str, Any]]:
        """Let time pass, waking the session exactly when it wants."""
        new, until_ns = [], self.now_ns + ms * MS
        while (due_ns := self.session.next_due_ns()) is not None and due_ns <= until_ns:
            self.now_ns = max(self.now_ns, due_ns)
            new += self._take(self.session.advance(self.now_ns))
        self.now_ns = until_ns
        return new

    def say(self, audio: bytes) -> list[dict[str, Any]]:
        """Speak in real time, 20 ms an append."""
        new = []
        for at in range(0, len(audio), 160):
            new += self.run(20)
            new += self.send("input_audio_buffer.append", audio=base64.b64encode(audio[at : at + 160]).decode())
        return new

    def say_and_pause(self, name: str, pause_ms: int = 700) -> list[dict[str, Any]]:
        return self.say(clip(name).audio + SILENCE * 8 * pause_ms)

    def of(self, type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type]

    def last(self, type: str) -> dict[str, Any]:
        return self.of(type)[-1]

    def audio(self, item_id: str) -> bytes:
        return b"".join(
            base64.b64decode(e["delta"]) for e in self.of("response.output_audio.delta") if e["item_id"] == item_id
        )

    def only_error(self) -> dict[str, Any]:
        (event,) = self.of("error")
        error: dict[str, Any] = event["error"]
        return error


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Event types in order, deltas once each."""
    names = [event["type"] for event in events]
    return [name for number, name in enumerate(names) if not name.endswith("delta") or name not in names[:number]]


def spoken(behaviour: Behaviour | None = None) -> tuple[Client, str]:
    client = Client(behaviour or Behaviour(answer_ms=2_000))
    client.send("response.create")
    client.run(5_000)
    return client, client.last("response.output_item.done")["item"]["id"]


def truncate(client: Client, item_id: str, audio_end_ms: int, content_index: int = 0) -> list[dict[str, Any]]:
    return client.send(
        "conversation.item.truncate", item_id=item_id, content_index=content_index, audio_end_ms=audio_end_ms
    )
