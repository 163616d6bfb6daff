"""The judge of the key scenarios: each entry is told once, in order, and answered."""

from __future__ import annotations

from typing import Any

import pytest

from aibridge.core.keypad import in_words
from proofs.key_scenarios import told_once


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
