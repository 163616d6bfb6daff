"""What a client may set in a session, and what the server refuses."""

from __future__ import annotations

from typing import Any

import pytest

from .session_client import PCMU, Client


def test_a_session_begins_with_pcm_and_voice_activity_detection() -> None:
    session = Client(configured=False).events[0]["session"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    assert session["audio"]["input"]["turn_detection"]["create_response"] is True
    assert session["audio"]["input"]["turn_detection"]["interrupt_response"] is True


def test_an_update_is_answered_with_the_whole_session_and_changes_nothing_else() -> None:
    client = Client(configured=False)
    before = client.events[0]["session"]
    (updated,) = client.update(instructions="Be brief.", audio={"output": {"format": PCMU}})
    after = updated["session"]
    assert after["instructions"] == "Be brief."
    assert after["audio"]["output"] == before["audio"]["output"] | {"format": PCMU}
    assert after["audio"]["input"] == before["audio"]["input"]
    (updated,) = client.update(audio={"input": {"turn_detection": None}})
    assert updated["session"]["audio"]["input"]["turn_detection"] is None
    assert updated["session"]["instructions"] == "Be brief."


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        (
            {"audio": {"input": {"format": PCMU | {"rate": 8_000}}}},
            "unknown_parameter",
            "session.audio.input.format.rate",
        ),
        ({"audio": {"input": {"format": {"type": "audio/opus"}}}}, "invalid_value", "session.audio.input.format.type"),
        ({"audio": {"output": {"speed": 9}}}, "invalid_value", "session.audio.output.speed"),
        ({"output_modalities": ["audio", "text"]}, "invalid_value", "session.output_modalities"),
        ({"temperature": 0.8}, "unknown_parameter", "session.temperature"),
        ({"type": "transcription"}, "invalid_value", "session.type"),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}},
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
        ),
    ],
)
def test_a_bad_setting_is_refused_and_changes_nothing(session: dict[str, Any], code: str, param: str) -> None:
    client = Client(configured=False)
    client.send("session.update", event_id="mine", session={"type": "realtime"} | session)
    error = client.only_error()
    assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")
    assert client.update()[0]["session"] == client.events[0]["session"]


def test_an_update_without_its_type_is_refused() -> None:
    client = Client(configured=False)
    client.send("session.update", session={"instructions": "Be brief."})
    assert client.only_error()["param"] == "session.type"


def test_the_voice_is_fixed_once_the_model_has_spoken() -> None:
    client = Client()
    assert client.update(audio={"output": {"voice": "cedar"}})[0]["type"] == "session.updated"
    client.send("response.create")
    client.run(500)
    client.update(audio={"output": {"voice": "marin"}})
    assert client.only_error()["code"] == "cannot_update_voice"
