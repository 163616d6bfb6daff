"""The judge of the key scenarios, and a secret entry that outlives its worker."""

from __future__ import annotations

from typing import Any

import pytest

from aibridge.agents import rules_of
from aibridge.core.keypad import IN_WORDS, in_words
from proofs.cell.cell import Cell, default_agent
from proofs.cell.toolbox import VirtualTool
from proofs.key_scenarios import press, told_once
from shared.settings import Settings
from simulator.carrier.caller import AfterAnswer, HangUp
from simulator.model.behaviour import Behaviour


def said(*entries: str, is_answered: bool = True) -> str:
    told = [{"item_id": f"told_{n}", "text": in_words(entry)} for n, entry in enumerate(entries)]
    events: list[dict[str, Any]] = [{"dir": "out", "type": "x", "item_id": each["item_id"]} for each in told]
    session = {"told": told, "events": events, "errors": []}
    if is_answered:
        events.append({"dir": "out", "type": "response.created"})
    return told_once("1", "2")(None, [session])  # type: ignore[arg-type]  # the verdict plays no part


def test_entries_that_are_told_once_and_answered_are_right() -> None:
    assert said("1", "2") == ""


@pytest.mark.parametrize("entries", [("1",), ("2", "1"), ("1", "2", "2"), ()])
def test_any_other_telling_is_a_fault(entries: tuple[str, ...]) -> None:
    assert "was told" in said(*entries)


def test_an_entry_without_an_answer_is_a_fault() -> None:
    assert "no answer" in said("1", "2", is_answered=False)


@pytest.mark.parametrize("at_ms", [8_000, 8_700, 9_400])
def test_a_secret_entry_reaches_its_tool_across_the_death_of_a_worker_and_the_model_never(at_ms: int) -> None:
    agent = default_agent({"keypad": {"secret": True}})
    uses_tool = Behaviour(responses=(Behaviour(tool_call="check"),))
    cell = Cell(workers=2, agent=agent, rules=rules_of(agent, Settings(_env_file=None)), tools={"check": VirtualTool()})  # type: ignore[call-arg]  # pydantic's
    script = (*press("4071#", AfterAnswer(ms=8_000), 300), HangUp(AfterAnswer(ms=22_000)))
    phone = cell.call(script, (Behaviour(), uses_tool))
    cell.run(300 + at_ms)
    (holder,) = [worker for worker in cell.workers if worker.calls.by_number]
    holder.kill(60_000)
    cell.run_out()
    assert set(cell.toolbox.digits.values()) == {"4071"}
    sessions = cell.result(phone).sessions
    assert [each["text"] for each in sessions[-1]["told"] if each["text"].startswith(IN_WORDS)] == [
        in_words("4 secret keys")
    ]
    assert "4071" not in repr(sessions)
