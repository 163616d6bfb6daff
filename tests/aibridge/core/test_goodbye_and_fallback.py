"""How a call ends."""

from __future__ import annotations

from aibridge.core.commands import (
    EndCall,
)
from aibridge.core.rules import Line, Script
from aibridge.models.port import AnswerTool
from shared.plan import HangUp
from tests.aibridge.bench import Bench


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
    assert bench.all(EndCall) == [EndCall(HangUp(), 1, "hang_up")]


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
