"""The simulated model speaks the GA protocol, event by event, in virtual time.

Every event that any of these tests receives is validated strictly against the openai SDK's own type for it.
"""

from __future__ import annotations

import ast
import base64
import json
import typing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from openai.types.realtime import RealtimeServerEvent

from shared.audio import SILENCE
from simulator.model import session as model
from simulator.model.behaviour import Behaviour
from simulator.model.session import ModelSession
from simulator.voice import Voice, clip, clips

MS = 1_000_000
PCMU = {"type": "audio/pcmu"}
VOICE = Voice()
GREETING_MS = clips("ai", "greeting")[0].duration_ms
TYPES = {
    typing.get_args(event.model_fields["type"].annotation)[0]: event
    for event in typing.get_args(typing.get_args(RealtimeServerEvent)[0])
}


class Client:
    """The other end of a session, with a clock of its own. `events` is everything received, with `at_ms`."""

    def __init__(self, behaviour: Behaviour | None = None, *, configured: bool = True, **input: Any) -> None:
        self.session = ModelSession("sess_1", behaviour=behaviour or Behaviour(), voice=VOICE, seed=1, request_id="CA1")
        self.now_ns = 5_000 * MS
        self.events: list[dict[str, Any]] = []
        self._take(self.session.open(self.now_ns))
        if configured:
            detection = {"type": "server_vad", "interrupt_response": False} | input.pop("turn_detection", {})
            audio = {"input": {"format": PCMU, "turn_detection": detection, **input}, "output": {"format": PCMU}}
            self.update(audio=audio)

    @property
    def now_ms(self) -> int:
        return self.now_ns // MS

    def _take(self, texts: list[str]) -> list[dict[str, Any]]:
        new = []
        for text in texts:
            event = json.loads(text)
            parsed = TYPES[event["type"]].model_validate_json(text, strict=True)
            assert not parsed.model_extra, f"{event['type']} has no field {parsed.model_extra}"
            new.append(event | {"at_ms": self.now_ms})
        self.events += new
        return new

    def send(self, type: str, **fields: Any) -> list[dict[str, Any]]:
        return self._take(self.session.receive(json.dumps({"type": type, **fields}), self.now_ns))

    def update(self, **session: Any) -> list[dict[str, Any]]:
        return self.send("session.update", session={"type": "realtime", **session})

    def run(self, ms: int) -> list[dict[str, Any]]:
        """Let time pass, waking the session exactly when it wants."""
        new, until_ns = [], self.now_ns + ms * MS
        while (due_ns := self.session.next_due_ns()) is not None and due_ns <= until_ns:
            self.now_ns = max(self.now_ns, due_ns)
            new += self._take(self.session.advance(self.now_ns))
        self.now_ns = until_ns
        return new

    def say(self, audio: bytes) -> list[dict[str, Any]]:
        """Speak in real time, 20 ms an append."""
        new = []
        for at in range(0, len(audio), 160):
            new += self.run(20)
            new += self.send("input_audio_buffer.append", audio=base64.b64encode(audio[at : at + 160]).decode())
        return new

    def say_and_pause(self, name: str, pause_ms: int = 700) -> list[dict[str, Any]]:
        return self.say(clip(name).audio + SILENCE * 8 * pause_ms)

    def of(self, type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type]

    def last(self, type: str) -> dict[str, Any]:
        return self.of(type)[-1]

    def audio(self, item_id: str) -> bytes:
        return b"".join(
            base64.b64decode(e["delta"]) for e in self.of("response.output_audio.delta") if e["item_id"] == item_id
        )

    def only_error(self) -> dict[str, Any]:
        (event,) = self.of("error")
        error: dict[str, Any] = event["error"]
        return error


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Event types in order, deltas once each."""
    names = [event["type"] for event in events]
    return [name for number, name in enumerate(names) if not name.endswith("delta") or name not in names[:number]]


# --- the session --------------------------------------------------------------------------------------------------


def test_a_session_begins_with_pcm_and_voice_activity_detection() -> None:
    session = Client(configured=False).events[0]["session"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    assert session["audio"]["input"]["turn_detection"]["create_response"] is True
    assert session["audio"]["input"]["turn_detection"]["interrupt_response"] is True


def test_an_update_is_answered_with_the_whole_session_and_leaves_the_rest_alone() -> None:
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
def test_an_event_that_cannot_be_understood_costs_an_error_and_no_more(text: str | bytes, code: str) -> None:
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


# --- a response ---------------------------------------------------------------------------------------------------


def test_a_response_comes_in_the_order_of_the_real_one() -> None:
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


def test_a_text_response_has_no_audio() -> None:
    client = Client()
    client.send("response.create", response={"output_modalities": ["text"]})
    events = client.run(10_000)
    assert not client.of("response.output_audio.delta")
    assert "response.output_text.done" in kinds(events)
    assert client.last("response.done")["response"]["output"][0]["content"][0]["type"] == "output_text"


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


def test_a_flood_is_ten_times_too_much() -> None:
    client = Client(Behaviour(flood_times=10))
    client.send("response.create")
    client.run(60_000)
    assert client.session.record()["items"][0]["sent_bytes"] == 80 * GREETING_MS


def test_a_stall_keeps_an_utterance_waiting() -> None:
    client = Client(Behaviour(stall_at_ms=1_000, stall_ms=2_500))
    client.send("response.create")
    client.run(20_000)
    times = [event["at_ms"] for event in client.of("response.output_audio.delta")]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) == 2_520
    assert gaps.index(2_520) == 9
    assert sum(gap > 21 for gap in gaps) == 1


def test_a_replayed_conversation_is_not_greeted_again() -> None:
    client = Client(Behaviour(first_delta_ms=0))
    for role, kind in (("assistant", "output_text"), ("user", "input_text")):
        client.send("conversation.item.create", item={"type": "message", "role": role, "content": [{"type": kind}]})
    client.send("response.create")
    client.run(20_000)
    assert client.session.record()["items"][0]["transcript"] == clips("ai", "answer")[0].text


# --- cancelling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_a_cancelled_response_ends_at_once_with_what_it_said(named: bool) -> None:
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


def test_every_cancel_that_hits_an_active_response_is_counted() -> None:
    client = Client(Behaviour(stale_deltas_after_cancel=5))
    client.send("response.create")
    client.run(700)
    client.send("response.cancel")
    client.send("response.cancel")
    client.run(1_000)
    assert client.session.record()["responses"][0]["cancels"] == 2
    assert not client.of("error")


@pytest.mark.parametrize("fields", [{}, {"response_id": "resp_nobody"}])
def test_a_cancel_that_hits_nothing_is_an_error(fields: dict[str, str]) -> None:
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


# --- truncating, deleting, adding -----------------------------------------------------------------------------------


def spoken(behaviour: Behaviour | None = None) -> tuple[Client, str]:
    client = Client(behaviour or Behaviour(answer_ms=2_000))
    client.send("response.create")
    client.run(5_000)
    return client, client.last("response.output_item.done")["item"]["id"]


def truncate(client: Client, item_id: str, audio_end_ms: int, content_index: int = 0) -> list[dict[str, Any]]:
    return client.send(
        "conversation.item.truncate", item_id=item_id, content_index=content_index, audio_end_ms=audio_end_ms
    )


def test_truncate_keeps_what_was_heard_and_forgets_the_words() -> None:
    client, item_id = spoken()
    (event,) = truncate(client, item_id, 1_234)
    assert (event["type"], event["audio_end_ms"]) == ("conversation.item.truncated", 1_234)
    (item,) = client.session.record()["items"]
    assert (item["held_ms"], item["truncated_ms"], item["sent_bytes"]) == (1_234, 1_234, 16_000)
    (event,) = client.send("conversation.item.retrieve", item_id=item_id)
    assert event["item"]["content"][0]["transcript"] is None


def test_truncate_beyond_the_audio_complains_without_an_event_id_and_cuts_at_the_end() -> None:
    client, item_id = spoken()
    error, truncated = truncate(client, item_id, 2_001)
    assert error["error"]["message"] == "Audio content of 2000ms is already shorter than 2001ms"
    assert error["error"]["event_id"] is None
    assert truncated["audio_end_ms"] == 2_000


def test_truncate_to_nothing_or_of_nothing_is_unsupported() -> None:
    client, item_id = spoken()
    user = client.send(
        "conversation.item.create",
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
    )[0]["item"]["id"]
    for which, end_ms, index in ((item_id, 0, 0), (user, 100, 0), (item_id, 100, 1)):
        (error,) = truncate(client, which, end_ms, index)
        assert error["error"]["code"] == "unsupported_content_type"
    assert client.session.record()["items"][0]["held_ms"] == 2_000


@pytest.mark.parametrize("verb", ["truncate", "delete", "retrieve"])
def test_an_item_that_is_not_there_is_an_error(verb: str) -> None:
    client = Client()
    extra = {"content_index": 0, "audio_end_ms": 10} if verb == "truncate" else {}
    client.send(f"conversation.item.{verb}", item_id="item_nobody", **extra)
    assert client.only_error()["code"] == f"item_{verb}_invalid_item_id"


def test_a_deleted_item_is_held_no_more() -> None:
    client, item_id = spoken()
    (event,) = client.send("conversation.item.delete", item_id=item_id)
    assert (event["type"], event["item_id"]) == ("conversation.item.deleted", item_id)
    (item,) = client.session.record()["items"]
    assert (item["deleted"], item["held_ms"]) == (True, 0)
    client.send("conversation.item.delete", item_id=item_id)
    assert client.only_error()["code"] == "item_delete_invalid_item_id"


def test_items_are_added_where_the_client_wants_them() -> None:
    client = Client()

    def add(text: str, after: str | None = None) -> str | None:
        item = {"id": text, "type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]}
        event = client.send("conversation.item.create", item=item, previous_item_id=after)[0]
        previous: str | None = event.get("previous_item_id", event.get("error", {}).get("code"))
        return previous

    assert [add("b"), add("d"), add("a", "root"), add("c", "b")] == [None, "b", None, "b"]
    assert add("x", "nobody") == "item_create_invalid_item_id"
    assert add("a") == "item_create_duplicate_item_id"
    assert add("e") == "d"


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
def test_an_item_that_cannot_be_is_refused(item: dict[str, Any]) -> None:
    client = Client()
    client.send("conversation.item.create", item=item)
    assert client.only_error()["type"] == "invalid_request_error"


# --- the caller ---------------------------------------------------------------------------------------------------


def test_a_callers_turn_is_noticed_committed_and_answered() -> None:
    client = Client(transcription={"model": "gpt-transcribe"})
    client.run(1_000)
    client.say(SILENCE * 8_000)
    events = client.say_and_pause("hello")
    assert kinds(events)[:6] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    started, stopped = events[0], events[1]
    assert started["item_id"] == stopped["item_id"] == events[2]["item_id"]
    assert started["audio_start_ms"] == 1_000 - 300
    assert stopped["audio_end_ms"] == pytest.approx(1_000 + clip("hello").duration_ms + 500, abs=60)
    client.run(1_000)
    done = client.last("conversation.item.input_audio_transcription.completed")
    assert (done["transcript"], done["item_id"]) == ("Hello.", started["item_id"])
    (noted,) = client.session.record()["speech"]
    assert noted["started_ns"] == started["at_ms"] * MS
    assert noted["stopped_ns"] == stopped["at_ms"] * MS


def test_speech_interrupts_only_where_it_may() -> None:
    for interrupt in (True, False):
        client = Client(Behaviour(answer_ms=60_000), turn_detection={"interrupt_response": interrupt})
        client.send("response.create")
        client.run(1_000)
        client.say_and_pause("hello", pause_ms=0)
        done = client.of("response.done")
        assert bool(done) == interrupt
        if done:
            assert done[0]["response"]["status_details"]["reason"] == "turn_detected"
            assert client.session.record()["responses"][0]["cancels"] == 0


def test_an_automatic_answer_fails_while_the_model_is_responding() -> None:
    client = Client(Behaviour(answer_ms=60_000))
    client.send("response.create")
    client.say_and_pause("hello")
    assert client.only_error()["code"] == "conversation_already_has_active_response"
    assert client.only_error()["event_id"] is None
    assert len(client.of("input_audio_buffer.committed")) == 1


def test_without_create_response_nobody_answers() -> None:
    client = Client(turn_detection={"create_response": False})
    client.say_and_pause("hello")
    client.run(5_000)
    assert client.of("input_audio_buffer.committed")
    assert not client.of("response.created")


def test_semantic_detection_waits_longer_for_a_patient_session() -> None:
    ends = []
    for eagerness in ("high", "low"):
        client = Client(configured=False)
        detection = {"type": "semantic_vad", "eagerness": eagerness}
        client.update(audio={"input": {"format": PCMU, "turn_detection": detection}, "output": {"format": PCMU}})
        client.say_and_pause("hello", pause_ms=2_000)
        ends.append(client.last("input_audio_buffer.speech_stopped")["audio_end_ms"])
    assert ends[1] - ends[0] == 800


def test_without_detection_the_client_commits() -> None:
    client = Client()
    client.update(audio={"input": {"turn_detection": None}})
    client.send("input_audio_buffer.commit")
    assert client.only_error()["code"] == "input_audio_buffer_commit_empty"
    client.say_and_pause("hello")
    assert kinds(client.send("input_audio_buffer.commit")) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    client.say_and_pause("hello")
    assert kinds(client.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    client.send("input_audio_buffer.commit")
    assert len(client.of("error")) == 2
    assert not client.of("input_audio_buffer.speech_started")


def test_a_transcription_may_be_late_fail_or_never_come() -> None:
    def transcribed(**behaviour: Any) -> list[dict[str, Any]]:
        client = Client(Behaviour(**behaviour), transcription={"model": "whisper-1"})
        client.say_and_pause("hello")
        committed_ms = client.last("input_audio_buffer.committed")["at_ms"]
        client.run(5_000)
        return [
            e | {"at_ms": e["at_ms"] - committed_ms} for e in client.events if "input_audio_transcription" in e["type"]
        ]

    assert transcribed(transcription="never") == []
    assert [event["type"].rpartition(".")[2] for event in transcribed(transcription="fail")] == ["failed"]
    late = transcribed(transcription_ms=3_000)
    assert [event["type"].rpartition(".")[2] for event in late] == ["delta", "completed"]
    assert late[0]["at_ms"] == pytest.approx(3_000, abs=20)


def test_a_silent_caller_is_prompted_after_the_idle_timeout() -> None:
    client = Client(Behaviour(answer_ms=2_000), turn_detection={"idle_timeout_ms": 6_000})
    client.send("response.create")
    client.say(SILENCE * 8 * 4_000)
    done_ms = client.last("response.done")["at_ms"]
    events = client.run(10_000)
    assert kinds(events)[:5] == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert events[0]["at_ms"] - done_ms == 2_000 + 6_000
    assert events[0]["audio_end_ms"] == 4_000


def test_a_caller_who_speaks_is_not_prompted() -> None:
    client = Client(Behaviour(answer_ms=2_000), turn_detection={"idle_timeout_ms": 6_000, "create_response": False})
    client.send("response.create")
    client.run(3_000)
    client.say_and_pause("hello")
    client.run(30_000)
    assert not client.of("input_audio_buffer.timeout_triggered")


def test_a_parrot_answers_with_the_callers_own_words() -> None:
    client = Client(Behaviour(parrot=True))
    client.say_and_pause("hello")
    client.run(5_000)
    assert client.session.record()["items"][0]["transcript"] == "Hello."


# --- functions ------------------------------------------------------------------------------------------------------

TOOL = {"type": "function", "name": "look_up", "description": "d", "parameters": {"type": "object", "properties": {}}}


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


# --- how it ends ----------------------------------------------------------------------------------------------------


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
def test_the_socket_may_die_without_a_word(behaviour: Behaviour) -> None:
    client = Client(behaviour)
    client.send("response.create")
    client.run(5_000)
    assert client.session.close_code == model.ABNORMAL
    assert client.session.record()["items"][0]["sent_bytes"] == 8_000
    assert not client.of("response.done")


def test_the_record_tells_when_the_client_left() -> None:
    client = Client()
    client.send("response.create")
    client.session.closed(client.now_ns, 1_000)
    record = json.loads(json.dumps(client.session.record()))
    assert (record["request_id"], record["session_id"], record["close_code"]) == ("CA1", "sess_1", 1_000)
    assert record["closed_ns"] == client.now_ns
    assert record["events"][0] == {"at_ns": 5_000 * MS, "dir": "out", "type": "session.created"}
    assert not client.run(10_000)


def test_a_behaviour_is_read_from_json_and_a_wrong_one_is_named() -> None:
    behaviour = Behaviour.from_json('{"speed": 3, "responses": [{"preamble": true}]}')
    assert (behaviour.speed, behaviour.preamble) == (3, False)
    assert (behaviour.for_response(0).preamble, behaviour.for_response(0).speed) == (True, 3)
    assert behaviour.for_response(1) is behaviour
    for text, complaint in (
        ('{"sped": 3}', "sped"),
        ("[]", "object"),
        ('{"speed": "3"}', "speed"),
        ("{", "Expecting"),
        ('{"speed": 0}', "speed"),
    ):
        with pytest.raises(ValueError, match=complaint):
            Behaviour.from_json(text)


def test_every_event_of_the_server_was_checked_against_the_sdk() -> None:
    """All that the core can emit, in one session; each is validated as it arrives (see Client)."""
    tool = Behaviour(tool_call="look_up", preamble=True)
    script = (tool, Behaviour(no_audio="text"), Behaviour(answer_ms=500))
    client = Client(
        Behaviour(responses=script, expire_after_ms=120_000),
        transcription={"model": "gpt-transcribe"},
        turn_detection={"idle_timeout_ms": 5_000},
    )
    client.update(tools=[TOOL])
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
    """Every event type that is written in the simulator's core and is not one of a client's."""
    names = set()
    for path in Path(model.__file__).parent.glob("*.py"):
        if path.name != "server.py":
            names |= {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    kind = "conversation.item.input_audio_transcription"
    return (names | {f"{kind}.{end}" for end in ("delta", "completed", "failed")} | {"response.output_audio.delta"}) & {
        *TYPES
    }
