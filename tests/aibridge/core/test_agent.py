"""An agent in a call."""

from __future__ import annotations

from aibridge.core.agent import Agent, retold
from aibridge.core.rules import Line
from shared.plan import CallPlan, Fallback, HangUp

PLAN = CallPlan(from_number="+15550006", to_number="+15550001", variables={"name": "Ada"}, made_ms=1_764_028_800_000)


def test_the_notice_is_said_only_when_the_call_is_recorded() -> None:
    chosen = Agent(instructions="x", greeting="Hello.", recording_notice="This call is recorded.")
    assert chosen.is_recorded("on")
    assert not chosen.is_recorded("off")
    assert not Agent(instructions="x", recording="off").is_recorded("on")
    assert Agent(instructions="x", recording="on").is_recorded("off")
    assert chosen.script(recorded=False).notice.text == ""
    assert chosen.script(recorded=True).notice.text == "This call is recorded."
    assert chosen.script(recorded=True).greeting.text == "Hello."


def test_a_recorded_fallback_ends_the_call_when_no_number_follows() -> None:
    chosen = Agent(instructions="x", fallback="Sorry.", fallback_audio=b"sorry")
    assert chosen.script(fallback_ends_call=True).fallback_order == HangUp()
    assert chosen.script().fallback_order == Fallback()
    assert Agent(instructions="x").script(fallback_ends_call=True).fallback_order == Fallback()


def test_instructions_and_greeting_hold_the_variables_of_the_call() -> None:
    agent = Agent(
        instructions="Talk to {{name}} from {{ from_number }}, a {{mood}} caller, on {{weekday}}, {{date}}, {{time}}.",
        greeting="Hello {{name}}.",
        timezone="Europe/Berlin",
        variables={"name": "caller", "mood": "new"},
    )
    in_call = agent.in_call(PLAN)
    assert in_call.instructions == ("Talk to Ada from +15550006, a new caller, on Tuesday, 2025-11-25, 01:00.")
    assert in_call.script().greeting == Line("Hello Ada.")


def test_a_variable_that_the_agent_does_not_declare_changes_nothing() -> None:
    agent = Agent(instructions="Call {{to_number}}.")
    assert agent.in_call(CallPlan(variables={"to_number": "x"})).instructions == "Call unknown."


def test_the_story_has_the_agent_without_its_recordings() -> None:
    agent = Agent(instructions="x", name="sales", version="1", greeting="Hi.", greeting_audio=b"hi", numbers=("+1",))
    told = retold(agent.told())
    assert told == Agent(instructions="x", name="sales", version="1", greeting="Hi.", numbers=("+1",))
    assert retold(b"") is retold(b"junk") is None
