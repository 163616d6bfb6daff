"""How a call ends."""

from __future__ import annotations

from aibridge.core.commands import (
    EndCall,
)
from aibridge.core.rules import Line, Rules, Script
from aibridge.models.port import AnswerTool
from shared.plan import HangUp
from tests.aibridge.bench import MS, Bench


def test_a_recorded_fallback_after_which_nobody_is_dialled_ends_the_call() -> None:
    script = Script(fallback=Line("Sorry.", bytes(800)), fallback_order=HangUp())
    bench = Bench(script=script)
    bench.fault("fatal")
    assert bench.all(EndCall) == [EndCall(HangUp(), 1, "the model is gone")]


def test_a_fatal_error_ends_the_call_with_the_fallback_and_others_do_not() -> None:
    bench = Bench()
    bench.fault()
    assert bench.all(EndCall) == []
    bench.fault("fatal")
    assert len(bench.all(EndCall)) == 1


def test_hang_up_waits_until_the_goodbye_was_heard() -> None:
    bench = Bench()
    bench.began()
    bench.speech(1_000)
    bench.calls()
    bench.ended()
    bench.ear()
    assert bench.all(AnswerTool) == [AnswerTool(1, '{"ok": true}')]
    assert bench.all(EndCall) == []
    bench.heard()
    assert bench.all(EndCall) == [EndCall(HangUp(), 1, "end_call")]


def test_a_caller_who_speaks_into_the_goodbye_is_not_hung_up_on() -> None:
    bench = Bench()
    bench.began()
    bench.speech(1_000)
    bench.calls()
    bench.ended()
    bench.ear()
    bench.speaks()
    bench.withdrawn(1, (1, 300))
    assert bench.all(EndCall) == []


def goodbye(rules: Rules | None = None) -> Bench:
    """The model has said goodbye and called end_call; the caller hears it."""
    bench = Bench(rules=rules)
    bench.began()
    bench.speech(3_000)
    bench.calls("end_call")
    bench.ended()
    bench.ear()
    return bench


def test_drain_does_not_hang_up_on_a_caller_who_speaks() -> None:
    bench = goodbye(Rules(barge_in="drain"))
    bench.speaks()
    bench.heard()
    assert bench.all(EndCall) == []
    bench.stops()
    bench.wait(100)
    assert bench.all(EndCall) == []


def test_drain_answers_a_caller_who_spoke_into_the_goodbye_and_keeps_the_call() -> None:
    bench = goodbye(Rules(barge_in="drain"))
    bench.speaks()
    bench.stops()
    bench.heard()
    bench.began(2)
    bench.speech(1_000, 2, 2)
    bench.ended(2)
    bench.ear(2)
    bench.heard(2)
    bench.wait(5_000)
    assert bench.all(EndCall) == []


def test_a_cough_into_the_goodbye_does_not_keep_the_call() -> None:
    bench = goodbye(Rules(confirm_ns=300 * MS))
    bench.speaks()
    bench.falls_silent()
    bench.wait(310)
    bench.stops()
    bench.began(2)
    bench.speech(500, 2, 2)
    bench.ended(2)
    bench.heard()
    bench.ear(2)
    bench.heard(2)
    assert len(bench.all(EndCall)) == 1
