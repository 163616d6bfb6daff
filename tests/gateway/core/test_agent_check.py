from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.agent_check import LEAST, RAMP_NS, AgentCheck, weight
from shared.messages import WorkerState

from .bench import RULES, SECOND_NS, Bench


@pytest.mark.parametrize(
    ("age_s", "calls", "pressure", "percent"),
    [
        (0, 0, 0, LEAST),
        (6, 0, 0, 10),
        (30, 0, 0, 50),
        (60, 0, 0, 100),
        (3_600, 50, 0, 100),
        (3_600, 75, 0, 50),
        (3_600, 100, 0, LEAST),
        (3_600, 130, 0, LEAST),
        (3_600, 0, 0.5, 50),
        (3_600, 0, 1, LEAST),
        (30, 75, 0.5, 12),
    ],
)
def test_the_weight_grows_with_the_age_of_a_cell_and_falls_with_its_calls_and_its_lateness(
    age_s, calls, pressure, percent
):
    age_ns = age_s * SECOND_NS
    assert weight(age_ns=age_ns, calls=calls, max_calls=100, pressure=pressure, takes_calls=True) == percent


@given(st.integers(0, 2 * RAMP_NS), st.integers(0, 300), st.integers(1, 200), st.floats(0, 1), st.booleans())
def test_the_weight_is_a_percentage_that_never_drains(age_ns, calls, max_calls, pressure, takes_calls):
    share = weight(age_ns=age_ns, calls=calls, max_calls=max_calls, pressure=pressure, takes_calls=takes_calls)
    assert LEAST <= share <= 100


def test_a_cell_without_a_worker_stays_up_with_the_least_weight():
    assert weight(age_ns=RAMP_NS, calls=0, max_calls=1, pressure=0, takes_calls=False) == LEAST


def line(check: AgentCheck, now_ns: int, **how: bool | int) -> str:
    return check.line(now_ns, **{"calls": 0, "pressure": 0, "takes_calls": True, "drains": False, **how})


def test_the_ramp_begins_when_the_cell_can_take_calls():
    check = AgentCheck(100)
    assert line(check, 0, takes_calls=False) == "ready up 1%"
    assert line(check, 100 * SECOND_NS) == "ready up 1%"
    assert line(check, 145 * SECOND_NS) == "ready up 75%"


def test_a_gateway_that_was_started_again_beside_live_calls_has_no_ramp():
    assert line(AgentCheck(100), 0, calls=3) == "ready up 100%"


def test_a_cell_drains_when_its_last_gateway_drains():
    bench = Bench()
    assert bench.calls.agent_line(bench.now_ns) == "ready up 1%"
    bench.calls.offers.draining = True
    bench.says(0, WorkerState(0, True, 0, 1, 1))
    bench.now_ns += RAMP_NS // 100
    bench.says(0, WorkerState(0, True, 0, 1, 1))
    assert bench.calls.agent_line(bench.now_ns) == "ready up 1%"
    bench.says(0, WorkerState(0, True, 0, 1, 0))
    assert bench.calls.agent_line(bench.now_ns) == "drain"


def test_the_calls_of_all_gateways_lower_the_weight():
    bench = Bench(replace(RULES, max_calls=100))
    for worker, calls in ((0, 40), (1, 35)):
        bench.says(worker, WorkerState(worker, True, calls, 1))
    assert bench.calls.agent_line(bench.now_ns) == "ready up 50%"


def test_late_frames_lower_the_weight_before_the_cell_refuses_calls():
    bench = Bench(replace(RULES, max_calls=100))
    bench.says(0, WorkerState(0, True, 1, 1))
    for tick in range(100):
        bench.now_ns += 15_000_000
        late_ns = RULES.late_ns + 1 if tick % 40 == 0 else 0
        bench.calls.offers.lateness.observe(1, late_ns, bench.now_ns)
    bench.says(0, WorkerState(0, True, 1, 1))
    assert not bench.calls.offers.lateness.is_full(bench.now_ns)
    assert bench.calls.agent_line(bench.now_ns) == "ready up 40%"
