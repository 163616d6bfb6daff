"""A region moves by its table only."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

import pytest

from aibridge.core.chart import Chart, as_markdown, becomes, stays
from aibridge.core.successor import REGIONS
from aibridge.metrics import DEFINITIONS
from shared.metrics import Counter, Page
from tests.aibridge.bench import Bench

from .test_tables_in_docs import TABLES


class Door(Enum):
    OPEN = auto()
    SHUT = auto()


class Hand(Enum):
    PUSH = auto()
    KNOCK = auto()


class Sound(Enum):
    SLAM = auto()


DOOR = {
    **becomes((Door.OPEN,), Hand.PUSH, Door.SHUT, Sound.SLAM),
    **stays(Door, Hand.KNOCK),
}


@pytest.fixture
def illegal() -> Counter:
    return Page.in_memory(DEFINITIONS).counter("aibridge_illegal_events")


def test_a_legal_event_moves_the_region_and_returns_its_acts(illegal: Counter) -> None:
    door = Chart(DOOR, Door.OPEN, illegal)
    assert door.step(Hand.PUSH) == (Sound.SLAM,)
    assert door.state is Door.SHUT
    assert illegal.value == 0


def test_an_illegal_event_changes_nothing_and_is_counted(illegal: Counter) -> None:
    door = Chart(DOOR, Door.SHUT, illegal)
    assert not door.allows(Hand.PUSH)
    assert door.step(Hand.PUSH) == ()
    assert door.state is Door.SHUT
    assert illegal.value == 1


def test_an_event_that_a_region_ignores_is_legal(illegal: Counter) -> None:
    door = Chart(DOOR, Door.SHUT, illegal)
    assert door.step(Hand.KNOCK) == ()
    assert illegal.value == 0


def test_a_table_is_printed_with_one_line_per_effect_and_ignored_events_last() -> None:
    assert as_markdown(DOOR).splitlines()[2:] == [
        "| push | open | shut | slam |",
        "",
        "Without effect: knock in open, shut.",
    ]


def rows() -> Iterator[Any]:
    for name, table in TABLES.items():
        for (state, event), (then, acts) in table.items():
            yield pytest.param(table, state, event, then, acts, id=f"{name}: {event.name} in {state.name}")


@pytest.mark.parametrize(("table", "state", "event", "then", "acts"), list(rows()))
def test_a_step_of_each_region_is_the_row_of_its_table(
    illegal: Counter, table: Any, state: Any, event: Any, then: Any, acts: Any
) -> None:
    chart = Chart(table, state, illegal)
    assert chart.step(event) == acts
    assert chart.state is then


@pytest.mark.parametrize("name", TABLES)
def test_each_state_of_each_region_can_be_reached(name: str) -> None:
    table = TABLES[name]
    kind = type(next(iter(table))[0])
    reached = {then for then, _ in table.values()}
    begins = {next(iter(kind))} | {region(Bench().talk).state for key, region in REGIONS.items() if key == name}
    # The session begins with a dial, the notice and the greeting where the agent has them; a recording is text at once.
    assert set(kind) <= reached | begins
