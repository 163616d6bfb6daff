"""One response of the simulated model, from `response.created` to `response.done`, as steps in time."""

from __future__ import annotations

import binascii
import math
import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.audio import BYTE_NS, BYTES_PER_MS, MULAW_TO_LINEAR

from ..voice import Speech
from .behaviour import Behaviour
from .items import Conversation, Item, usage
from .record import Outbox, Record, audio_head

MS_NS: Final = 1_000_000
# Sizes of ragged deltas, bytes: single bytes, odd sizes, about one frame, many frames.
_RAGGED_BYTES: Final = (1, 3, 159, 160, 161, 333, 800, 1_601, 4_000)
# For each byte of mu-law at 8 kHz, three samples of PCM at 24 kHz (16 bit little-endian).
_MULAW_TO_PCM: Final = tuple(value.to_bytes(2, "little", signed=True) * 3 for value in MULAW_TO_LINEAR)


@dataclass
class Stage:
    """The parts of its session that a response uses."""

    outbox: Outbox
    record: Record
    conversation: Conversation
    new_id: Callable[[str], str]
    drop_socket: Callable[[], None]


@dataclass
class Part:
    """One item that a response will make: speech, text or a function call."""

    speech: Speech | None = None
    text: str = ""
    call: tuple[str, str] | None = None  # function name, arguments
    phase: Literal["commentary", "final_answer"] = "final_answer"


class Response:
    """The session runs `steps` (each yields the time of the next, in ns) until `over`."""

    def __init__(
        self, stage: Stage, behaviour: Behaviour, parts: list[Part], settings: dict[str, Any], *, seed: int, now_ns: int
    ) -> None:
        """`settings` is the session's configuration with the changes of the response.create."""
        self.id = stage.new_id("resp")
        self.in_conversation: bool = settings["conversation"] != "none"
        self.over = False
        # The audio of all its items so far, ms.
        self.spoken_ms = 0
        self._stage = stage
        self._behaviour = behaviour
        self._settings = settings
        self._random = random.Random(seed)
        self._items: list[Item] = []
        self._open: dict[int, Item] = {}
        self._cancel_reason: str | None = None
        self._stale_left = 0
        self._is_pcm = settings["audio"]["output"]["format"]["type"] == "audio/pcm"
        self._note: dict[str, Any] = {
            "id": self.id, "status": "in_progress", "cancels": 0, "created_ns": now_ns, "done_ns": None,
        }  # fmt: skip
        stage.record.responses.append(self._note)
        stage.outbox.send("response.created", response=self._as_json())
        limits = [("requests", 5_000, 4_999, 0.012), ("tokens", 800_000, 795_000, 0.375)]
        stage.outbox.send(
            "rate_limits.updated",
            rate_limits=[
                {"name": name, "limit": limit, "remaining": left, "reset_seconds": seconds}
                for name, limit, left, seconds in limits
            ],
        )
        self.steps: Iterator[int] = self._perform(parts, now_ns)

    def cancel(self, reason: Literal["client_cancelled", "turn_detected"]) -> None:
        if reason == "client_cancelled":
            self._note["cancels"] += 1
        if self._cancel_reason is None:
            self._cancel_reason = reason
            self._stale_left = self._behaviour.stale_deltas_after_cancel
            if not self._stale_left or not self._open:
                self._finish("cancelled")

    def _perform(self, parts: list[Part], now_ns: int) -> Iterator[int]:
        due_ns = now_ns + self._behaviour.first_delta_ms * MS_NS
        yield due_ns
        if self._behaviour.failure:
            self._finish("failed")
            return
        for index, part in enumerate(parts):
            item = self._begin(index, part)
            if part.speech:
                due_ns = yield from self._speak(index, item, part.speech, due_ns)
                if self.over:
                    return
            elif part.text:
                self._write(index, item, part.text)
            # gpt-realtime-2 reports the end of all audio of a response together, just before response.done.
            if not self._behaviour.preamble:
                self._end(index, "completed")
        self._finish("completed")

    def _begin(self, index: int, part: Part) -> Item:
        outbox, item = self._stage.outbox, Item(self._stage.new_id("item"), "message", "assistant", "in_progress")
        item.response_id = self.id
        if part.call:
            item.role = None
            server, _, name = part.call[0].rpartition(".")
            if server:
                item.type = "mcp_call"
                item.function = {"server_label": server, "name": name, "arguments": ""}
            else:
                item.type = "function_call"
                item.function = {"call_id": self._stage.new_id("call"), "name": name, "arguments": ""}
        else:
            item.phase = part.phase
        self._items.append(item)
        self._open[index] = item
        record = self._stage.record
        (record.items if item.role else record.called).append(item)
        outbox.send("response.output_item.added", response_id=self.id, output_index=index, item=item.as_json())
        if self.in_conversation:
            previous = self._stage.conversation.add(item)
            outbox.send("conversation.item.added", item=item.as_json(), previous_item_id=previous)
        if part.call:
            self._call(index, item, part.call[1])
        else:
            empty = {"type": "audio", "transcript": ""} if part.speech else {"type": "text", "text": ""}
            outbox.send("response.content_part.added", **self._at(index, item), part=empty)
        item.speech = part.speech
        return item

    def _speak(self, index: int, item: Item, speech: Speech, due_ns: int) -> Generator[int, None, int]:
        """Send the audio in deltas, faster than real time. The generator returns when the last delta was due."""
        behaviour = self._behaviour
        audio = speech.render()
        words = _words(speech)
        told = 0
        if behaviour.transcript == "early":
            told = self._tell(index, item, words, told, len(words))
        stalled = behaviour.stall_ms <= 0
        drop_bytes = None if behaviour.drop_utterance_at_ms is None else behaviour.drop_utterance_at_ms * BYTES_PER_MS
        head = audio_head(self.id, item.id, index)
        while True:
            size = self._random.choice(_RAGGED_BYTES) if behaviour.ragged else behaviour.delta_ms * BYTES_PER_MS
            chunk = audio[item.sent_bytes : item.sent_bytes + size]
            if behaviour.transcript == "along":
                told = self._tell(index, item, words, told, -(-len(words) * (item.sent_bytes + size) // len(audio)))
            data = b"".join([_MULAW_TO_PCM[byte] for byte in chunk]) if self._is_pcm else chunk
            if not item.sent_bytes:
                item.first_delta_ns = self._stage.outbox.now_ns
            self._stage.outbox.send_audio(head, binascii.b2a_base64(data, newline=False).decode("ascii"))
            item.sent_bytes += len(chunk)
            if self._cancel_reason:
                self._stale_left -= 1
                if self._stale_left <= 0:
                    self._finish("cancelled")
                    return due_ns
            if drop_bytes is not None and item.sent_bytes >= drop_bytes:
                self.over = True
                self._stage.drop_socket()
                return due_ns
            if item.sent_bytes >= len(audio):
                break
            due_ns += int(len(chunk) * BYTE_NS / behaviour.speed)
            if not stalled and item.sent_bytes >= behaviour.stall_at_ms * BYTES_PER_MS:
                stalled = True
                due_ns += behaviour.stall_ms * MS_NS
            yield due_ns
        if behaviour.transcript != "never":
            self._tell(index, item, words, told, len(words))
        return due_ns

    def _tell(self, index: int, item: Item, words: list[str], told: int, until: int) -> int:
        """Send the transcript up to word number `until`."""
        text = "".join(words[told:until])
        if text:
            item.transcript += text
            self._stage.outbox.send("response.output_audio_transcript.delta", **self._at(index, item), delta=text)
        return max(told, until)

    def _write(self, index: int, item: Item, text: str) -> None:
        item.transcript = text
        item.content = [{"type": "output_text", "text": text}]
        self._stage.outbox.send("response.output_text.delta", **self._at(index, item), delta=text)

    def _call(self, index: int, item: Item, arguments: str) -> None:
        arguments = arguments.replace("$call_id", item.function.get("call_id", item.id))
        item.function["arguments"] = arguments
        where = {key: value for key, value in self._at(index, item).items() if key != "content_index"}
        send = self._stage.outbox.send
        if item.type == "mcp_call":  # the server carries it out itself
            send("response.mcp_call_arguments.delta", **where, delta=arguments)
            send("response.mcp_call_arguments.done", **where, arguments=arguments)
            at = {key: value for key, value in where.items() if key != "response_id"}
            send("response.mcp_call.in_progress", **at)
            item.function["output"] = f"{item.function['name']} has answered"
            send("response.mcp_call.completed", **at)
            return
        call_id, name = item.function["call_id"], item.function["name"]
        send("response.function_call_arguments.delta", **where, call_id=call_id, delta=arguments)
        send("response.function_call_arguments.done", **where, call_id=call_id, name=name, arguments=arguments)

    def _at(self, index: int, item: Item) -> dict[str, Any]:
        return {"response_id": self.id, "item_id": item.id, "output_index": index, "content_index": 0}

    def _end(self, index: int, status: Literal["completed", "incomplete"]) -> None:
        """Close an item. An item that was cut short gets the same events as a finished one."""
        item = self._open.pop(index)
        item.status = status
        send, where = self._stage.outbox.send, self._at(index, item)
        if item.speech:
            send("response.output_audio.done", **where)
            if self._behaviour.transcript != "never":
                send("response.output_audio_transcript.done", **where, transcript=item.transcript)
            send("response.content_part.done", **where, part={"type": "audio", "transcript": item.transcript})
        elif item.type == "message":
            send("response.output_text.done", **where, text=item.transcript)
            send("response.content_part.done", **where, part={"type": "text", "text": item.transcript})
        if self.in_conversation and not item.deleted:
            send("conversation.item.done", item=item.as_json())
        send("response.output_item.done", response_id=self.id, output_index=index, item=item.as_json())

    def _finish(self, status: Literal["completed", "cancelled", "failed"]) -> None:
        self.over = True
        for index in list(self._open):
            self._end(index, "completed" if status == "completed" else "incomplete")
        self.spoken_ms = sum(item.sent_bytes for item in self._items) // BYTES_PER_MS
        self._note["status"] = status
        self._note["done_ns"] = self._stage.outbox.now_ns
        details: dict[str, Any] | None = None
        if status == "cancelled":
            details = {"type": "cancelled", "reason": self._cancel_reason}
        elif status == "failed":
            code = self._behaviour.failure
            error = {"type": "server_error", "code": code, "message": f"The response failed: {code}."}
            details = {"type": "failed", "error": error}
        self._stage.outbox.send("response.done", response=self._as_json(details))

    def _as_json(self, details: dict[str, Any] | None = None) -> dict[str, Any]:
        output, settings = self._settings["audio"]["output"], self._settings
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self._note["status"],
            "status_details": details,
            "output": [item.as_json() for item in self._items],
            "conversation_id": self._stage.record.conversation_id if self.in_conversation else None,
            "output_modalities": settings["output_modalities"],
            "max_output_tokens": settings["max_output_tokens"],
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "usage": usage(self._stage.conversation, self._items) if self.over else None,
            "metadata": settings["metadata"],
        }


def _words(speech: Speech) -> list[str]:
    """The words of `speech` up to the end of its audio, each but the first with its leading space."""
    words = [word if not number else f" {word}" for number, word in enumerate(speech.text.split())]
    ratio = speech.length_bytes / max(len(speech.audio), 1)
    return (words * math.ceil(ratio))[: math.ceil(len(words) * ratio)]
