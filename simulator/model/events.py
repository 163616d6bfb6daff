"""The events that a Realtime client may send, decoded and checked in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from .config import RefusedError, ResponseRequest, refusal
from .items import Item


class ClientEvent(Struct, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    event_id: str | None = None


class Append(ClientEvent, tag="input_audio_buffer.append"):
    audio: bytes  # msgspec decodes the base64


class Commit(ClientEvent, tag="input_audio_buffer.commit"):
    pass


class Clear(ClientEvent, tag="input_audio_buffer.clear"):
    pass


class OutputClear(ClientEvent, tag="output_audio_buffer.clear"):
    pass


class SessionUpdateEvent(ClientEvent, tag="session.update"):
    session: dict[str, Any]


class ItemCreate(ClientEvent, tag="conversation.item.create"):
    item: dict[str, Any]
    previous_item_id: str | None = None


class ItemDelete(ClientEvent, tag="conversation.item.delete"):
    item_id: str


class ItemRetrieve(ClientEvent, tag="conversation.item.retrieve"):
    item_id: str


class ItemTruncate(ClientEvent, tag="conversation.item.truncate"):
    item_id: str
    content_index: int
    audio_end_ms: Annotated[int, Meta(ge=0)]


class ResponseCreate(ClientEvent, tag="response.create"):
    response: ResponseRequest = msgspec.field(default_factory=ResponseRequest)


class ResponseCancel(ClientEvent, tag="response.cancel"):
    response_id: str | None = None


Event = (
    Append
    | Commit
    | Clear
    | OutputClear
    | SessionUpdateEvent
    | ItemCreate
    | ItemDelete
    | ItemRetrieve
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
)
_DECODER: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)
_SUPPORTED: Final = ", ".join(f"'{event.__struct_config__.tag}'" for event in Event.__args__)

# What a client may put into a message, by its role (guide "Realtime conversations": no audio for the assistant).
_CONTENT: Final = {
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text",),
    "system": ("input_text",),
}


def decode(text: str | bytes) -> Event:
    """One client event. Raises RefusedError with the server's complaint."""
    try:
        return _DECODER.decode(text)
    except msgspec.ValidationError as exc:
        raise _refused(exc, text) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RefusedError("invalid_event", "The event is not valid JSON.") from None


def _refused(exc: msgspec.ValidationError, text: str | bytes) -> RefusedError:
    if str(exc).endswith("`$.type`"):
        name = msgspec.json.decode(text).get("type")
        return RefusedError("invalid_value", f"Invalid value: '{name}'. Supported values are: {_SUPPORTED}.", "type")
    if str(exc).startswith("Expected `object`") and "`$" not in str(exc):
        return RefusedError("invalid_event", "An event is a JSON object.")
    return refusal(exc, "")


def type_of(event: Event) -> str:
    return str(event.__struct_config__.tag)


def event_id_of(text: str | bytes) -> str | None:
    """The `event_id` of a refused event, which the error repeats."""
    try:
        event_id = msgspec.json.decode(text).get("event_id")
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError):
        return None
    return event_id if isinstance(event_id, str) else None


def item_of(fields: dict[str, Any], new_id: Callable[[str], str]) -> Item:
    """The item that a conversation.item.create describes. Raises RefusedError."""
    item_id = fields.get("id") or new_id("item")
    if not isinstance(item_id, str):
        raise RefusedError("invalid_value", "Invalid value for 'item.id': it is not a string.", "item.id")
    match fields.get("type"):
        case "message":
            role, content = fields.get("role"), fields.get("content")
            if role not in _CONTENT:
                raise RefusedError("invalid_value", f"Invalid value: '{role}'.", "item.role")
            if not isinstance(content, list) or not content:
                raise RefusedError("missing_required_parameter", "Missing required parameter: 'item.content'.", "item")
            for number, part in enumerate(content):
                kind = part.get("type") if isinstance(part, dict) else part
                if kind not in _CONTENT[role]:
                    supported = ", ".join(f"'{name}'" for name in _CONTENT[role])
                    message = f"Invalid value: '{kind}'. Supported values are: {supported}."
                    raise RefusedError("invalid_value", message, f"item.content[{number}].type")
            transcript = " ".join(str(part.get("text", "")) for part in content)
            return Item(item_id, "message", role, content=content, transcript=transcript)
        case "function_call_output":
            return Item(item_id, "function_call_output", function=_strings(fields, "call_id", "output"))
        case "function_call":
            return Item(item_id, "function_call", function=_strings(fields, "call_id", "name", "arguments"))
        case other:
            raise RefusedError("invalid_value", f"Invalid value: '{other}'.", "item.type")


def _strings(fields: dict[str, Any], *names: str) -> dict[str, str]:
    for name in names:
        if not isinstance(fields.get(name), str):
            raise RefusedError(
                "missing_required_parameter", f"Missing required parameter: 'item.{name}'.", f"item.{name}"
            )
    return {name: fields[name] for name in names}
