"""A fault that a scenario forces must come, in its number and within its bounds, and excuses no other fault."""

from __future__ import annotations

from proofs.scenario import Expected
from proofs.scenarios import all_scenarios
from proofs.verdict import Fault

GAP = Expected("gap", count=(1, 2), amount=(100, 200))


def test_a_forced_fault_is_excused_and_other_faults_are_not() -> None:
    cut = Fault("cut", "cut", 150)
    assert GAP.settle([Fault("gap", "gap", 150), cut]) == ([cut], [])


def test_a_forced_fault_that_does_not_come_is_a_problem() -> None:
    _, wrong = GAP.settle([])
    assert len(wrong) == 1


def test_a_forced_fault_that_comes_too_often_or_too_big_is_a_problem() -> None:
    for faults in (3 * [Fault("gap", "gap", 150)], [Fault("gap", "gap", 201)], [Fault("gap", "gap", 99)]):
        left, wrong = GAP.settle(faults)
        assert (left, len(wrong)) == ([], 1)


def test_an_error_with_another_code_is_not_the_forced_one() -> None:
    other = Fault("error", "", 1, "invalid_value")
    left, wrong = Expected("error", "server_error").settle([other])
    assert (left, len(wrong)) == ([other], 1)


def test_every_scenario_has_a_name_of_its_own() -> None:
    names = [scenario.name for scenario in all_scenarios()]
    assert len(set(names)) == len(names)
