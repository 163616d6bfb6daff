"""The judge of the tool scenarios: each call is answered once, by the session that knows it."""

from __future__ import annotations

from typing import Any

import pytest

from proofs.tool_scenarios import answered_once
from proofs.verdict import ALREADY_ACTIVE

CALL = {"type": "function_call", "call_id": "a", "status": "completed"}
OUTPUT = {"type": "function_call_output", "call_id": "a", "status": "completed"}


def said(*functions: dict[str, Any], errors: tuple[dict[str, Any], ...] = (), later: bool = False) -> str:
    session = {"functions": list(functions), "errors": list(errors)}
    after = [{"functions": [], "errors": []}] if later else []
    return answered_once(None, [session, *after])  # type: ignore[arg-type]  # the verdict plays no part


def test_a_call_that_is_answered_once_is_right() -> None:
    assert said(CALL, OUTPUT) == ""


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ((CALL,), "never answered"),
        ((CALL, OUTPUT, OUTPUT), "answered twice"),
        ((CALL, OUTPUT, OUTPUT | {"call_id": "b"}), "does not know"),
        ((CALL | {"status": "incomplete"}, OUTPUT), "does not know"),
        ((), "shows nothing"),
    ],
    ids=["never", "twice", "unknown", "cut short", "no call"],
)
def test_any_other_answer_is_a_fault(functions: tuple[dict[str, Any], ...], words: str) -> None:
    assert words in said(*functions)


def test_only_the_last_session_must_have_every_answer() -> None:
    assert said(CALL, later=True) == ""


def test_a_request_during_a_response_is_a_fault() -> None:
    assert "while another one" in said(CALL, OUTPUT, errors=({"code": ALREADY_ACTIVE},))
