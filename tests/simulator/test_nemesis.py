"""The schedule of harm: a function of its seed."""

from __future__ import annotations

from itertools import pairwise

from simulator.nemesis import PAUSE_S, QUIET_S, schedule


def test_a_seed_gives_the_same_harm_every_time_and_another_seed_another() -> None:
    assert schedule(1, 300) == schedule(1, 300)
    assert schedule(1, 300) != schedule(2, 300)


def test_every_kind_of_harm_comes_and_none_before_the_last_is_survived() -> None:
    acts = schedule(1, 300)
    assert {act.kind for act in acts} == {"kill", "stop", "lose", "slow"}
    assert {act.target for act in acts} == {"", "txpacer", "aibridge", "gateway", "callbook"}
    assert acts[0].at_s >= QUIET_S
    assert acts[-1].at_s <= 300 - QUIET_S
    assert all(after.at_s - before.at_s >= PAUSE_S[0] - 0.02 for before, after in pairwise(acts))
