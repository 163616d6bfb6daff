"""The agent: what AGENT_FILE says, whichever model speaks it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final, Literal

import msgspec

from shared.plan import Fallback, HangUp
from shared.process import ConfigError

from .core.rules import Line, Script
from .recording import read_recording

_AUDIO: Final = frozenset(("greeting_audio", "notice_audio", "fallback_audio"))
DEFAULT_FILE: Final = Path(__file__).with_name("agent.toml")


class TurnDetection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """When a caller's turn begins and ends. Fields of the other type are allowed and have no effect."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float | None = 0.5
    prefix_padding_ms: int | None = 300
    silence_duration_ms: int | None = 500
    idle_timeout_ms: int | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class Agent(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An agent; agent.toml explains each field. The defaults are those of agent.toml, its words apart."""

    instructions: str
    voice: str = "marin"
    greeting: str = ""
    greeting_file: str = ""
    fallback: str = ""
    fallback_file: str = ""
    language: str = "en"
    transcription_model: str = "gpt-transcribe"
    reasoning_effort: Literal["", "minimal", "low", "medium", "high", "xhigh"] = "low"
    hang_up: bool = True
    recording: Literal["default", "on", "off"] = "default"
    recording_notice: str = ""
    recording_notice_file: str = ""
    turn_detection: TurnDetection = TurnDetection()
    # What the files hold, mu-law; set by `load`.
    greeting_audio: bytes = b""
    notice_audio: bytes = b""
    fallback_audio: bytes = b""

    def is_recorded(self, recording: Literal["off", "on"]) -> bool:
        """As the agent says, or as the setting RECORDING does."""
        return (recording if self.recording == "default" else self.recording) == "on"

    def script(self, *, recorded: bool = False, fallback_ends_call: bool = False) -> Script:
        """The agent's fixed sentences. `fallback_ends_call`: no other number is dialled after the fallback."""
        ends_call = fallback_ends_call and bool(self.fallback_audio)
        return Script(
            notice=Line(self.recording_notice, self.notice_audio) if recorded else Line(),
            greeting=Line(self.greeting, self.greeting_audio),
            fallback=Line(self.fallback, self.fallback_audio),
            fallback_order=HangUp() if ends_call else Fallback(),
        )


def load(path: Path | None) -> Agent:
    """Read an agent file. Raises ConfigError, one line, for a file that cannot be used."""
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
    for words, file in (("greeting", agent.greeting_file), ("recording_notice", agent.recording_notice_file)):
        if file and not getattr(agent, words):
            raise ConfigError(
                f"AGENT_FILE {path} has a {words}_file; write its words into {words}, for the model to know"
            )
    return msgspec.structs.replace(
        agent,
        greeting_audio=_recording(path, agent.greeting_file),
        notice_audio=_recording(path, agent.recording_notice_file),
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
