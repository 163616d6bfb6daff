"""The agent: what AGENT_FILE says, and the Realtime session that it makes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from openai.types.realtime import RealtimeSessionCreateRequestParam

from shared.process import ConfigError

from .core.rules import Script
from .recording import read_recording

_AUDIO: Final = frozenset(("greeting_audio", "fallback_audio"))
DEFAULT_FILE: Final = Path(__file__).with_name("agent.toml")


class TurnDetection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Of the Realtime API's turn_detection, what is the agent's choice."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float | None = None
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None
    idle_timeout_ms: int | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class Agent(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An agent; agent.toml explains each field."""

    instructions: str
    voice: str = "marin"
    greeting: str = ""
    greeting_file: str = ""
    fallback: str = ""
    fallback_file: str = ""
    language: str = "en"
    transcription_model: str = ""
    reasoning_effort: Literal["", "minimal", "low", "medium", "high", "xhigh"] = ""
    hang_up: bool = True
    recording: Literal["default", "on", "off"] = "default"
    recording_notice: str = ""
    turn_detection: TurnDetection = TurnDetection()
    # What the two files hold, mu-law; set by `load`.
    greeting_audio: bytes = b""
    fallback_audio: bytes = b""

    def session(self, model: str) -> RealtimeSessionCreateRequestParam:
        """The session that session.update asks for: mu-law both ways, and interruptions left to us."""
        detection = {k: v for k, v in msgspec.to_builtins(self.turn_detection).items() if v is not None}
        # The server answers a turn by itself, but never stops a response: rule 5 (greeting protection) is ours to keep.
        detection |= {"create_response": True, "interrupt_response": False}
        session: dict[str, Any] = {
            "type": "realtime",
            "instructions": self.instructions.strip(),
            "output_modalities": ["audio"],
            "audio": {
                # pcmu takes no rate: the API refuses one.
                "input": {"format": {"type": "audio/pcmu"}, "turn_detection": detection},
                "output": {"format": {"type": "audio/pcmu"}, "voice": self.voice},
            },
        }
        if self.transcription_model:
            session["audio"]["input"]["transcription"] = {"model": self.transcription_model, "language": self.language}
        # Only reasoning models take it.
        if self.reasoning_effort and model.startswith("gpt-realtime-2"):
            session["reasoning"] = {"effort": self.reasoning_effort}
        if self.hang_up:
            session["tools"] = [_HANG_UP]
            session["tool_choice"] = "auto"
        typed: RealtimeSessionCreateRequestParam = session  # type: ignore[assignment]  # built field by field above
        return typed

    def is_recorded(self, recording: Literal["off", "on"]) -> bool:
        """Its own word, or that of the setting RECORDING."""
        return (recording if self.recording == "default" else self.recording) == "on"

    def first_words(self, *, recorded: bool) -> str:
        """The greeting; behind the notice, where the call is recorded and the law asks for one."""
        return " ".join(filter(None, (self.recording_notice if recorded else "", self.greeting)))

    def script(self, *, recorded: bool = False, fallback_ends_call: bool = False) -> Script:
        """What it says without the model. `fallback_ends_call`: no other number is dialled behind the fallback."""
        words = self.first_words(recorded=recorded)
        return Script(
            greets=bool(words),
            greeting_text=words,
            greeting_audio=self.greeting_audio,
            fallback_text=self.fallback,
            fallback_audio=self.fallback_audio,
            fallback_ends_call=fallback_ends_call,
        )

    def greeting_instructions(self, *, recorded: bool = False) -> str:
        words = self.first_words(recorded=recorded)
        return f"Greet the caller now. Say exactly these words and nothing else, in {self.language}: {words}"


_HANG_UP: Final[dict[str, Any]] = {
    "type": "function",
    "name": "hang_up",
    "description": "End the phone call. Call it after the goodbye was said; the caller hears all of that first.",
    "parameters": {"type": "object", "properties": {}},
}


def load(path: Path | None) -> Agent:
    """Read an agent file. Raises ConfigError, one line, for one that cannot be used."""
    path = path or DEFAULT_FILE
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        if not _AUDIO.isdisjoint(fields):
            raise msgspec.ValidationError("recordings are named as files: greeting_file, fallback_file")
        agent = msgspec.convert(fields, Agent)
    except OSError as exc:
        raise ConfigError(
            f"AGENT_FILE {path} cannot be read ({exc.strerror}); set AGENT_FILE to an agent's file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as exc:
        raise ConfigError(f"AGENT_FILE {path} is not an agent: {exc}; compare it with {DEFAULT_FILE.name}") from None
    if agent.greeting_file and not agent.greeting:
        raise ConfigError(
            f"AGENT_FILE {path} has a greeting_file; write its words into greeting, for the model to know"
        )
    if agent.greeting_file and agent.recording_notice:
        raise ConfigError(
            f"AGENT_FILE {path} has a greeting_file and a recording_notice; record the notice with the greeting"
        )
    return msgspec.structs.replace(
        agent,
        greeting_audio=_recording(path, agent.greeting_file),
        fallback_audio=_recording(path, agent.fallback_file),
    )


def _recording(agent_file: Path, name: str) -> bytes:
    """The mu-law audio of a file beside the agent's. Raises ConfigError."""
    if not name:
        return b""
    path = agent_file.parent / name
    try:
        return read_recording(path)
    except OSError as exc:
        raise ConfigError(f"{path}, which AGENT_FILE names, cannot be read ({exc.strerror})") from None
    except ValueError as exc:
        raise ConfigError(f"{path}, which AGENT_FILE names, cannot be played: {exc}") from None
