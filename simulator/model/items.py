"""The items of a Realtime conversation, and how a client may change them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.audio import BYTES_PER_MS, ms_of

from ..voice import Speech
from .config import RefusedError


@dataclass
class Item:
    """One item. Only an item that the model speaks has `speech`; `sent_bytes` of it were sent as deltas."""

    id: str
    type: Literal["message", "function_call", "function_call_output", "mcp_call"]
    role: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    content: list[dict[str, Any]] = field(default_factory=list)
    # name, call_id, arguments or output of a function item; name, server_label, arguments and output of an mcp_call
    function: dict[str, str] = field(default_factory=dict)
    response_id: str | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    speech: Speech | None = None
    sent_bytes: int = 0
    # When its first delta was sent; 0 before.
    first_delta_ns: int = 0
    transcript: str = ""
    truncated_ms: int | None = None
    deleted: bool = False
    # length of a caller's audio
    caller_ms: int = 0

    @property
    def held_ms(self) -> int:
        """Audio of the model that the conversation holds, ms."""
        if self.deleted:
            return 0
        return ms_of(self.sent_bytes) if self.truncated_ms is None else self.truncated_ms

    def as_json(self) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self.id, "object": "realtime.item", "type": self.type, "status": self.status}
        if self.type != "message":
            return item | self.function
        item["role"] = self.role
        if self.phase:
            item["phase"] = self.phase
        if self.speech:
            # A truncated item has lost its transcript: the server cannot align words with audio.
            transcript = self.transcript if self.truncated_ms is None else None
            item["content"] = [{"type": "output_audio", "transcript": transcript}]
        else:
            item["content"] = self.content
        return item


class Conversation:
    """The items in order. A method raises RefusedError for a client's mistake."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    @property
    def last(self) -> Item | None:
        return self._items[-1] if self._items else None

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Insert `item` after the item `after` ("root": at the front; None: at the end); the id of its predecessor."""
        if after == "root":
            at = 0
        elif after is None:
            at = len(self._items)
        else:
            at = self._items.index(self._find(after, "create", "inserting")) + 1
        if any(known.id == item.id for known in self._items):
            raise RefusedError("item_create_duplicate_item_id", f"An item with id '{item.id}' exists.", "item.id")
        self._items.insert(at, item)
        return self._items[at - 1].id if at else None

    def retrieve(self, item_id: str) -> Item:
        return self._find(item_id, "retrieve", "retrieving")

    def delete(self, item_id: str) -> Item:
        item = self._find(item_id, "delete", "deleting")
        item.deleted = True
        self._items.remove(item)
        return item

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> tuple[int, str | None]:
        """Cut the model's audio. Returns where it was cut, ms, and the complaint when the client wanted another place.

        For a place beyond the end of the audio, the real server complains with an error whose event_id is null, cuts at
        the end, and confirms that (openai-agents and ReviewStage/luke#564 traces). It refuses two other mistakes.
        """
        item = self._find(item_id, "truncate", "truncating")
        if item.speech is None or not item.sent_bytes or audio_end_ms <= 0 or content_index != 0:
            raise RefusedError("unsupported_content_type", "Only model output audio messages can be truncated.")
        held_ms = item.held_ms
        complaint = None
        if audio_end_ms > held_ms:
            complaint = f"Audio content of {held_ms}ms is already shorter than {audio_end_ms}ms"
            audio_end_ms = held_ms
        item.truncated_ms = audio_end_ms
        return audio_end_ms, complaint

    def _find(self, item_id: str, verb: str, doing: str) -> Item:
        for item in reversed(self._items):
            if item.id == item_id:
                return item
        raise RefusedError(
            f"item_{verb}_invalid_item_id",
            f"Error {doing} item: the item with id '{item_id}' does not exist.",
            "item_id",
        )


def usage(conversation: Conversation, spoken: list[Item]) -> dict[str, Any]:
    """Tokens of a response: a caller's audio counts one per 100 ms, the model's one per 50 ms (OpenAI's cost guide)."""
    mine = {item.id for item in spoken}
    heard = [item for item in conversation if item.id not in mine]
    audio_in = sum(item.caller_ms // 100 + item.held_ms // 50 for item in heard)
    text_in = 100 + 10 * len(heard)
    audio_out = sum(item.sent_bytes // (50 * BYTES_PER_MS) for item in spoken)
    text_out = sum(len(item.transcript) // 4 + 1 for item in spoken)
    return {
        "total_tokens": audio_in + text_in + audio_out + text_out,
        "input_tokens": audio_in + text_in,
        "output_tokens": audio_out + text_out,
        "input_token_details": {
            "text_tokens": text_in,
            "audio_tokens": audio_in,
            "image_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
    }
