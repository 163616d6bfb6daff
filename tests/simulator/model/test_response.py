"""One response, event by event, in virtual time."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import pytest

from simulator.model.behaviour import Behaviour
from simulator.voice import clips

from .session_client import GREETING_MS, TOOL, Client, kinds


def test_the_events_of_a_response_come_in_the_order_of_the_real_server() -> None:
    client = Client()
    events = client.send("response.create") + client.run(10_000)
    assert kinds(events) == [
        "response.created",
        "rate_limits.updated",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    response = events[-1]["response"]
    assert response["status"] == "completed"
    assert response["usage"]["output_token_details"]["audio_tokens"] == GREETING_MS // 50
    assert response["conversation_id"].startswith("conv_")


def test_audio_comes_faster_than_real_time_after_the_models_latency() -> None:
    client = Client(Behaviour(speed=4, first_delta_ms=250, delta_ms=100))
    asked_ms = client.now_ms
    client.send("response.create")
    client.run(10_000)
    deltas = client.of("response.output_audio.delta")
    assert deltas[0]["at_ms"] - asked_ms == 250
    assert {len(base64.b64decode(event["delta"])) for event in deltas[:-1]} == {800}
    assert deltas[-1]["at_ms"] - deltas[0]["at_ms"] == pytest.approx(GREETING_MS / 4, abs=50)


def test_with_no_latency_the_first_delta_leaves_at_once() -> None:
    client = Client(Behaviour(first_delta_ms=0))
    assert "response.output_audio.delta" in kinds(client.send("response.create"))


def test_ragged_deltas_carry_the_same_audio() -> None:
    sent = []
    for ragged in (False, True):
        client = Client(Behaviour(ragged=ragged))
        client.send("response.create")
        client.run(10_000)
        sent.append(client.audio(client.last("response.output_item.done")["item"]["id"]))
        sizes = {len(base64.b64decode(event["delta"])) for event in client.of("response.output_audio.delta")}
        assert (1 in sizes) == ragged
    assert sent[0] == sent[1]


def test_a_client_that_speaks_pcm_gets_pcm() -> None:
    client = Client(configured=False)
    client.send("response.create")
    client.run(10_000)
    item_id = client.last("response.output_item.done")["item"]["id"]
    assert len(client.audio(item_id)) == 48 * GREETING_MS
    assert client.session.record()["items"][0]["sent_bytes"] == 8 * GREETING_MS


@pytest.mark.parametrize("transcript", ["early", "along", "late", "never"])
def test_the_transcript_comes_before_along_or_after_the_audio(transcript: Any) -> None:
    client = Client(Behaviour(transcript=transcript))
    client.send("response.create")
    client.run(10_000)
    names = [event["type"] for event in client.events if event["type"].endswith("delta")]
    words = [number for number, name in enumerate(names) if "transcript" in name]
    text = "".join(event["delta"] for event in client.of("response.output_audio_transcript.delta"))
    assert text == ("" if transcript == "never" else clips("ai", "greeting")[0].text)
    if transcript == "early":
        assert words == [0]
    elif transcript == "late":
        assert words == [len(names) - 1]
    elif transcript == "along":
        assert len(words) > 5


def test_a_preamble_is_an_item_of_its_own_and_both_end_together() -> None:
    client = Client(Behaviour(preamble=True))
    events = client.send("response.create") + client.run(10_000)
    added = client.of("response.output_item.added")
    assert [event["item"]["phase"] for event in added] == ["commentary", "final_answer"]
    assert [event["output_index"] for event in added] == [0, 1]
    dones = [number for number, event in enumerate(events) if event["type"] == "response.output_audio.done"]
    assert dones[0] > max(n for n, event in enumerate(events) if event["type"] == "response.output_audio.delta")
    assert len(dones) == 2
    assert len(events[-1]["response"]["output"]) == 2


def test_a_text_response_has_no_audio() -> None:
    client = Client()
    client.send("response.create", response={"output_modalities": ["text"]})
    events = client.run(10_000)
    assert not client.of("response.output_audio.delta")
    assert "response.output_text.done" in kinds(events)
    assert client.last("response.done")["response"]["output"][0]["content"][0]["type"] == "output_text"


def test_a_flood_repeats_the_utterance() -> None:
    client = Client(Behaviour(flood_times=10))
    client.send("response.create")
    client.run(60_000)
    assert client.session.record()["items"][0]["sent_bytes"] == 80 * GREETING_MS


def test_a_stall_pauses_an_utterance() -> None:
    client = Client(Behaviour(stall_at_ms=1_000, stall_ms=2_500))
    client.send("response.create")
    client.run(20_000)
    times = [event["at_ms"] for event in client.of("response.output_audio.delta")]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) == 2_520
    assert gaps.index(2_520) == 9
    assert sum(gap > 21 for gap in gaps) == 1


@pytest.mark.parametrize("named", [True, False])
def test_a_cancelled_response_ends_at_once_and_keeps_the_audio_that_was_sent(named: bool) -> None:
    client = Client()
    response_id = client.send("response.create")[0]["response"]["id"]
    client.run(700)
    events = client.send("response.cancel", **({"response_id": response_id} if named else {}))
    assert kinds(events)[0] == "response.output_audio.done"
    response = events[-1]["response"]
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert response["output"][0]["status"] == "incomplete"
    assert not client.run(10_000)
    (noted,) = client.session.record()["responses"]
    assert (noted["status"], noted["cancels"]) == ("cancelled", 1)
    (item,) = client.session.record()["items"]
    assert base64.b64decode(item["audio_b64"]) == client.audio(item["item_id"])
    assert item["held_ms"] == 2_100


def test_deltas_may_still_come_after_a_cancel() -> None:
    client = Client(Behaviour(stale_deltas_after_cancel=3))
    client.send("response.create")
    client.run(700)
    assert not client.send("response.cancel")
    events = client.run(1_000)
    assert [event["type"] for event in events].count("response.output_audio.delta") == 3
    assert events[-1]["response"]["status"] == "cancelled"


@pytest.mark.parametrize("fields", [{}, {"response_id": "resp_nobody"}])
def test_a_cancel_without_an_active_response_is_an_error(fields: dict[str, str]) -> None:
    client = Client()
    client.send("response.cancel", event_id="late", **fields)
    error = client.only_error()
    assert (error["code"], error["event_id"]) == ("response_cancel_not_active", "late")


def test_a_response_cancelled_before_its_first_delta_has_no_output() -> None:
    client = Client(Behaviour(stale_deltas_after_cancel=3))
    client.send("response.create")
    (done,) = client.send("response.cancel")
    assert done["response"]["output"] == []
    assert not client.run(5_000)


def test_a_declared_function_is_called_and_its_output_answered() -> None:
    client = Client(Behaviour(tool_call="look_up", tool_arguments='{"q":1}', preamble=True))
    client.update(tools=[TOOL])
    client.send("response.create")
    client.run(5_000)
    item = client.of("response.output_item.done")[-1]["item"]
    assert (item["type"], item["name"], item["arguments"], item["status"]) == (
        "function_call",
        "look_up",
        '{"q":1}',
        "completed",
    )
    output = {"type": "function_call_output", "call_id": item["call_id"], "output": "seven"}
    client.send("conversation.item.create", item=output)
    client.send("response.create")
    client.run(20_000)
    assert client.last("response.done")["response"]["output"][-1]["type"] == "message"


def test_a_function_that_was_not_declared_is_not_called() -> None:
    client = Client(Behaviour(tool_call="look_up"))
    client.send("response.create")
    client.run(5_000)
    assert not client.of("response.function_call_arguments.done")
