from __future__ import annotations

import pytest

from benchmarks.budget import Steps, above
from benchmarks.budget_threads import Work, between
from benchmarks.capacity_figures import Figures


def test_a_parts_time_is_split_into_what_a_call_adds_and_what_the_cell_takes_anyway():
    steps = Steps()
    for calls in (10, 100):
        work = {"gateway": Work(10 * (0.040 + 0.001 * calls), 5_000), "txpacer": Work(10 * 0.020, 1_000)}
        steps.add(Figures("twentyms", calls, 10.0), 10.0, work)
    assert steps.slope_ms("gateway") == pytest.approx((1.0, 40.0))
    assert steps.slope_ms() == pytest.approx((1.0, 60.0))
    (row,) = (line.split() for line in steps.table().splitlines() if line.startswith("gateway"))
    assert row == ["gateway", "5.00", "1.40", "500", "500", "1.00", "40", "760"]


def test_a_thread_that_began_between_two_looks_counts_from_its_beginning():
    assert between({"a": Work(1.0, 5)}, {"a": Work(1.5, 7), "b": Work(0.5, 1)}) == {
        "a": Work(0.5, 2),
        "b": Work(0.5, 1),
    }


def test_only_what_is_above_its_budget_is_named():
    assert above([("gateway at rest, MB", 40.0, 32.0), ("txpacer at rest, MB", 10.0, 18.0)]) == [
        "gateway at rest, MB: 40.0, and the budget is 32"
    ]
