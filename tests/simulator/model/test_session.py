"""What a session does over its life: several responses, and its ends."""

from __future__ import annotations

import pytest

from simulator.model import session as model
from simulator.model.behaviour import Behaviour
from simulator.voice import clips

from .session_client import Client


def test_a_response_outside_the_conversation_leaves_no_item_and_may_run_beside_another() -> None:
    client = Client()
    client.send("response.create")
    client.send("response.create", response={"conversation": "none", "input": [], "metadata": {"topic": "mood"}})
    client.run(10_000)
    first, second = (event["response"] for event in client.of("response.done"))
    assert {first["conversation_id"] is None, second["conversation_id"] is None} == {True, False}
    assert len(client.of("conversation.item.added")) == 1
    assert not client.of("error")


def test_a_second_response_is_refused_while_one_is_active() -> None:
    client = Client()
    client.send("response.create")
    client.send("response.create", event_id="again")
    error = client.only_error()
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "again")
    client.run(10_000)
    assert len(client.of("response.done")) == 1


def test_answers_can_be_scripted_response_by_response() -> None:
    client = Client(
        Behaviour(
            answer_ms=1_000,
            responses=(Behaviour(answer_ms=200), Behaviour(no_audio="empty"), Behaviour(failure="rate_limit_exceeded")),
        )
    )
    for _ in range(4):
        client.send("response.create")
        client.run(5_000)
    done = [event["response"] for event in client.of("response.done")]
    assert [len(response["output"]) for response in done] == [1, 0, 0, 1]
    assert done[2]["status_details"]["error"]["code"] == "rate_limit_exceeded"
    assert [item["sent_bytes"] for item in client.session.record()["items"]] == [1_600, 8_000]


def test_a_replayed_conversation_is_not_greeted_again() -> None:
    client = Client(Behaviour(first_delta_ms=0))
    for role, kind in (("assistant", "output_text"), ("user", "input_text")):
        client.send("conversation.item.create", item={"type": "message", "role": role, "content": [{"type": kind}]})
    client.send("response.create")
    client.run(20_000)
    assert client.session.record()["items"][0]["transcript"] == clips("ai", "answer")[0].text


def test_a_session_expires_with_an_error_and_code_1001() -> None:
    client = Client(Behaviour(expire_after_ms=60_000))
    client.send("response.create")
    client.run(59_999)
    assert client.session.close_code is None
    client.run(1)
    assert client.only_error()["code"] == "session_expired"
    assert client.session.close_code == (1_001, "Your session hit the maximum duration of 1 minutes.")
    assert client.session.next_due_ns() is None
    assert not client.send("response.create")
    record = client.session.record()
    assert (record["close_code"], record["closed_ns"]) == (1_001, client.now_ns)


def test_a_fatal_error_closes_the_session() -> None:
    client = Client(Behaviour(fatal_error="insufficient_quota", fatal_error_at_ms=100))
    client.run(100)
    assert client.only_error()["code"] == "insufficient_quota"
    assert client.session.close_code is not None


def test_recoverable_errors_leave_the_response_alone() -> None:
    client = Client(Behaviour(recoverable_error_every_ms=200, answer_ms=2_000))
    client.send("response.create")
    client.run(1_000)
    assert len(client.of("error")) == 5
    assert client.last("response.done")["response"]["status"] == "completed"


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour(drop_utterance_at_ms=1_000), Behaviour(drop_session_at_ms=500)],
    ids=["utterance", "session"],
)
def test_the_socket_may_die_without_a_close_frame(behaviour: Behaviour) -> None:
    client = Client(behaviour)
    client.send("response.create")
    client.run(5_000)
    assert client.session.close_code == model.ABNORMAL
    assert client.session.record()["items"][0]["sent_bytes"] == 8_000
    assert not client.of("response.done")


def test_a_tool_of_an_mcp_server_is_carried_out_by_the_session_itself() -> None:
    client = Client(Behaviour(tool_call="notes.find"))
    server = {"type": "mcp", "server_label": "notes", "server_url": "https://h/", "allowed_tools": ["find"]}
    client.update(tools=[server])
    client.send("response.create")
    client.run(2_000)
    item = client.last("response.output_item.done")["item"]
    assert (item["type"], item["name"], item["output"]) == ("mcp_call", "find", "find has answered")
    client.send("response.create")
    client.run(2_000)
    assert client.of("response.output_audio.delta")
