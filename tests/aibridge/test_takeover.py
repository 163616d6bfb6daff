"""A worker takes over a call from one that died: who speaks next."""

from __future__ import annotations

import pytest

from aibridge.core.commands import CreateResponse
from aibridge.core.history import Turn
from aibridge.core.memory import Memory, recall, remember

from .bench import Bench

GREETED = Turn(1, "ai", "i1", text="Hello.", received_bytes=8_000, heard_bytes=8_000)
ASKED = Turn(2, "caller", "u1", text="A question.")


def taken_over(memory: Memory, *unheard: tuple[int, int, int, bool, int]) -> Bench:
    bench = Bench(start=False)
    bench.talk.resume(memory, unheard, bench.ns)
    bench.talk.session_ready(bench.ns)
    return bench


def asked_for(bench: Bench) -> list[str]:
    bench.wait(5_000)
    return [command.purpose for command in bench.all(CreateResponse)]


def test_a_turn_that_nobody_answered_is_answered() -> None:
    assert asked_for(taken_over(Memory([GREETED, ASKED]))) == ["answer"]


def test_what_was_being_made_goes_on() -> None:
    bench = taken_over(Memory([GREETED, ASKED]), (3, 4_000, 800, False, 0))
    bench.heard(3)
    assert asked_for(bench) == ["continue"]


def test_where_everything_was_said_the_caller_is_waited_for() -> None:
    assert asked_for(taken_over(Memory([GREETED]))) == []


def test_words_that_only_the_dead_worker_heard_are_asked_for_again() -> None:
    bench = taken_over(Memory([GREETED], caller_speaks=True))
    bench.wait(1_900)
    assert bench.all(CreateResponse) == []
    assert asked_for(bench) == ["repeat"]


def test_unless_the_new_session_hears_the_rest_of_them() -> None:
    bench = taken_over(Memory([GREETED], caller_speaks=True))
    bench.wait(500)
    bench.speaks()
    bench.wait(300)
    bench.stops()
    bench.created()
    bench.audio(500)
    bench.audio_done()
    bench.response_done(items=("i1",))
    assert asked_for(bench) == []


@pytest.mark.parametrize("speaks", [True, False])
def test_memory_is_what_was_remembered(speaks: bool) -> None:
    bench = Bench()
    if speaks:
        bench.speaks()
    ledger = bench.talk.playout.ledger
    memory = recall(remember([GREETED, ASKED], ledger, caller_speaks=bench.talk.floor.caller_speaks))
    assert memory == Memory([GREETED, ASKED], caller_speaks=speaks)


def test_a_memory_holds_what_a_fresh_session_is_told_and_no_more() -> None:
    turns = [Turn(number, "caller", f"u{number}", text="word " * 2_000) for number in range(1, 11)]
    memory = recall(remember(turns, Bench().talk.playout.ledger, caller_speaks=False, base=(3, 480)))
    assert memory.turns == turns[-2:]
    assert memory.base == (3, 480)
