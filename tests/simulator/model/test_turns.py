"""The caller's turns: noticed, committed, transcribed and answered."""

from __future__ import annotations

from typing import Any

import pytest

from shared.audio import SILENCE
from simulator.model.behaviour import Behaviour
from simulator.voice import clip

from .session_client import MS, PCMU, Client, kinds


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


def test_speech_interrupts_only_with_interrupt_response() -> None:
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


def test_without_create_response_no_answer_comes_by_itself() -> None:
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
