"""A lost session is dialled again, an old one is renewed."""

from __future__ import annotations

import random

from aibridge.core.commands import (
    DialModel,
    EndCall,
)
from aibridge.core.reconnect_and_renewal import SESSION_TABLE, TRIES_MAX, Session, SessionAct, Sessions, SessionStep
from aibridge.core.rules import Rules
from aibridge.core.timers import Due, Timers
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import Ask, Tell
from shared.metrics import Page
from shared.plan import Fallback
from tests.aibridge.bench import MS, Bench

S = 1_000_000_000
ILLEGAL = Page.in_memory(DEFINITIONS).counter("aibridge_illegal_events")


def make(reconnect_s: int = 10) -> tuple[Timers, Sessions]:
    timers = Timers()
    sessions = Sessions(timers, ILLEGAL, reconnect_ns=reconnect_s * S, renew_ns=3_300 * S, rng=random.Random(3))
    sessions.start(0)
    return timers, sessions


def test_pauses_between_attempts_grow_with_jitter_until_the_time_is_over() -> None:
    timers, sessions = make()
    sessions.step(SessionStep.READY, 0)
    sessions.step(SessionStep.LOST, 60 * S)
    now_ns, tries = 60 * S, []
    while sessions.chart.state is not Session.GONE:
        due_ns = timers.next_due_ns()
        assert due_ns is not None
        for due in timers.take(due_ns):
            now_ns = due_ns
            if due is Due.DIAL:
                tries.append((due_ns - 60 * S) / 1e9)
                assert sessions.step(SessionStep.DIAL_DUE, now_ns) == (SessionAct.DIAL,)
                sessions.step(SessionStep.FAILED, now_ns)
            else:
                assert due is Due.GIVE_UP
                assert sessions.step(SessionStep.GIVE_UP_DUE, now_ns) == (SessionAct.FALL_BACK,)
    assert now_ns == 70 * S
    assert tries[0] <= 0.05
    assert 4 <= len(tries) <= 7
    assert timers.next_due_ns() is None


def test_two_calls_do_not_dial_in_the_same_instant() -> None:
    firsts = set()
    for seed in range(20):
        timers = Timers()
        sessions = Sessions(timers, ILLEGAL, reconnect_ns=10 * S, renew_ns=3_300 * S, rng=random.Random(seed))
        sessions.step(SessionStep.READY, 0)
        sessions.step(SessionStep.LOST, S)
        firsts.add(timers.next_due_ns())
    assert len(firsts) == 20


def test_sessions_that_come_and_go_end_in_the_fallback() -> None:
    timers, sessions = make()
    for number in range(2 * TRIES_MAX):
        sessions.step(SessionStep.READY, number * S)
        if sessions.step(SessionStep.LOST, number * S) == (SessionAct.FALL_BACK,):
            break
        timers.cancel(Due.DIAL)
        sessions.step(SessionStep.DIAL_DUE, number * S)
    assert sessions.chart.state is Session.GONE


def test_illegal_events_change_nothing() -> None:
    for line in Session:
        for event in SessionStep:
            _, sessions = make()
            sessions.chart.state = line
            if (line, event) not in SESSION_TABLE:
                assert sessions.step(event, 0) == ()
                assert sessions.chart.state is line


def test_a_lost_session_is_replaced_and_the_new_one_is_told_everything() -> None:
    bench = Bench()
    bench.speaks()
    bench.stops()
    bench.began()
    bench.speech(2_000, words="one two three four")
    bench.ear()
    bench.lost()
    bench.wait(100)
    assert bench.all(DialModel) == [DialModel()]
    bench.ready()
    told = bench.all(Tell)
    assert [(each.role, each.text) for each in told] == [
        ("caller", "(the caller said something that was not written down)"),
        ("ai", "one two three four"),
    ]
    assert bench.all(Ask)[-1].purpose == "continue"


def test_without_a_model_the_line_plays_its_speech_and_the_caller_gets_the_fallback() -> None:
    bench = Bench(rules=Rules(reconnect_ns=2_000 * MS))
    bench.answers()
    bench.lost()
    for _ in range(6):
        bench.wait(400)
        bench.dial_failed()
    bench.wait(2_000)
    assert bench.all(EndCall) == [EndCall(Fallback(), 1, "the model is gone")]
    assert 3 <= len(bench.all(DialModel)) <= 6


def test_a_session_is_renewed_between_turns_only() -> None:
    bench = Bench(rules=Rules(renew_ns=1_000 * MS))
    bench.answers()
    bench.wait(10)
    assert bench.all(DialModel) == [DialModel()]
    bench.ready()
    bench.wait(500)
    assert bench.all(Tell) == []  # the caller still hears the answer
    bench.heard()
    bench.wait(300)
    assert len(bench.all(Tell)) == 1
    assert bench.count("aibridge_renewals") == 1
