"""A call's record as the spans of a trace. Pure: no OpenTelemetry here; otlp.py sends them.

Names and attributes follow OpenTelemetry's conventions for generative AI (v1.41) where those have a word. All others
begin with `twentyms.`; docs/traces.md lists them. Ids are derived from the CallSid: exporting a call twice gives the
same spans.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Literal

Kind = Literal["server", "client", "internal"]
Value = str | int | float | bool

PROVIDER: Final = "openai"
# Silence at the ear follows an interruption within this time.
_NEAR_S: Final = 1.0
_ROLES: Final = {"caller": "caller speaks", "keys": "caller presses keys", "tones": "tones"}


@dataclass(frozen=True)
class Span:
    name: str
    span_id: bytes
    # Empty: the root.
    parent_id: bytes
    kind: Kind
    # Of the Unix epoch.
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    # What failed, in a word; empty: nothing.
    error: str = ""


def trace_id(call_sid: str) -> bytes:
    return sha256(f"twentyms call {call_sid}".encode()).digest()[:16]


def spans_of(call: Mapping[str, Any], *, words: bool) -> list[Span]:
    """The spans of a call, as queries.whole gives it; the first is the root.

    Without `words`, no span holds what was said, the arguments and answers of tools, or a number.
    """
    return list(_Spans(call, words=words).all())


class _Spans:
    def __init__(self, call: Mapping[str, Any], *, words: bool) -> None:
        self._call = call
        self._words = words
        self._root = self._id("call", "")
        self._began_ns = _ns(call["began_at"])
        self._ends_ns = max([self._began_ns, *(_ns(at) for at in self._times() if at)])

    def _times(self) -> Iterator[str | None]:
        yield self._call["ended_at"]
        for rows in ("turns", "dials", "streams"):
            for each in self._call[rows]:
                yield each["ended_at"]

    def _id(self, kind: str, key: str) -> bytes:
        return sha256(f"twentyms {kind} {self._call['call_sid']} {key}".encode()).digest()[:8]

    def all(self) -> Iterator[Span]:
        call = self._call
        yield self._whole()
        for stream in call["streams"]:
            if stream["started_at"]:
                yield self._stream(stream)
        said: list[str] = []
        for turn in call["turns"]:
            if turn["role"] == "caller":
                said.append(turn["text"])
            if turn["began_at"]:
                yield self._turn(turn, said)
            if turn["role"] == "ai":
                said = []
        for each in call["interruptions"]:
            yield self._interruption(each)
        for dial in call["dials"]:
            yield self._dial(dial)

    def _whole(self) -> Span:
        call, line = self._call, self._call["transmission"]
        usage = call["usage"]
        costs = [each["cost_usd"] for each in usage if each["cost_usd"] is not None]
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": call["agent"] or None,
            "gen_ai.usage.input_tokens": sum(each["text_in"] + each["audio_in"] for each in usage),
            "gen_ai.usage.cache_read.input_tokens": sum(each["cached_in"] for each in usage),
            "gen_ai.usage.output_tokens": sum(each["text_out"] + each["audio_out"] for each in usage),
            "twentyms.cost_usd": sum(costs) if costs else None,
            "twentyms.end_reason": call["end_reason"],
            "twentyms.interruptions": len(call["interruptions"]),
            "twentyms.ear_gaps": line["ear_gaps"],
            "twentyms.ear_gap_ms": line["ear_gap_ms"],
            "twentyms.stalls": line["stalls"],
            **self._private({"twentyms.from": call["from_number"], "twentyms.to": call["to_number"]}),
        }
        name = f"invoke_agent {call['agent']}".rstrip()
        error = "lost" if call["end_reason"] == "lost" else ""
        attributes = self._common() | attributes
        return Span(name, self._root, b"", "server", self._began_ns, self._ends_ns, _known(attributes), error)

    def _common(self) -> dict[str, Value | None]:
        """What every span of the model holds: a receiver may look at one span alone."""
        call_sid = self._call["call_sid"]
        return {
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": self._call["model"] or None,
            "gen_ai.conversation.id": call_sid,
            "session.id": call_sid,
        }

    def _private(self, values: dict[str, Value | None]) -> dict[str, Value | None]:
        return values if self._words else {}

    def _child(self, name: str, kind: Kind, span_id: bytes, start_ns: int, end_ns: int, **more: Any) -> Span:
        parent_id = more.pop("parent_id", self._root)
        attributes = _known(more.pop("attributes"))
        return Span(name, span_id, parent_id, kind, start_ns, max(start_ns, end_ns), attributes, **more)

    def _stream(self, stream: Mapping[str, Any]) -> Span:
        gap_us = stream["ear_gap_us"]
        attributes = {
            "twentyms.end_reason": stream["end_reason"],
            "twentyms.frames": stream["frames"],
            "twentyms.stalls": stream["stalls"],
            "twentyms.late_frames": stream["late_frames"],
            "twentyms.ear_gaps": stream["ear_gaps"],
            "twentyms.ear_gap_ms": None if gap_us is None else gap_us / 1000,
        }
        ended_ns = _ns(stream["ended_at"]) if stream["ended_at"] else self._ends_ns
        error = "lost" if stream["end_reason"] == "lost" else ""
        span_id = self._id("stream", stream["stream_sid"])
        started_ns = _ns(stream["started_at"])
        return self._child("media stream", "server", span_id, started_ns, ended_ns, attributes=attributes, error=error)

    def _turn_id(self, turn: Mapping[str, Any]) -> bytes:
        return self._id("turn", turn["item_id"])

    def _turn(self, turn: Mapping[str, Any], said: list[str]) -> Span:
        began_ns = _ns(turn["began_at"])
        ended_ns = _ns(turn["ended_at"]) if turn["ended_at"] else began_ns + turn["heard_ms"] * 1_000_000
        span_id = self._turn_id(turn)
        if turn["role"] == "tool":
            return self._tool(turn, span_id, began_ns, ended_ns)
        if turn["role"] == "ai":
            return self._answer(turn, span_id, began_ns, ended_ns, said)
        return self._child(_ROLES[turn["role"]], "internal", span_id, began_ns, ended_ns, attributes={})

    def _answer(self, turn: Mapping[str, Any], span_id: bytes, began_ns: int, ended_ns: int, said: list[str]) -> Span:
        """From the model's beginning, where it is known, until the ear has heard it."""
        latency = turn["latency"] or {}
        made_ms = sum(latency.get(name) or 0 for name in ("model_ms", "line_ms", "network_ms"))
        asked = [_message("user", text) for text in said if text]
        answered = [_message("assistant", turn["heard_text"]) | {"finish_reason": "stop"}]
        attributes = self._common() | {
            "gen_ai.operation.name": "chat",
            "twentyms.spoken_ms": turn["spoken_ms"],
            "twentyms.heard_ms": turn["heard_ms"],
            "twentyms.interrupted": turn["interrupted"],
            **{f"twentyms.latency.{name}": value for name, value in latency.items()},
            **self._private(
                {
                    "gen_ai.input.messages": json.dumps(asked) if asked else None,
                    "gen_ai.output.messages": json.dumps(answered),
                }
            ),
        }
        name = f"chat {self._call['model']}".rstrip()
        began_ns -= made_ms * 1_000_000
        return self._child(name, "client", span_id, began_ns, ended_ns, attributes=attributes)

    def _tool(self, turn: Mapping[str, Any], span_id: bytes, began_ns: int, ended_ns: int) -> Span:
        error = "" if turn["outcome"] == "done" else turn["outcome"] or "unanswered"
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.conversation.id": self._call["call_sid"],
            "gen_ai.tool.name": turn["tool"],
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": turn["item_id"],
            "error.type": error or None,
            **self._private({"gen_ai.tool.call.arguments": turn["arguments"], "gen_ai.tool.call.result": turn["text"]}),
        }
        name = f"execute_tool {turn['tool']}"
        return self._child(name, "internal", span_id, began_ns, ended_ns, attributes=attributes, error=error)

    def _interruption(self, each: Mapping[str, Any]) -> Span:
        """From the caller's first sound, where it is known, until the ear had played the last of the AI."""
        has_onset = each["onset_at"] is not None
        start_ns = _ns(each["onset_at"] if has_onset else each["at"])
        lasted_ms = each["stopped_ms"] if has_onset else each["silent_ms"]
        attributes = {
            "twentyms.protected": each["protected"],
            "twentyms.cancelled": each["cancelled"],
            "twentyms.silent_ms": each["silent_ms"],
            "twentyms.stopped_ms": each["stopped_ms"],
        }
        span_id, end_ns = self._id("interruption", each["at"]), start_ns + lasted_ms * 1_000_000
        parent_id = self._interrupted(_ns(each["at"]))
        return self._child(
            "interruption", "internal", span_id, start_ns, end_ns, attributes=attributes, parent_id=parent_id
        )

    def _interrupted(self, at_ns: int) -> bytes:
        """The turn that the caller spoke over; the call, if its record is missing."""
        near_ns = int(_NEAR_S * 1e9)
        for turn in reversed(self._call["turns"]):
            is_cut = turn["role"] == "ai" and turn["interrupted"] and turn["began_at"] and turn["ended_at"]
            if is_cut and _ns(turn["began_at"]) <= at_ns <= _ns(turn["ended_at"]) + near_ns:
                return self._turn_id(turn)
        return self._root

    def _dial(self, dial: Mapping[str, Any]) -> Span:
        attributes = {
            "twentyms.outcome": dial["outcome"] or None,
            "twentyms.spoke_s": dial["duration_s"],
            "twentyms.caller_left": dial["caller_left"],
            **self._private({"twentyms.to": dial["to"]}),
        }
        start_ns = _ns(dial["began_at"])
        end_ns = _ns(dial["ended_at"]) if dial["ended_at"] else self._ends_ns
        span_id = self._id("dial", dial["began_at"])
        return self._child("dial", "client", span_id, start_ns, end_ns, attributes=attributes)


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _known(attributes: Mapping[str, Any]) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}


def _ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000) * 1_000_000
