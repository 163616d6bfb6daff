"""The demo: its call in virtual time, and the restaurant's agent and tools, which are the real ones."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from proofs.cell.cell import Cell, default_agent
from proofs.cell.toolbox import VirtualTool
from proofs.judge import judge
from shared.agents.directory import read_file
from simulator.carrier.call import STREAM_CLOSED
from simulator.model.behaviour import Behaviour
from simulator.model.script import made_arguments, scripts
from simulator.voice import clip
from toolbox.decorator import CallContext, Options, ToolError
from toolbox.runners.signatures import Signature
from twentyms.demo import LIMIT_S, SCRIPT
from twentyms.here import RESTAURANT

CALL = CallContext("CA1", "call_1", "restaurant", "inbound", "+15550001", "+15550100")
SCRIPT_OF_RESTAURANT = next(script for script in scripts() if script.tools)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The restaurant's tools, with bookings of their own."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    spec = importlib.util.spec_from_file_location("restaurant_tools", RESTAURANT.with_name("restaurant_tools.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def step(tool: str) -> tuple[dict[str, object], list[str]]:
    """The arguments with which the script calls a tool, and the parts of answers that it knows."""
    found = next(step for step in SCRIPT_OF_RESTAURANT.steps if step.tool == tool)
    return found.arguments, [answer.part for answer in found.answers]


def test_the_call_of_the_demo_keeps_every_promise_and_ends_with_the_ais_goodbye(tools: ModuleType) -> None:
    answers = {
        "opening_hours": tools.opening_hours(**step("opening_hours")[0]),
        "book_table": tools.book_table(**step("book_table")[0], call=CALL),
    }
    cell = Cell(agent=default_agent({}), tools={name: VirtualTool(20, says=text) for name, text in answers.items()})
    phone = cell.call(SCRIPT, (Behaviour.embedded("talk"),))
    cell.run_out(LIMIT_S * 1_000)
    result = cell.result(phone)
    verdict = judge(result.record, result.sessions)
    assert verdict.outcome == "hung-up-by-server"
    assert [each.text for each in verdict.faults() if not each.key.startswith(str(STREAM_CLOSED))] == []
    assert len(verdict.interruptions) == 3
    assert (verdict.cancels, verdict.unanswered) == (1, 0)
    said = [item["transcript"] for item in result.sessions[0]["items"]]
    for line in ("restaurant-open", "restaurant-booked", "go-ahead", "restaurant-goodbye"):
        assert any(clip(line).text.startswith(words[:20]) for words in said), line


def test_the_recorded_greeting_is_that_of_the_agent() -> None:
    agent, problems = read_file(RESTAURANT, "restaurant.toml")
    assert agent is not None
    assert not problems
    assert agent.file.greeting == clip(SCRIPT_OF_RESTAURANT.greeting).text


def test_the_script_knows_what_the_tools_answer(tools: ModuleType) -> None:
    arguments, parts = step("opening_hours")
    assert parts[0] in tools.opening_hours(**arguments)
    assert parts[1] in tools.opening_hours("Monday")
    arguments, parts = step("book_table")
    assert parts[0] in tools.book_table(**arguments, call=CALL)


def test_a_booking_is_made_once_and_a_full_restaurant_refuses(tools: ModuleType) -> None:
    for _ in range(2):
        tools.book_table("Saturday", "19:00", 38, "Ada", CALL)
    with pytest.raises(ToolError, match="There is no table for 4 on Saturday"):
        tools.book_table("Saturday", "20:00", 4, "Bob", CallContext(**(vars(CALL) | {"call_id": "call_2"})))
    with pytest.raises(ToolError, match="closed on Monday"):
        tools.book_table("Monday", "19:00", 2, "Ada", CALL)
    assert tools.database().execute("SELECT sum(guests) FROM booking").fetchone() == (38,)


class Address(BaseModel):
    city: str
    floor: Annotated[int, Field(gt=3)]


def order(
    what: Literal["pizza", "pasta"],
    to: Address,
    how_many: Annotated[int, Field(ge=2, le=9)],
    notes: list[str],
    tip: float | None,
    express: bool,
    call: CallContext,
    coupon: str = "",
) -> str:
    """Order something."""
    return what


def test_the_scripts_arguments_for_an_unknown_tool_fit_its_schema() -> None:
    signature = Signature(order, Options())
    made = made_arguments(json.loads(signature.offer.parameters))
    bound = signature.bind(json.dumps(made), CALL)
    assert (bound["what"], bound["to"].floor, bound["coupon"]) == ("pizza", 4, "")
