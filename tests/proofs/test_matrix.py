"""Every scenario of turn taking in virtual time, as in `python -m proofs.matrix`."""

from __future__ import annotations

import pytest

from aibridge.core.rules import Rules
from proofs.cell.cell import Cell, default_agent
from proofs.matrix import carry
from proofs.matrix_rows import row
from proofs.scenario import Scenario
from proofs.scenarios import all_scenarios
from shared.plan import Fallback

TOLERANCE_MS = 10
SCENARIOS = {scenario.name: scenario for scenario in all_scenarios()}
CROSSINGS = [name for name in SCENARIOS if "may cross" in name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_breaks_no_promise(name: str) -> None:
    scenario = SCENARIOS[name]
    result = carry(scenario)
    outcome = row(scenario, result.record, result.sessions, tolerance_ms=TOLERANCE_MS)
    assert outcome.problems == []


def test_some_cancels_of_the_sweep_cross_the_end_of_their_response() -> None:
    crossed = [name for name in CROSSINGS if _metric(SCENARIOS[name], "aibridge_cancel_not_active")]
    assert 0 < len(crossed) < len(CROSSINGS)


def _metric(scenario: Scenario, name: str) -> float:
    return carry(scenario).talk.page.counter(name).value


def test_the_same_seed_gives_the_same_call() -> None:
    scenario = SCENARIOS["answer: three in a row, each interrupted"]
    first, second = carry(scenario), carry(scenario)
    assert first.record.ear == second.record.ear
    assert first.to_model == second.to_model


def test_the_estimated_ear_agrees_with_twilios_marks() -> None:
    result = carry(SCENARIOS["answer: three in a row, each interrupted"])
    drift = result.talk.page.histogram("aibridge_mark_drift_seconds")
    assert drift.count >= 4
    marks = [u for u in map(result.talk.conversation.utterances.get, range(1, 20)) if u is not None and u.mark_ns]
    assert marks
    # There and back: two hops to the carrier, one to the gateway, one to aibridge, and the pacer's tick.
    assert all(abs((u.mark_ns or 0) - (u.settled_ns or 0)) <= 10_000_000 for u in marks)


def test_a_new_session_is_told_what_was_said_before_the_first_request() -> None:
    result = carry(SCENARIOS["loss: in mid-sentence"])
    second = [kind for _, session, kind in result.to_model if session == 2]
    assert second[0] == "session.update"
    assert second[1:4] == ["conversation.item.create"] * 3  # the greeting, the caller, and what was said of the answer
    assert second[4] == "response.create"


def test_the_renewal_of_a_session_is_inaudible() -> None:
    result = carry(SCENARIOS["renewal: every 6 s, between turns"])
    assert result.talk.page.counter("aibridge_renewals").value >= 2
    assert len(result.sessions) >= 3


def test_without_a_model_the_call_goes_on_with_the_twiml_within_ten_seconds() -> None:
    result = carry(SCENARIOS["loss: the model never comes back"])
    assert result.talk.end_call is not None
    assert result.talk.end_call.order == Fallback()
    lost_ns = result.sessions[0]["closed_ns"]
    assert 0 < result.record.ended_ns - lost_ns <= 10_500_000_000


def test_the_model_is_told_what_was_heard_of_a_recorded_greeting() -> None:
    result = carry(SCENARIOS["recorded greeting: interrupted before there is a model"])
    turn = result.talk.conversation.history.turns[0]
    assert turn.interrupted
    assert turn.text.startswith(turn.heard_text)
    assert 0 < len(turn.heard_text) < len(turn.text)


def test_with_a_frozen_pacer_the_model_is_told_the_truth_after_a_while() -> None:
    scenario = SCENARIOS["answer: one item, interrupted at 4000 ms"]
    cell = Cell(agent=default_agent({}), rules=Rules())
    phone = cell.call(scenario.script, scenario.behaviours)
    cell.clock.after(9_300, cell.pacer.kill)
    cell.run_out(17_000)
    talk = cell.result(phone).talk
    assert talk is not None
    assert not talk.conversation.playout.awaits_truth()
