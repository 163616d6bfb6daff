"""The configuration of a Realtime session: what a client may write in `session.update`, and its effect.

Field by field after the openai SDK's `types/realtime/realtime_session_create_request.py` and its neighbours.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType


class RefusedError(Exception):
    """The server refuses a client's request: one `error` event, and the session goes on."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class Pcm(Struct, tag_field="type", tag="audio/pcm", forbid_unknown_fields=True):
    rate: Literal[24000] = 24000


class Pcmu(Struct, tag_field="type", tag="audio/pcmu", forbid_unknown_fields=True):
    """G.711 mu-law, without a rate, which the real server refuses."""


Format = Pcm | Pcmu


class ServerVad(Struct, tag_field="type", tag="server_vad", forbid_unknown_fields=True):
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=10_000)] = 300
    silence_duration_ms: Annotated[int, Meta(ge=0, le=10_000)] = 500
    idle_timeout_ms: Annotated[int, Meta(ge=5_000, le=30_000)] | None = None
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(Struct, tag_field="type", tag="semantic_vad", forbid_unknown_fields=True):
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = ServerVad | SemanticVad


class Transcription(Struct, forbid_unknown_fields=True, omit_defaults=True):
    model: str | None = None
    language: str | None = None
    languages: list[str] | None = None
    keywords: list[str] | None = None
    prompt: str | None = None
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


class NoiseReduction(Struct, forbid_unknown_fields=True, omit_defaults=True):
    type: Literal["near_field", "far_field"] | None = None
    strength: float | None = None


class AudioInput(Struct, forbid_unknown_fields=True):
    format: Format | UnsetType = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class AudioOutput(Struct, forbid_unknown_fields=True):
    format: Format | UnsetType = UNSET
    voice: str | dict[str, str] | UnsetType = UNSET
    speed: Annotated[float, Meta(ge=0.25, le=1.5)] | UnsetType = UNSET


class Audio(Struct, forbid_unknown_fields=True):
    input: AudioInput | UnsetType = UNSET
    output: AudioOutput | UnsetType = UNSET


class Reasoning(Struct, forbid_unknown_fields=True):
    effort: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


# Either audio, which includes a transcript, or text; never both.
Modalities = Annotated[list[Literal["audio", "text"]], Meta(min_length=1, max_length=1)]
MaxTokens = Annotated[int, Meta(ge=1, le=4_096)] | Literal["inf"]


class SessionUpdate(Struct, forbid_unknown_fields=True):
    """`session` of a session.update. Absent fields keep their values."""

    type: Literal["realtime"]
    model: str | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    output_modalities: Modalities | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    tools: list[dict[str, Any]] | UnsetType = UNSET
    tool_choice: str | dict[str, Any] | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    reasoning: Reasoning | UnsetType = UNSET
    max_output_tokens: MaxTokens | UnsetType = UNSET
    truncation: str | dict[str, Any] | UnsetType = UNSET
    include: list[str] | UnsetType | None = UNSET
    prompt: dict[str, Any] | UnsetType | None = UNSET
    tracing: str | dict[str, Any] | UnsetType | None = UNSET


class ResponseRequest(Struct, forbid_unknown_fields=True):
    """`response` of a response.create: the fields that differ from the session, for this response only."""

    instructions: str | None = None
    conversation: Literal["auto", "none"] = "auto"
    input: list[dict[str, Any]] | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    output_modalities: Modalities | None = None
    audio: Audio | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: MaxTokens | None = None
    reasoning: Reasoning | None = None
    prompt: dict[str, Any] | None = None


def initial_session(session_id: str, model: str, expires_at: int) -> dict[str, Any]:
    """The session before any session.update: PCM at 24 kHz both ways, voice activity detection on."""
    pcm = {"type": "audio/pcm", "rate": 24_000}
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": "You are a helpful, witty, and friendly AI.",
        "audio": {
            "input": {
                "format": pcm,
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": msgspec.to_builtins(ServerVad()),
            },
            "output": {"format": pcm, "voice": "marin", "speed": 1.0},
        },
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "include": None,
        "prompt": None,
        "tracing": None,
        "expires_at": expires_at,
    }


def updated_session(session: dict[str, Any], update: Any, *, has_spoken: bool) -> dict[str, Any]:
    """`session` with `update` applied. Raises RefusedError for a value that the server does not accept.

    `has_spoken`: the conversation holds the model's audio, so its voice and model are fixed.
    """
    try:
        change = msgspec.to_builtins(msgspec.convert(update, SessionUpdate))
    except msgspec.ValidationError as exc:
        raise refusal(exc, "session") from None
    new: dict[str, Any] = session | change
    new["audio"] = {
        side: session["audio"][side] | change.get("audio", {}).get(side, {}) for side in ("input", "output")
    }
    if has_spoken and new["audio"]["output"]["voice"] != session["audio"]["output"]["voice"]:
        raise RefusedError(
            "cannot_update_voice",
            "Cannot update a conversation's voice if assistant audio is present.",
            "session.voice",
        )
    if has_spoken and new["model"] != session["model"]:
        raise RefusedError("invalid_value", "The model of a session cannot change any more.", "session.model")
    return new


def refusal(exc: msgspec.ValidationError, root: str) -> RefusedError:
    """The server's complaint about a value that does not fit the schema; `root` is the field that was read."""
    what, _, path = str(exc).partition(" - at `$")
    param = (root + path.rstrip("`")).strip(".") or None
    if what.startswith("Object contains unknown field"):
        name = what.rpartition("field ")[2].strip("`")
        full = f"{param}.{name}" if param else name
        return RefusedError("unknown_parameter", f"Unknown parameter: '{full}'.", full)
    if what.startswith("Object missing required field"):
        name = what.rpartition("field ")[2].strip("`")
        full = f"{param}.{name}" if param else name
        return RefusedError("missing_required_parameter", f"Missing required parameter: '{full}'.", full)
    return RefusedError("invalid_value", f"Invalid value for '{param}': {what}.", param)
