"""The client's events, and that the server's are all as the openai SDK types them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from simulator.model import session as model
from simulator.model.behaviour import Behaviour

from .session_client import TOOL, TYPES, Client, truncate


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"response.sing","event_id":"e1"}', "invalid_value"),
        ('{"type":"response.create"', "invalid_event"),
        ("[]", "invalid_event"),
        (b"\xff\xfe", "invalid_event"),
        ('{"event_id":"e1"}', "missing_required_parameter"),
        ('{"type":"input_audio_buffer.append","audio":"?"}', "invalid_value"),
        ('{"type":"conversation.item.truncate","item_id":"x","content_index":0,"audio_end_ms":-1}', "invalid_value"),
        ('{"type":"output_audio_buffer.clear"}', "invalid_value"),
    ],
)
def test_a_malformed_event_is_answered_with_one_error(text: str | bytes, code: str) -> None:
    client = Client()
    client._take(client.session.receive(text, client.now_ns))
    error = client.only_error()
    assert error["code"] == code
    assert error["event_id"] == ("e1" if "e1" in str(text) else None)
    client.send("response.create")
    client.run(30_000)
    assert client.last("response.done")["response"]["status"] == "completed"


def test_every_event_has_an_id_of_its_own() -> None:
    client = Client()
    client.send("response.create")
    client.run(10_000)
    assert len({event["event_id"] for event in client.events}) == len(client.events)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": "AAAA"}]},
        {"type": "message", "role": "user", "content": []},
        {"type": "message", "role": "nobody", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "function_call_output", "output": "7"},
        {"type": "song"},
        {"type": "function_call_output", "id": 7, "call_id": "c", "output": "7"},
    ],
)
def test_an_invalid_item_is_refused(item: dict[str, Any]) -> None:
    client = Client()
    client.send("conversation.item.create", item=item)
    assert client.only_error()["type"] == "invalid_request_error"


def test_every_event_of_the_server_was_checked_against_the_sdk() -> None:
    """One session with every event that the core can emit; Client validates each on arrival."""
    tool = Behaviour(tool_call="look_up notes.find", preamble=True)
    script = (tool, Behaviour(no_audio="text"), Behaviour(answer_ms=500))
    client = Client(
        Behaviour(responses=script, expire_after_ms=120_000),
        transcription={"model": "gpt-transcribe"},
        turn_detection={"idle_timeout_ms": 5_000},
    )
    server = {"type": "mcp", "server_label": "notes", "server_url": "https://h/", "allowed_tools": ["find"]}
    client.update(tools=[TOOL, server])
    for _ in range(3):
        client.send("response.create")
        client.run(5_000)
    item_id = client.last("response.output_item.done")["item"]["id"]
    truncate(client, item_id, 100)
    client.send("conversation.item.retrieve", item_id=item_id)
    client.send("conversation.item.delete", item_id=item_id)
    client.say_and_pause("hello")
    client.send("input_audio_buffer.clear")
    client.run(120_000)
    failing = Client(Behaviour(transcription="fail"), transcription={"model": "whisper-1"})
    failing.say_and_pause("hello")
    failing.run(1_000)
    seen = {event["type"] for event in client.events + failing.events}
    assert seen == emitted_by_the_source()


def emitted_by_the_source() -> set[str]:
    """Every event type in the source of the simulator's core, without the client's."""
    names = set()
    for path in Path(model.__file__).parent.glob("*.py"):
        if path.name != "server.py":
            names |= {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    kind = "conversation.item.input_audio_transcription"
    return (names | {f"{kind}.{end}" for end in ("delta", "completed", "failed")} | {"response.output_audio.delta"}) & {
        *TYPES
    }
