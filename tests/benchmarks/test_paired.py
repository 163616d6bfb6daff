"""Two checkouts beside each other: medians, ratios, and what is marked as worse."""

from __future__ import annotations

from benchmarks.paired import Row, figures, table

STEP = {
    "calls": 30,
    "cpu_total_ms": 6.0,
    "call_kb": 120.0,
    "rest_mb": 220.0,
    "start": {"p50": 4.0, "p99": 9.0},
    "lateness": {"txpacer": (0.1, 0.2, 0.5)},
    "gaps": 0,
}
# As `python -m benchmarks.pacing_cost` prints it.
ALONE = """\
txpacer, 150 lines speaking: 3.5 % of a core, 50.0 frames a second each
late by    p50 0.07  p99 0.20  p99.9 0.43  max 0.50 ms
cyclictest p50 0.01  p99 0.02  p99.9 0.03  max 0.04 ms
"""


def test_a_ratio_is_that_of_the_medians_and_more_than_3_percent_worse_is_marked() -> None:
    same = Row("same", [10.0, 11.0, 30.0], [10.0, 11.0, 12.0])
    worse = Row("worse", [10.0, 10.0], [10.4, 10.6])
    assert same.cells() == ("same", "11.00", "11.00", "1.000", "0.40 to 1.00")
    assert worse.cells() == ("worse", "10.00", "10.50", "1.050 !", "1.04 to 1.06")


def test_a_figure_that_was_zero_before_has_no_ratio() -> None:
    assert Row("gaps", [0.0], [2.0]).cells()[1:] == ("0.00", "2.00", "-", "")


def test_the_figures_of_a_run_name_their_step_and_txpacer_alone() -> None:
    found = figures([STEP, STEP | {"calls": 100, "cpu_total_ms": 5.0}], ALONE)
    assert found["CPU of all processes, ms per second of call, 30 calls"] == 6.0
    assert found["CPU of all processes, ms per second of call, 100 calls"] == 5.0
    assert found["memory at rest, MB"] == 220.0
    assert found["txpacer late, p99.9 below ms, 30 calls"] == 0.5
    assert found["txpacer alone, % of a core"] == 3.5
    assert found["txpacer alone, late, p99.9 ms"] == 0.43
    assert "txpacer alone" not in table(Row(title, [value], [value]) for title, value in figures([STEP], "").items())
