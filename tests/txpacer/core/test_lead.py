"""The lead: up at once, down slowly, never beyond its bounds."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from txpacer.core.lead import (
    AGAIN_NS,
    FALL_NS,
    HOLD_NS,
    MARGIN_NS,
    REPAIR_NS,
    START_NS,
    UNKNOWN_NS,
    Lead,
    start_lead,
)

MS = 1_000_000
T0 = 1_000_000 * MS


def lead(start_ms: int = 120) -> Lead:
    return Lead(start_ms * MS, min_ns=60 * MS, max_ns=180 * MS, step_ns=10 * MS)


def test_a_delay_raises_the_target_at_once_to_what_would_have_hidden_it():
    own = lead()
    own.delayed(115 * MS, T0)
    assert own.target_ns == 140 * MS
    assert own.needed_ns == 115 * MS + MARGIN_NS


def test_a_delay_beyond_the_maximum_is_remembered_as_what_was_needed():
    own = lead()
    own.delayed(250 * MS, T0)
    assert own.target_ns == 180 * MS
    assert own.needed_ns == 270 * MS


def test_a_delay_that_no_lead_would_have_shortened_by_much_leaves_the_target_where_it_is():
    own = lead()
    for delay_ms in (400, 300, 200, 100, 0):  # the answers to pings of one stall, which come together
        own.delayed(delay_ms * MS, T0)
    assert own.needed_ns == 420 * MS
    for ms in range(0, 19_900, 100):
        own.delayed(MS, T0 + ms * MS)
        assert own.target_ns == 120 * MS
    own.delayed(100 * MS, T0 + 19_900 * MS)
    assert own.target_ns == 120 * MS
    own.delayed(130 * MS, T0 + 20_000 * MS)
    assert own.target_ns == 150 * MS


def test_a_loss_that_is_seen_in_part_raises_the_target_to_what_a_whole_one_costs():
    own = lead(start_ms=60)
    own.round_trip_ns = 60 * MS
    own.delayed(50 * MS, T0)
    assert own.target_ns == 70 * MS, "shorter than a round trip: no loss"
    own.delayed(65 * MS, T0 + 200 * MS)
    assert own.target_ns == 60 * MS + REPAIR_NS + MARGIN_NS + 5 * MS == 130 * MS


def test_where_losses_follow_each_other_the_target_hides_a_repair_that_is_lost():
    own = lead(start_ms=60)
    own.round_trip_ns = 40 * MS
    for ms in (0, 100, 200):  # several pings see one loss
        own.delayed(50 * MS, T0 + ms * MS)
    assert own.target_ns == 40 * MS + REPAIR_NS + MARGIN_NS + 5 * MS == 110 * MS
    own.delayed(50 * MS, T0 + AGAIN_NS + 300 * MS)
    assert own.target_ns == 110 * MS
    own.delayed(50 * MS, T0 + AGAIN_NS + 3_000 * MS)
    assert own.target_ns == 150 * MS


def test_after_a_delay_the_target_holds_and_then_falls_step_by_step():
    own = lead()
    own.delayed(150 * MS, T0)
    targets = []
    for ms in range(0, 60_000, 100):
        own.delayed(0, T0 + ms * MS)
        targets.append((ms, own.target_ns // MS))
    falls = [ms for (ms, now), (_, before) in zip(targets[1:], targets, strict=False) if now < before]
    assert falls[0] * MS == HOLD_NS
    assert {after - before for before, after in itertools.pairwise(falls)} == {FALL_NS // MS}
    assert targets[-1][1] == 60


def test_a_delay_that_the_lead_hides_keeps_it_from_falling_below_what_hides_the_next_one():
    own = lead()
    targets = set()
    for ms in range(0, 30_000, 100):
        own.delayed((85 if ms % 4_000 == 0 else 0) * MS, T0 + ms * MS)
        targets.add(own.target_ns // MS)
    assert min(targets) == own.target_ns // MS == 110


def test_on_a_path_that_never_showed_a_delay_the_target_holds_for_the_greeting_and_falls_quickly():
    own = lead()
    for ms in range(0, 6_000, 100):
        own.delayed(MS, T0 + ms * MS)
        assert ms * MS >= START_NS or own.target_ns == 120 * MS
    assert own.target_ns == 60 * MS


def test_of_an_unknown_path_one_lost_frame_is_expected_until_it_has_proved_clean():
    own = lead()
    own.expect_losses(100 * MS, T0)
    assert own.target_ns == 100 * MS + REPAIR_NS + MARGIN_NS + 5 * MS == 170 * MS
    for ms in range(0, 18_000, 100):
        own.delayed(MS, T0 + ms * MS)
        assert ms * MS >= UNKNOWN_NS or own.target_ns == 170 * MS
    assert own.target_ns == 60 * MS
    assert own.needed_ns == MS + MARGIN_NS, "nothing was needed"


def test_a_first_delay_confirms_what_was_expected_and_holds_it():
    own = lead()
    own.expect_losses(100 * MS, T0)
    own.delayed(50 * MS, T0 + 9_000 * MS)
    for ms in range(9_100, 28_900, 100):
        own.delayed(MS, T0 + ms * MS)
        assert own.target_ns == 170 * MS


def test_where_a_loss_would_hardly_be_heard_or_other_calls_met_none_the_target_stays_at_its_start():
    own = lead()
    own.expect_losses(20 * MS, T0)
    assert own.target_ns == 120 * MS
    proved = Lead(120 * MS, min_ns=60 * MS, max_ns=180 * MS, step_ns=10 * MS, is_unproved=False)
    proved.expect_losses(100 * MS, T0)
    assert proved.target_ns == 120 * MS


def test_a_start_that_other_calls_needed_is_held_like_an_own_need():
    known = Lead(160 * MS, min_ns=60 * MS, max_ns=180 * MS, step_ns=10 * MS, is_known=True)
    known.expect_losses(20 * MS, T0)
    for ms in range(0, 19_900, 100):
        known.delayed(MS, T0 + ms * MS)
    assert known.target_ns == 160 * MS


@given(st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 5_000)), max_size=80))
def test_the_target_stays_within_its_bounds_and_on_the_grid(samples):
    own, now_ns = lead(), T0
    for delay_ms, after_ms in samples:
        now_ns += after_ms * MS
        own.delayed(delay_ms * MS, now_ns)
        assert 60 * MS <= own.target_ns <= 180 * MS
        assert own.target_ns % (10 * MS) == 0


def test_a_new_line_starts_from_what_most_paths_need_and_never_below_the_default():
    assert start_lead([], 120) == 120
    assert start_lead([60, 60, 60, 180], 120) == 180
    assert start_lead([60] * 9 + [180], 120) == 120
