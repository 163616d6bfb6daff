"""A call's record as spans."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callbook.core.spans import Span, spans_of

SID = "CA" + "1" * 32
AT = "2026-01-02T03:04:{:06.3f}Z".format
T0_NS = 1_767_323_040_000_000_000
LATENCY = {"carrier_ms": 40, "detection_ms": 500, "model_ms": 300, "line_ms": 4, "network_ms": 46}


def turn(role: str, began: float, ended: float, **more: Any) -> dict[str, Any]:
    defaults = {"text": "", "heard_text": "", "spoken_ms": 0, "heard_ms": 0, "interrupted": False, "latency": None}
    return (
        {"item_id": f"{role}-{began}", "role": role, "began_at": AT(began), "ended_at": AT(ended)}
        | defaults
        | {"tool": "", "arguments": "", "outcome": ""}
        | more
    )


def record(**more: Any) -> dict[str, Any]:
    call: dict[str, Any] = {
        "call_sid": SID,
        "from_number": "+15550001111",
        "to_number": "+15550002222",
        "agent": "restaurant",
        "model": "gpt-realtime",
        "began_at": AT(0),
        "ended_at": AT(30),
        "end_reason": "hung-up",
        "transmission": {"ear_gaps": 0, "ear_gap_ms": 0.0, "stalls": 0},
        "streams": [],
        "turns": [],
        "interruptions": [],
        "dials": [],
        "usage": [],
    }
    return call | more


def eventful() -> dict[str, Any]:
    return record(
        streams=[
            {
                "stream_sid": "MZ1",
                "started_at": AT(0),
                "ended_at": AT(30),
                "end_reason": "stop",
                "frames": 900,
                "stalls": 0,
                "late_frames": 0,
                "ear_gaps": 0,
                "ear_gap_us": 0,
            }
        ],
        turns=[
            turn("caller", 1, 3, text="A table for five."),
            turn("tool", 3.1, 3.4, tool="book", arguments='{"guests":5}', text="table 7", outcome="done"),
            turn(
                "ai",
                4,
                7,
                text="You have table seven.",
                heard_text="You have",
                interrupted=True,
                spoken_ms=4_000,
                heard_ms=3_000,
                latency=LATENCY,
            ),
            turn("tool", 8, 9, tool="cancel", arguments="{}", outcome="timeout"),
            turn("keys", 10, 11, text="1234"),
        ],
        interruptions=[
            {
                "at": AT(6.9),
                "onset_at": AT(6.5),
                "paused_at": AT(6.6),
                "silent_ms": 90,
                "stopped_ms": 500,
                "protected": False,
                "cancelled": True,
            }
        ],
        dials=[
            {
                "began_at": AT(20),
                "ended_at": AT(29),
                "to": "+15550003333",
                "caller_id": "+15550002222",
                "outcome": "completed",
                "duration_s": 8,
                "caller_left": False,
            }
        ],
        usage=[
            {"text_in": 10, "audio_in": 20, "cached_in": 5, "text_out": 3, "audio_out": 4, "cost_usd": 0.5},
            {"text_in": 1, "audio_in": 2, "cached_in": 0, "text_out": 1, "audio_out": 1, "cost_usd": None},
        ],
    )


def named(spans: list[Span], name: str) -> Span:
    (found,) = [span for span in spans if span.name == name]
    return found


def seconds(span: Span) -> tuple[float, float]:
    return (span.start_ns - T0_NS) / 1e9, (span.end_ns - T0_NS) / 1e9


@pytest.mark.parametrize(
    ("name", "began", "ended"),
    [
        ("invoke_agent restaurant", 0, 30),
        ("media stream", 0, 30),
        ("caller speaks", 1, 3),
        ("execute_tool book", 3.1, 3.4),
        # 350 ms before its first sample at the ear the model began with it.
        ("chat gpt-realtime", 3.65, 7),
        # From the caller's first sound to silence.
        ("interruption", 6.5, 7),
        ("caller presses keys", 10, 11),
        ("dial", 20, 29),
    ],
)
def test_each_thing_of_a_call_is_a_span_of_its_own_length(name: str, began: float, ended: float) -> None:
    assert seconds(named(spans_of(eventful(), words=False), name)) == (began, ended)


def test_all_spans_hang_on_the_call_and_an_interruption_on_the_answer_that_it_cut() -> None:
    spans = spans_of(eventful(), words=False)
    root, answer, interruption = spans[0], named(spans, "chat gpt-realtime"), named(spans, "interruption")
    assert root.parent_id == b""
    assert interruption.parent_id == answer.span_id
    assert {span.parent_id for span in spans if span not in (root, interruption)} == {root.span_id}
    assert len({span.span_id for span in spans}) == len(spans)


def test_an_answer_holds_what_the_caller_waited_for() -> None:
    answer = named(spans_of(eventful(), words=False), "chat gpt-realtime")
    parts = {name: answer.attributes[f"twentyms.latency.{name}"] for name in LATENCY}
    assert parts == LATENCY


def test_a_call_holds_its_tokens_and_cost_by_the_conventions_for_generative_ai() -> None:
    attributes = spans_of(eventful(), words=False)[0].attributes
    assert attributes["gen_ai.usage.input_tokens"] == 33
    assert attributes["gen_ai.usage.output_tokens"] == 9
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 5
    assert attributes["twentyms.cost_usd"] == 0.5
    assert attributes["gen_ai.conversation.id"] == SID


@pytest.mark.parametrize(("outcome", "error"), [("done", ""), ("timeout", "timeout"), ("", "unanswered")])
def test_a_tool_that_did_not_answer_is_an_error(outcome: str, error: str) -> None:
    call = record(turns=[turn("tool", 1, 2, tool="book", outcome=outcome)])
    tool = named(spans_of(call, words=False), "execute_tool book")
    assert tool.error == error
    assert tool.attributes.get("error.type", "") == error


def test_without_words_no_span_holds_a_number_a_key_or_anything_that_was_said() -> None:
    told = repr(spans_of(eventful(), words=False))
    for secret in ("1555", "table", "guests", "1234", "You have"):
        assert secret not in told


def test_with_words_spans_hold_them_as_heard_but_never_the_keys() -> None:
    spans = spans_of(eventful(), words=True)
    answer, tool = named(spans, "chat gpt-realtime").attributes, named(spans, "execute_tool book").attributes
    (asked,) = json.loads(str(answer["gen_ai.input.messages"]))
    assert asked == {"role": "user", "parts": [{"type": "text", "content": "A table for five."}]}
    (answered,) = json.loads(str(answer["gen_ai.output.messages"]))
    assert answered["parts"][0]["content"] == "You have"
    assert tool["gen_ai.tool.call.arguments"] == '{"guests":5}'
    assert tool["gen_ai.tool.call.result"] == "table 7"
    assert spans[0].attributes["twentyms.from"] == "+15550001111"
    assert "1234" not in repr(spans)


def test_a_call_exported_twice_has_the_same_ids_and_another_call_has_others() -> None:
    first, again = (spans_of(eventful(), words=False) for _ in range(2))
    other = spans_of(eventful() | {"call_sid": "CA" + "2" * 32}, words=False)
    assert first == again
    assert not {span.span_id for span in first} & {span.span_id for span in other}


def test_a_call_that_was_lost_before_anybody_spoke_is_one_failed_span() -> None:
    (root,) = spans_of(record(ended_at=None, end_reason="lost", agent="", model=""), words=True)
    assert (root.name, root.error, seconds(root)) == ("invoke_agent", "lost", (0, 0))
