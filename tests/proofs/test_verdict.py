"""The promises that a verdict compares a call with."""

from __future__ import annotations

from simulator.carrier.call import CarrierWarning, Lag

from .judged_call import MS, START, Line


def test_cancels_errors_warnings_and_the_carriers_own_lateness_are_problems() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.responses[0]["cancels"] = 2
    line.errors = [
        {"at_ns": 1, "code": "response_cancel_not_active", "message": ""},
        {"at_ns": 1, "code": "invalid_value", "message": ""},
    ]
    line.warnings = [CarrierWarning(31951, START, "extra field")]
    line.lags = [Lag(START, 80 * MS)]
    problems = "\n".join(line.verdict().problems())
    for part in ("80 ms late", "cancelled 2 times", "not_active", "invalid_value", "31951"):
        assert part in problems


def test_a_late_carrier_alone_is_not_a_problem() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.lags = [Lag(START, 80 * MS)]
    verdict = line.verdict()
    assert verdict.lag_max_ms == 80
    assert verdict.problems() == []


def test_a_call_without_any_speech_is_a_problem() -> None:
    verdict = Line().verdict()
    assert verdict.problems() == ["The caller heard nothing."]
    assert verdict.lines()


def test_a_clear_counts_what_it_cut_as_unheard() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    answer = line.item(6000, created_ms=1900)
    line.ear.media(answer, START + 2000 * MS)
    line.ear.clear(START + 3040 * MS)
    line.speak(3000, 4000)
    line.hold(2, 1040)
    line.pace(line.item(500, created_ms=4001), 4300)
    verdict = line.verdict()
    assert verdict.problems(barge_in="clear", lead_ms=400) == []
    assert verdict.interruptions[0].silence_ms == 40
    assert verdict.problems() == ["Twilio's buffer was flushed (`clear`): 1."]


def test_draining_after_an_interruption_is_a_fault_unless_it_was_asked_for() -> None:
    line = Line()
    line.pace(line.item(3000), 200)
    line.speak(1000, 1800)
    line.pace(line.item(500, created_ms=3300), 3400)
    verdict = line.verdict()
    assert verdict.problems()
    assert verdict.problems(barge_in="drain") == []
