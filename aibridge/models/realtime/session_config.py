"""An agent as a Realtime session: the fields of session.update, and the instructions of single responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from shared.agents.agent_file import TurnDetection

from ...core import built_in
from ...core.agent import Agent
from ..port import Purpose
from .client_events import CONTINUE, FAREWELL, FILLER, NUDGE, REPEAT, say_exactly
from .event_types import RealtimeSessionCreateRequestParam

# The fields that the schema of each type of turn detection has; it refuses all others.
_DETECTION_FIELDS: Final = {
    "server_vad": frozenset(("threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms")),
    "semantic_vad": frozenset(("eagerness",)),
}


def function(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """A tool as the session has it. `parameters` is a JSON schema."""
    schema = parameters or {"type": "object", "properties": {}}
    return {"type": "function", "name": name, "description": description, "parameters": schema}


def model_servers(agent: Agent, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """The MCP servers whose tools run at the model's server. `keys`: the values of the variables that agents name."""
    servers = []
    for each in agent.mcp:
        server: dict[str, Any] = {
            "type": "mcp",
            "server_label": each.name,
            "server_url": each.url,
            "allowed_tools": list(each.only),
            # The agent's file lists what may be called, and nobody could be asked during a call.
            "require_approval": "never",
        }
        if each.description:
            server["server_description"] = each.description
        if each.token_env:
            server["authorization"] = keys.get(each.token_env, "")
        servers.append(server)
    return servers


def session_config(
    agent: Agent, model: str, functions: Sequence[dict[str, Any]] = ()
) -> RealtimeSessionCreateRequestParam:
    """The session of an agent: mu-law both ways; the server does not interrupt responses."""
    session: dict[str, Any] = {
        "type": "realtime",
        "instructions": agent.instructions.strip(),
        "output_modalities": ["audio"],
        "audio": {
            # pcmu takes no rate: the API refuses one.
            "input": {"format": {"type": "audio/pcmu"}, "turn_detection": _detection(agent.turn_detection)},
            "output": {"format": {"type": "audio/pcmu"}, "voice": agent.voice},
        },
    }
    if agent.transcription_model:
        session["audio"]["input"]["transcription"] = {"model": agent.transcription_model, "language": agent.language}
    # Only reasoning models take it.
    if agent.reasoning_effort and model.startswith("gpt-realtime-2"):
        session["reasoning"] = {"effort": agent.reasoning_effort}
    tools = [*functions, *(function(*each) for each in built_in.functions(agent))]
    if tools:
        session["tools"] = tools
        session["tool_choice"] = "auto"
    typed: RealtimeSessionCreateRequestParam = session  # type: ignore[assignment]  # built field by field above
    return typed


def _detection(detection: TurnDetection) -> dict[str, Any]:
    """The server answers a turn by itself, and never stops a response, because aibridge protects the greeting."""
    fields = {"type", *_DETECTION_FIELDS[detection.type]}
    chosen = {k: v for k, v in msgspec.to_builtins(detection).items() if k in fields and v is not None}
    return chosen | {"create_response": True, "interrupt_response": False}


def phrases(agent: Agent) -> dict[Purpose, str]:
    """The instructions of a requested response, by its purpose."""
    return {
        "notice": say_exactly(agent.recording_notice, agent.language, is_greeting=False),
        "greeting": say_exactly(agent.greeting, agent.language, is_greeting=True),
        "continue": CONTINUE,
        "repeat": REPEAT,
        "filler": FILLER,
        "nudge": NUDGE,
        "farewell": FAREWELL,
    }
