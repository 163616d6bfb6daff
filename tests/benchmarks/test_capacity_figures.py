"""The figures of a bench's step, and when they are void."""

from __future__ import annotations

from array import array

from benchmarks.capacity_figures import Figures, Spread
from benchmarks.capacity_report import table
from simulator.carrier.call import CallRecord, Lag, StreamRecord
from simulator.carrier.ear import Ear

MS = 1_000_000


def call(*lags: int) -> CallRecord:
    """A call of 10 s; each lag in ms."""
    stream = StreamRecord("MZ1", 1, 1 + 10_000 * MS, "caller", {})
    late = tuple(Lag(at, ms * MS) for at, ms in enumerate(lags))
    return CallRecord("CA1", 1, stream.ended_ns, (stream,), Ear().record(), (), (), (), array("q"), lags=late)


def test_a_void_step_is_not_the_limit_of_what_the_machine_carries() -> None:
    figures = Figures("s", 10, 30, gaps=3, gap_ms=50)
    assert figures.broken(200)
    figures.see_lags([call(60)], [{"lags": [], "deltas": 100}])
    assert figures.is_void
    assert figures.broken(200) == []


def test_single_milliseconds_are_void_when_the_bench_is_late_too_often() -> None:
    figures = Figures("s", 1, 10, start=Spread(1, 5.0, 5.0, 5.0))
    figures.see_lags([call(6, 6)], [{"lags": [], "deltas": 100}])
    assert not figures.is_late
    assert "VOID" not in table([figures])
    figures.see_lags([call(6, 6)], [{"lags": 2 * [{"late_ns": 6 * MS}], "deltas": 100}])
    assert figures.is_late
    assert not figures.is_void
    assert "5.0 / 5.0 VOID" in table([figures])


def test_cpu_and_memory_are_divided_by_the_calls_that_were_heard() -> None:
    figures = Figures("s", 10, 20.0, failed_calls=5)
    figures.weigh({"gateway": 1.0}, {}, {"gateway": 3_000.0}, 1_000.0)
    assert figures.cpu_ms == {"gateway": 10.0}
    assert figures.call_kb == 400


def test_the_memory_of_an_additional_call_is_the_growth_since_the_step_before() -> None:
    few, many = Figures("s", 10, 1, memory_mb={"a": 10}), Figures("s", 20, 1, memory_mb={"a": 10, "b": 1})
    many.follow(few)
    assert many.further_call_kb == 102.4


def test_a_figure_that_a_judge_does_not_measure_is_not_zero() -> None:
    row = next(line for line in table([Figures("s", 1, 1)]).splitlines() if line.startswith("bytes damaged"))
    assert row.endswith("- / - / -")
