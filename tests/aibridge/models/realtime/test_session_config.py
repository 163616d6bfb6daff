"""An agent as a Realtime session."""

from __future__ import annotations

from typing import Any

import pytest

from aibridge import agents
from aibridge.core.agent import Agent
from aibridge.models.realtime.session_config import model_servers, phrases, session_config
from shared.agents.agent_file import ModelServer, TurnDetection
from shared.settings import Settings


def config(chosen: Agent) -> Any:
    return session_config(chosen, "gpt-realtime-2.1")


def test_the_shipped_agent_uses_mulaw_and_lets_the_server_interrupt_nothing() -> None:
    shipped = agents.load(Settings(_env_file=None)).default  # type: ignore[call-arg]
    audio = config(shipped)["audio"]
    assert audio["input"]["format"] == audio["output"]["format"] == {"type": "audio/pcmu"}
    assert audio["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "create_response": True,
        "interrupt_response": False,
    }


def test_semantic_vad_with_the_fields_of_server_vad_sends_only_fields_of_its_schema() -> None:
    detection = TurnDetection("semantic_vad", 0.5, 300, 500, eagerness="low")
    sent = config(Agent(instructions="x", turn_detection=detection))["audio"]["input"]["turn_detection"]
    expected = {"type": "semantic_vad", "eagerness": "low", "create_response": True, "interrupt_response": False}
    assert sent == expected


def test_server_vad_is_sent_no_eagerness() -> None:
    detection = TurnDetection(eagerness="low")
    sent = config(Agent(instructions="x", turn_detection=detection))["audio"]["input"]["turn_detection"]
    assert "eagerness" not in sent


@pytest.mark.parametrize(("model", "has_effort"), [("gpt-realtime-2.1", True), ("gpt-realtime-mini", False)])
def test_only_a_reasoning_model_is_sent_the_reasoning_effort(model: str, has_effort: bool) -> None:
    assert ("reasoning" in session_config(Agent(instructions="x"), model)) is has_effort


def test_an_mcp_server_is_passed_on_with_its_token_and_the_tools_that_the_file_names() -> None:
    servers = (
        ModelServer("notes", "https://notes.example.com/mcp", ("find",), "The caller's notes.", "NOTES_TOKEN"),
        ModelServer("open", "https://open.example.com/mcp", ("look",)),
    )
    sent = model_servers(Agent(instructions="x", mcp=servers), {"NOTES_TOKEN": "secret"})
    assert sent == [
        {
            "type": "mcp",
            "server_label": "notes",
            "server_url": "https://notes.example.com/mcp",
            "allowed_tools": ["find"],
            "require_approval": "never",
            "server_description": "The caller's notes.",
            "authorization": "secret",
        },
        {
            "type": "mcp",
            "server_label": "open",
            "server_url": "https://open.example.com/mcp",
            "allowed_tools": ["look"],
            "require_approval": "never",
        },
    ]


def test_the_model_is_asked_for_the_exact_words_of_a_greeting() -> None:
    chosen = phrases(Agent(instructions="x", greeting="Hello.", recording_notice="This call is recorded."))
    assert chosen["greeting"].endswith("in en: Hello.")
    assert chosen["notice"].endswith("in en: This call is recorded.")
    assert "answer" not in chosen
