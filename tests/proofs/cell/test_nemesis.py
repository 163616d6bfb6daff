"""The nemesis in virtual time: whatever dies, stops or is lost, each act excuses its victims within its bound."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from proofs.cell.nemesis import carry
from proofs.matrix import near_ear
from proofs.nemesis_check import check_run


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", range(1, 9))
def test_no_act_costs_more_than_its_bound_and_nobody_but_its_victims(seed: int) -> None:
    run = carry(seed)
    assert len(run.deeds) >= 5
    assert check_run(run.calls, run.deeds, run.left, run.effects) == []


@pytest.mark.parametrize("seed", [19, 20])
def test_early_pauses_cost_no_more_than_the_bound_of_an_act(seed: int) -> None:
    run = carry(seed, detectors=near_ear())
    assert check_run(run.calls, run.deeds, run.left, run.effects, early=True) == []


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = carry(3, seconds=30, calls=2), carry(3, seconds=30, calls=2)
    assert [call.ear for call, _ in first.calls] == [call.ear for call, _ in second.calls]
    assert first.deeds == second.deeds
