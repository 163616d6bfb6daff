"""Between the Realtime API and the model port, event by event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aibridge.models import port
from aibridge.models.port import Numbers
from aibridge.models.realtime.translator import KEEP, Translator
from aibridge.models.realtime.wire import decode_event

CREATED = {"type": "response.created", "response": {"id": "resp_a"}}
ITEM = {"type": "response.output_item.added", "response_id": "resp_a", "item": {"id": "item_a", "type": "message"}}
DELTA = {
    "type": "response.output_audio.delta",
    "response_id": "resp_a",
    "item_id": "item_a",
    "content_index": 0,
    "delta": "AAAA",
}
WORDS = {
    "type": "response.output_audio_transcript.delta",
    "response_id": "resp_a",
    "item_id": "item_a",
    "delta": "Hello",
}


@pytest.fixture
def session() -> Translator:
    return Translator(Numbers(), {"greeting": "Say hello."})


def said(session: Translator, *events: dict[str, Any]) -> list[port.ModelEvent]:
    """The neutral events of the last of these events."""
    meaning: list[port.ModelEvent] = []
    for event in events:
        decoded = decode_event(json.dumps(event).encode())
        assert decoded is not None
        meaning = list(session.events(decoded))
    return meaning


def done(status: str = "completed", *items: tuple[str, str], **fields: Any) -> dict[str, Any]:
    output = [{"id": item, "type": "message", "status": item_status} for item, item_status in items]
    return {"type": "response.done", "response": {"id": "resp_a", "status": status, "output": output} | fields}


# --- the caller ---


def test_a_turn_has_one_number_from_its_first_sound_to_its_words(session: Translator) -> None:
    item = {"item_id": "item_u"}
    assert said(session, {"type": "input_audio_buffer.speech_started"} | item) == [port.CallerSpeaks(1)]
    assert said(session, {"type": "input_audio_buffer.speech_stopped"} | item) == [port.CallerSilent(1)]
    assert said(session, {"type": "input_audio_buffer.committed"} | item) == [port.TurnTaken(1)]
    kind = "conversation.item.input_audio_transcription.completed"
    assert said(session, {"type": kind, "transcript": "Hi."} | item) == [port.CallerWords(1, "Hi.")]
    assert said(session, {"type": "input_audio_buffer.speech_started", "item_id": "other"}) == [port.CallerSpeaks(2)]


# --- responses ---


def test_a_requested_response_has_its_purpose_and_the_models_own_has_none(session: Translator) -> None:
    ours = {"type": "response.created", "response": {"id": "resp_b", "metadata": {"purpose": "greeting"}}}
    strange = {"type": "response.created", "response": {"id": "resp_c", "metadata": {"purpose": "dance"}}}
    assert said(session, CREATED) == [port.ResponseBegan(1)]
    assert said(session, ours) == [port.ResponseBegan(2, "greeting")]
    assert said(session, strange) == [port.ResponseBegan(3)]


def test_speech_has_our_numbers_and_an_unknown_response_is_number_0(session: Translator) -> None:
    assert said(session, DELTA) == [port.Speech(0, 1, bytes(3))]
    assert said(session, CREATED, DELTA) == [port.Speech(1, 1, bytes(3))]
    assert said(session, DELTA | {"item_id": "item_b"}) == [port.Speech(1, 2, bytes(3))]
    assert said(session, DELTA | {"content_index": 1}) == [port.Speech(1, 3, bytes(3))]


def test_numbers_are_drawn_across_the_sessions_of_a_call() -> None:
    numbers = Numbers()
    said(Translator(numbers, {}), CREATED, DELTA)
    assert said(Translator(numbers, {}), CREATED, DELTA) == [port.Speech(2, 2, bytes(3))]


def test_words_that_come_before_their_audio_follow_it(session: Translator) -> None:
    assert said(session, CREATED, WORDS, WORDS | {"delta": " there"}) == []
    assert said(session, DELTA) == [port.Speech(1, 1, bytes(3)), port.Words(1, "Hello there")]
    assert said(session, WORDS | {"delta": "."}) == [port.Words(1, ".")]


def test_words_without_audio_are_dropped_and_bounded(session: Translator) -> None:
    said(session, CREATED, *(WORDS | {"item_id": f"item_{number}"} for number in range(1_000)))
    assert len(session._early) <= 8
    assert said(session, done()) == [port.ResponseEnded(1)]


def test_all_words_of_an_utterance_replace_its_pieces(session: Translator) -> None:
    whole = {
        "type": "response.output_audio_transcript.done",
        "response_id": "resp_a",
        "item_id": "item_a",
        "content_index": 0,
        "transcript": "Hello there.",
    }
    assert said(session, CREATED, DELTA, whole) == [port.Words(1, "Hello there.", is_all=True)]
    early = whole | {"item_id": "item_b"}
    assert said(session, WORDS | {"item_id": "item_b"}, early) == []
    assert said(session, DELTA | {"item_id": "item_b"})[1:] == [port.Words(2, "Hello there.")]


def test_the_end_of_speech_is_reported_only_for_speech_that_began(session: Translator) -> None:
    end = {"type": "response.output_audio.done", "response_id": "resp_a", "item_id": "item_a", "content_index": 0}
    assert said(session, CREATED, end) == []
    assert said(session, DELTA, end) == [port.SpeechEnded(1)]


def test_the_end_of_a_response_names_its_shortened_and_its_unspoken_utterances(session: Translator) -> None:
    silent = ITEM | {"item": {"id": "item_s", "type": "message"}}
    ended = done("cancelled", ("item_a", "incomplete"), ("item_t", "incomplete"))
    assert said(session, CREATED, ITEM, DELTA, silent, ended) == [
        port.ResponseEnded(1, "cancelled", cut_short=(1,), unspoken=(2, 3))
    ]


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (done("completed"), "completed"),
        (done("incomplete"), "incomplete"),
        (done("failed", status_details={"error": {"code": "rate_limit_exceeded"}}), "failed"),
        (done("failed", status_details={"error": {"code": "insufficient_quota"}}), "fatal"),
        (done("a status of tomorrow"), "completed"),
    ],
)
def test_each_status_of_a_response_is_an_outcome(session: Translator, response: Any, outcome: port.Outcome) -> None:
    assert said(session, CREATED, response) == [port.ResponseEnded(1, outcome)]


def test_tokens_are_counted_with_their_response(session: Translator) -> None:
    usage = {
        "input_token_details": {"text_tokens": 1, "audio_tokens": 2, "cached_tokens": 3},
        "output_token_details": {"text_tokens": 4, "audio_tokens": 5},
    }
    (ended,) = said(session, CREATED, done(usage=usage))
    assert isinstance(ended, port.ResponseEnded)
    assert ended.usage == port.Usage(1, 2, 3, 4, 5)


# --- tools, faults ---


def test_a_tool_is_called_when_its_call_is_complete(session: Translator) -> None:
    call = {"id": "item_f", "type": "function_call", "name": "end_call", "call_id": "call_a", "arguments": "{}"}
    event = {"type": "response.output_item.done", "response_id": "resp_a"}
    assert said(session, CREATED, event | {"item": call | {"status": "incomplete"}}) == []
    called = said(session, event | {"item": call | {"status": "completed"}})
    assert called == [port.ToolCalled(1, 1, "end_call", "{}")]
    assert session.client_event(port.AnswerTool(1, "ok")) == {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "call_a", "output": "ok"},
    }


def test_a_tool_of_an_mcp_server_is_named_when_it_is_called_and_answers_when_it_is_done(session: Translator) -> None:
    said(session, CREATED)
    for item_id, result, answer in (
        ("item_m", {"output": "found"}, port.ModelToolAnswered(1, "found")),
        (
            "item_n",
            {"error": {"type": "http_error", "code": 500}},
            port.ModelToolAnswered(2, '{"type":"http_error","code":500}', True),
        ),
    ):
        item = {"id": item_id, "type": "mcp_call", "server_label": "notes", "name": "find", "arguments": ""}
        where = {"response_id": "resp_a", "item_id": item_id}
        added = {"type": "response.output_item.added", "response_id": "resp_a", "item": item}
        called = {"type": "response.mcp_call_arguments.done", **where, "arguments": "{}"}
        done_item = {"type": "response.output_item.done", "response_id": "resp_a", "item": item | result}
        said(session, added)
        assert said(session, called) == [port.ModelToolCalled(1, answer.tool_call, "notes.find", "{}")]
        assert said(session, done_item) == [answer]


def test_a_tool_of_an_mcp_server_is_told_under_a_name_that_a_function_may_have(session: Translator) -> None:
    told = session.client_event(port.TellCall(3, "notes.find", "{}"))
    assert told is not None
    assert told["item"]["name"] == "notes_find"  # type: ignore[typeddict-item, index]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("response_cancel_not_active", "cancel_too_late"),
        ("conversation_already_has_active_response", "busy"),
        ("insufficient_quota", "fatal"),
        ("invalid_api_key", "fatal"),
        ("server_error", "other"),
    ],
)
def test_each_error_is_a_fault_of_a_neutral_kind(session: Translator, code: str, kind: port.FaultKind) -> None:
    error = {"type": "error", "error": {"type": "t", "code": code, "event_id": "create_7"}}
    assert said(session, error) == [port.Fault(kind, 7, code)]


@pytest.mark.parametrize("event_id", [None, "", "create_", "create_x", "7", "other_7"])
def test_an_error_that_refers_to_no_request_of_ours_names_none(session: Translator, event_id: str | None) -> None:
    error = {"type": "error", "error": {"type": "server_error", "event_id": event_id}}
    assert said(session, error) == [port.Fault("other", 0, "server_error")]


# --- commands ---


def test_a_response_is_requested_with_its_purpose_and_its_words(session: Translator) -> None:
    assert session.client_event(port.Ask(3, "greeting")) == {
        "type": "response.create",
        "event_id": "create_3",
        "response": {"metadata": {"purpose": "greeting"}, "instructions": "Say hello."},
    }
    answer = session.client_event(port.Ask(4, "answer"))
    assert answer == {
        "type": "response.create",
        "event_id": "create_4",
        "response": {"metadata": {"purpose": "answer"}},
    }


def test_truncates_and_cancels_are_sent_with_the_servers_ids(session: Translator) -> None:
    said(session, CREATED, DELTA)
    assert session.client_event(port.Cancel(1)) == {"type": "response.cancel", "response_id": "resp_a"}
    truncate = {"type": "conversation.item.truncate", "item_id": "item_a", "content_index": 0, "audio_end_ms": 120}
    assert session.client_event(port.Truncate(1, 120)) == truncate
    assert said(session, {"type": "conversation.item.truncated", "item_id": "item_a", "audio_end_ms": 120}) == [
        port.Truncated(1, 120)
    ]
    delete = {"type": "conversation.item.delete", "item_id": "item_a"}
    assert session.client_event(port.Forget(1)) == delete


def test_forgetting_one_of_several_pieces_of_an_item_truncates_it_to_nothing(session: Translator) -> None:
    said(session, CREATED, DELTA, DELTA | {"content_index": 1})
    event: Any = session.client_event(port.Forget(2))
    assert (event["type"], event["content_index"], event["audio_end_ms"]) == ("conversation.item.truncate", 1, 0)


@pytest.mark.parametrize("command", [port.Cancel(9), port.Truncate(9, 1), port.Forget(9), port.AnswerTool(9, "")])
def test_a_command_about_something_unknown_to_the_session_is_not_sent(
    session: Translator, command: port.ModelCommand
) -> None:
    assert session.client_event(command) is None


def test_earlier_words_are_told_as_text_and_can_be_deleted(session: Translator) -> None:
    told: Any = session.client_event(port.Tell(1, "caller", "Hi."))
    assert told["item"] == {
        "id": "told_00001",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hi."}],
    }
    again: Any = session.client_event(port.Tell(2, "ai", "Hello", after=1))
    assert again["item"]["content"] == [{"type": "output_text", "text": "Hello"}]
    assert again["previous_item_id"] == "told_00001"
    assert session.client_event(port.Untell(1)) == {"type": "conversation.item.delete", "item_id": "told_00001"}


def test_the_ids_of_a_long_session_are_bounded(session: Translator) -> None:
    for number in range(2 * KEEP):
        response = {"id": f"resp_{number}"}
        said(session, {"type": "response.created", "response": response}, DELTA | {"item_id": f"item_{number}"})
    assert len(session._responses) == len(session._utterances) == KEEP
