"""What CALL_CONFIG_URL may say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aibridge.core.agent import Agent, Agents
from aibridge.core.call_config import CallConfigError, answered, question
from shared.plan import CallPlan, Conference, Dial, HangUp, Reject

PLAN = CallPlan("inbound", "AC1", "+15550006", "+15550001", "office", agent_version="1", made_ms=5)
OFFICE = Agent(instructions="x", name="office", version="1")
AGENTS = Agents({"office": OFFICE, "sales": Agent(instructions="y", name="sales", version="2")}, OFFICE)


def answer(**said: Any) -> bytes:
    return json.dumps({"call_inbound": said}).encode()


def test_the_question_has_the_shape_of_an_inbound_webhook() -> None:
    assert question("CA1", PLAN, AGENTS) == {
        "event": "call_inbound",
        "call_inbound": {
            "agent_id": "office",
            "from_number": "+15550006",
            "to_number": "+15550001",
            "call_sid": "CA1",
            "account_sid": "AC1",
            "direction": "inbound",
        },
    }


def test_the_answer_may_choose_the_agent_its_variables_and_some_of_its_keys() -> None:
    body = answer(
        override_agent_id="sales",
        dynamic_variables={"name": "Ada", "orders": 3, "vip": True, "none": None},
        agent_override={"voice": "cedar"},
        metadata={"whatever": [1]},
    )
    plan, order = answered(body, PLAN, AGENTS)
    variables, overrides = {"name": "Ada", "orders": "3", "vip": "true"}, {"voice": "cedar"}
    assert plan == CallPlan("inbound", "AC1", "+15550006", "+15550001", "sales", variables, "2", 5, overrides)
    assert order is None


@pytest.mark.parametrize("body", [b"", b"{}", answer(), answer(override_agent_id="", agent_override={})])
def test_an_answer_that_says_nothing_changes_nothing(body: bytes) -> None:
    assert answered(body, PLAN, AGENTS) == (PLAN, None)


@pytest.mark.parametrize(
    ("said", "order"),
    [
        ({"reject": True}, Reject()),
        ({"reject": "busy"}, Reject("busy")),
        ({"reject": False}, None),
        ({"order": {"type": "hang_up"}}, HangUp()),
        ({"order": {"type": "conference", "name": "room"}}, Conference("room")),
        ({"order": {"type": "dial", "to": "+1 (555) 0100"}}, Dial("+15550100", "", 30)),
        ({"order": {"type": "dial", "to": "sip:a@b.c", "caller_id": "+1", "timeout_s": 9}}, Dial("sip:a@b.c", "+1", 9)),
    ],
)
def test_the_answer_may_give_an_order(said: dict[str, Any], order: Any) -> None:
    assert answered(answer(**said), PLAN, AGENTS) == (PLAN, order)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"<html>", "malformed"),
        (b"\xff", "malformed"),
        (b"[" * 10_000, "malformed"),
        (answer(dynamic_variables={"a": {}}), "malformed"),
        (answer(agent_override={"api_key_env": "secret"}), "malformed"),
        (answer(order={"type": "play"}), "malformed"),
        (answer(order={"type": "dial", "to": "030 secret"}), "malformed"),
        (answer(order={"type": "dial", "to": "+15550100", "timeout_s": 0}), "malformed"),
        (answer(override_agent_id="secret"), "unknown_agent"),
        (answer(dynamic_variables={"a": "secret" * 1_000}), "too_large"),
    ],
)
def test_an_answer_that_cannot_be_used_has_a_cause_and_is_not_quoted(body: bytes, cause: str) -> None:
    with pytest.raises(CallConfigError) as caught:
        answered(body, PLAN, AGENTS)
    assert caught.value.cause == cause
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
