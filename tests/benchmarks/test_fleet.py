"""The simulated fleet: no caller is lost from its books, and its rules are those of HAProxy and the product."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fleet_check import compared
from benchmarks.fleet_model import Call, Edge, Fleet, Provider
from benchmarks.fleet_parameters import Parameters, rows
from benchmarks.fleet_report import page
from benchmarks.fleet_scenarios import QUIET_S, SCENARIOS, steady, watched

ROOT = Path(__file__).parents[2]
# A tenth of the fleet, whose calls are short: every scenario takes well below a second.
SMALL = replace(
    Parameters(), cells=6, calls=300, max_calls=80, mean_call_s=60.0, drain_s=30.0, dials_per_s=40.0, dials_burst=40.0
)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "day"])
def test_every_caller_is_refused_ends_or_is_live(name):
    for result in SCENARIOS[name](SMALL, 3):
        counts = result.counts
        ended = counts.refused + counts.no_model + counts.finished + counts.left_between
        assert counts.arrived == ended + result.live, result.case


def test_every_place_belongs_to_a_live_call():
    fleet = Fleet(SMALL, 1)
    steady(fleet)
    fleet.after(20.0, fleet.kill, [fleet.cells[0]])
    watched(fleet, "", "", 60.0)
    placed = [call for cell in fleet.cells for call in cell.calls]
    assert len(placed) == len(set(placed)) <= fleet.live
    assert not any(call.is_over for call in placed)
    assert all(len(cell.calls) <= SMALL.max_calls for cell in fleet.cells)


def test_the_same_seed_gives_the_same_report():
    first, again, other = (page({"dials": SCENARIOS["dials"](SMALL, seed)}, "") for seed in (5, 5, 6))
    assert first == again != other


def test_the_ramp_of_a_new_cell_keeps_the_stampede_from_it():
    with_ramp, without = (each for each in SCENARIOS["new-cell"](SMALL, 2) if each.case.startswith("leastconn"))
    peak = "new calls in its fullest second"
    assert with_ramp.figures[peak] < without.figures[peak]


def full_cells(draws, *, full, cells=6):
    """A fleet whose first cells are full and, at this HAProxy, have the fewest connections."""
    fleet = Fleet(replace(SMALL, cells=cells, max_calls=9, draws=draws, edges=1), 1)
    for cell in fleet.cells[:full]:
        cell.calls |= {Call(-each, 1e9) for each in range(9)}
    for cell in fleet.cells[full:]:
        fleet.edges[0].sockets[cell.number] = {Call(-each, 1e9): None for each in range(5)}
    return fleet


def test_leastconn_goes_back_and_forth_between_two_full_cells_and_refuses():
    fleet = full_cells(0, full=2)
    fleet.arrive(60.0)
    assert (fleet.counts.refused, fleet.counts.refused_with_room) == (1, 1)


def test_random_draws_find_the_cell_with_room():
    fleet = full_cells(2, full=2)
    for _ in range(9):
        fleet.arrive(60.0)
    assert fleet.counts.refused == 0


def test_a_full_fleet_refuses():
    fleet = full_cells(2, full=6)
    fleet.arrive(60.0)
    assert (fleet.counts.refused, fleet.counts.refused_with_room) == (1, 0)


def test_a_cell_that_drains_gets_no_new_call_and_keeps_its_own():
    fleet = Fleet(SMALL, 1)
    steady(fleet)
    fleet.env.process(fleet.drain([fleet.cells[0]]))
    before = set(fleet.cells[0].calls)
    fleet.env.run(until=20.0)
    assert fleet.cells[0].calls < before
    assert fleet.counts.handed_over == 0
    fleet.env.run(until=SMALL.drain_s + 10)
    assert fleet.counts.handed_over > 0
    assert fleet.counts.refused == 0


def test_silence_after_a_lost_cell_is_the_detection_and_the_way_back():
    p = replace(SMALL, mean_call_s=3_600.0, calls=60, dials_per_s=1_000.0, dials_burst=1_000.0)
    fleet = Fleet(p, 1)
    fleet.settle(60)
    fleet.after(QUIET_S, fleet.kill, [fleet.cells[0]])
    watched(fleet, "", "", QUIET_S + 30.0)
    least = p.check_fall * p.check_s + p.redirect_least_s + p.dial_s + p.answer_s
    most = (p.check_fall + 1) * p.check_s + p.redirect_most_s + p.connect_s + p.dial_s + p.answer_s
    assert len(fleet.counts.silences) >= 9
    assert all(least <= silence <= most for silence in fleet.counts.silences)


@pytest.mark.parametrize(("gone_s", "is_lost"), [(5.0, False), (12.0, True), (60.0, True)])
def test_a_story_is_lost_when_the_store_was_gone_since_it_was_written(gone_s, is_lost):
    fleet = Fleet(SMALL, 1)
    steady(fleet)
    fleet.after(1.0, fleet.store_gone, gone_s)
    fleet.after(11.0, fleet.kill, [fleet.cells[0]])
    fleet.env.run(until=30.0)
    assert fleet.counts.handed_over > 0
    assert fleet.counts.without_story == (fleet.counts.handed_over if is_lost else 0)


def test_the_model_takes_a_burst_and_then_so_many_a_second():
    provider = Provider(per_s=10.0, burst=5.0)
    assert [provider.accepts(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert provider.accepts(0.1)
    assert not provider.accepts(0.1)


def test_a_haproxy_without_a_cell_says_so():
    fleet = Fleet(replace(SMALL, edges=1), 1)
    edge: Edge = fleet.edges[0]
    edge.is_up = [False] * SMALL.cells
    assert edge.choose(None) is None


REAL = """cut: The link of one cell after the other is cut
cuts 20, calls 1200, of the cut cells 401, lost 0
the media socket was closed after 1250 ms p50, 1490 at most
silence at the ear {p50} ms p50, {most} at most
sessions that were not told all of the conversation: 0
"""


def test_what_real_cells_showed_is_compared_figure_by_figure():
    lines, agrees = compared(REAL.format(p50=2_250, most=2_900), 1)
    assert agrees, lines
    lines, agrees = compared(REAL.format(p50=9_000, most=9_900), 1)
    assert not agrees
    assert [line.startswith("FAR") for line in lines] == [False, True, True, False, False]
    with pytest.raises(ValueError, match=r"not what .* prints"):
        compared("nothing", 1)


# --- the parameters are what their sources say ---


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (r"agent-inter (\d+)s", "agent_s"),
        (r"check inter (\d+)ms", "check_s"),
        (r"\bfall (\d+)", "check_fall"),
        (r"timeout connect (\d+)m?s", "connect_s"),
        (r"^ +retries (\d+)", "retries"),
        (r"^ +balance random\((\d+)\)", "draws"),
    ],
)
def test_a_parameter_of_haproxy_is_that_of_its_configuration(pattern, value):
    text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None
    scale = 1_000 if found[0].endswith("ms") else 1
    assert int(found[1]) / scale == getattr(Parameters(), value)


def test_parameters_of_the_settings_are_their_defaults():
    example = (ROOT / ".env.example").read_text()
    assert f"\nDRAIN_SECONDS={Parameters().drain_s:g}\n" in example
    assert f"\nMODEL_RECONNECT_SECONDS={Parameters().reconnect_s:g}\n" in example


def test_every_parameter_names_its_source_and_files_among_them_exist():
    for _, _, source in rows():
        assert source
        for name in re.findall(r"\b(?:docs|deploy|gateway)/[\w/.]+\.\w+", source):
            assert (ROOT / name).exists(), name
