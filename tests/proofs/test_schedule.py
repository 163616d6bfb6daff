"""The schedule of harm, a function of its seed."""

from __future__ import annotations

from itertools import pairwise

from proofs.schedule import DECK, LONG_S, PAUSE_S, QUIET_S, schedule


def test_a_seed_always_gives_the_same_schedule_and_another_seed_another_one() -> None:
    assert schedule(1, 300) == schedule(1, 300)
    assert schedule(1, 300) != schedule(2, 300)


def test_every_kind_of_harm_comes_and_none_before_the_last_is_survived() -> None:
    for seed in range(10):
        acts = schedule(seed, 300)
        done = {(act.kind, act.target, act.seconds >= LONG_S[0]) for act in acts}
        assert done == {(kind, target, length == LONG_S) for kind, target, length in DECK}
        assert acts[0].at_s >= QUIET_S
        assert acts[-1].at_s <= 300 - QUIET_S
        assert all(after.at_s - before.at_s - before.seconds >= PAUSE_S[0] - 0.02 for before, after in pairwise(acts))
