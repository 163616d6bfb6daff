"""The children of one source of tools in virtual time."""

from __future__ import annotations

from random import Random

import pytest

from toolbox.core.commands import Close, Halt, Kill, Lost, PoolCommand, Run, Spawn
from toolbox.core.pool import CLOSE_NS, GRACE_NS, IDLE_NS, RETRY_MAX_NS, RETRY_NS, START_NS, Pool

MS = 1_000_000


def started(*, places: int = 1, children_max: int = 1) -> Pool:
    """A pool with one child that is ready."""
    pool = Pool(places=places, children_max=children_max)
    assert pool.due_ns() == 0
    assert pool.tick(0) == [Spawn(1)]
    assert pool.ready(1, 0) == []
    return pool


def test_one_child_is_started_and_stays() -> None:
    pool = started()
    assert pool.due_ns() is None
    assert pool.tick(10 * IDLE_NS) == []


def test_a_child_of_python_tools_runs_one_call_at_a_time_and_others_get_children_of_their_own() -> None:
    pool = started(children_max=2)
    assert pool.want(1, 0) == [Run(1, 1)]
    assert pool.want(2, 0) == [Spawn(2)]
    assert pool.want(3, 0) == []
    assert pool.ready(2, 5 * MS) == [Run(2, 2)]
    assert pool.ended(1, 1, 6 * MS) == [Run(1, 3)]


def test_a_shared_child_runs_many_calls_at_a_time() -> None:
    pool = started(places=2)
    assert [pool.want(number, 0) for number in (1, 2, 3)] == [[Run(1, 1)], [Run(1, 2)], []]
    assert pool.ended(1, 2, 0) == [Run(1, 3)]


def test_a_call_that_does_not_stop_when_asked_costs_its_child_and_another_one_takes_the_next_call() -> None:
    pool = started(children_max=2)
    pool.want(1, 0)
    # The child will probably be killed: its successor starts meanwhile.
    assert pool.withdraw(1, 300 * MS) == [Halt(1, 1), Spawn(2)]
    assert pool.want(2, 301 * MS) == []
    assert pool.due_ns() == 300 * MS + GRACE_NS
    assert pool.tick(300 * MS + GRACE_NS) == [Kill(1)]
    assert pool.gone(1, 560 * MS) == [Lost(1)]
    assert pool.ready(2, 600 * MS) == [Run(2, 2)]


def test_a_call_that_stops_when_asked_costs_nothing() -> None:
    pool = started()
    pool.want(1, 0)
    pool.withdraw(1, 0)
    assert pool.ended(1, 1, 10 * MS) == []
    assert pool.tick(GRACE_NS) == []
    assert pool.want(2, GRACE_NS) == [Run(1, 2)]


def test_a_waiting_call_can_be_withdrawn() -> None:
    pool = started()
    pool.want(1, 0)
    pool.want(2, 0)
    assert pool.withdraw(2, 0) == []
    assert pool.ended(1, 1, 0) == []


def test_the_calls_of_a_child_that_dies_are_lost_and_another_child_starts_at_once() -> None:
    pool = started()
    pool.want(1, 0)
    pool.want(2, 0)
    assert pool.gone(1, 5 * MS) == [Lost(1), Spawn(2)]
    assert pool.ready(2, 6 * MS) == [Run(2, 2)]
    assert not pool.is_failing


def test_a_child_that_ends_after_its_answer_gets_no_other_call() -> None:
    pool = started()
    pool.want(1, 0)
    pool.want(2, 0)
    assert pool.ended(1, 1, 5 * MS, is_last=True) == []
    assert pool.gone(1, 6 * MS) == [Spawn(2)]
    assert pool.ready(2, 7 * MS) == [Run(2, 2)]


def test_children_that_do_not_start_are_tried_again_after_longer_and_longer_pauses() -> None:
    pool = Pool()
    now_ns = 0
    pauses = []
    for child in range(1, 10):
        assert pool.tick(now_ns) == [Spawn(child)]
        assert pool.gone(child, now_ns) == []
        due_ns = pool.due_ns()
        assert due_ns is not None
        pauses.append(due_ns - now_ns)
        now_ns = due_ns
    assert pauses[:3] == [RETRY_NS, 2 * RETRY_NS, 4 * RETRY_NS]
    assert pauses[-1] == RETRY_MAX_NS


def test_a_pool_that_cannot_start_loses_its_calls_at_once_until_a_child_is_ready() -> None:
    pool = Pool()
    pool.tick(0)
    assert pool.want(1, 0) == []
    assert pool.gone(1, 1 * MS) == [Lost(1)]
    assert pool.is_failing
    assert pool.want(2, 2 * MS) == [Lost(2)]
    assert pool.tick(1 * MS + RETRY_NS) == [Spawn(2)]
    pool.ready(2, 700 * MS)
    assert pool.want(3, 700 * MS) == [Run(2, 3)]


def test_a_further_child_that_cannot_start_costs_nothing_while_another_one_works() -> None:
    pool = started(children_max=2)
    pool.want(1, 0)
    assert pool.want(2, 0) == [Spawn(2)]
    assert pool.gone(2, 0) == []
    assert not pool.is_failing
    assert pool.ended(1, 1, 1 * MS) == [Run(1, 2)]


def test_a_child_that_never_becomes_ready_is_killed() -> None:
    pool = Pool()
    pool.tick(0)
    assert pool.due_ns() == START_NS
    assert pool.tick(START_NS) == [Kill(1)]
    assert pool.due_ns() is None
    pool.gone(1, START_NS)
    assert pool.is_failing


def test_children_beyond_the_first_end_when_they_are_idle() -> None:
    pool = started(children_max=3)
    for number in (1, 2, 3):
        pool.want(number, 0)
    pool.ready(2, 0)
    pool.ready(3, 0)
    for number in (1, 2, 3):
        pool.ended(number, number, 5 * MS)
    assert pool.due_ns() == 5 * MS + IDLE_NS
    assert pool.tick(5 * MS + IDLE_NS) == [Close(2), Close(3)]
    # One that does not end by itself is killed.
    assert pool.tick(5 * MS + IDLE_NS + CLOSE_NS) == [Kill(2), Kill(3)]


def test_a_retired_pool_ends_its_running_calls_and_starts_nothing_more() -> None:
    pool = started(children_max=1)
    pool.want(1, 0)
    pool.want(2, 0)
    assert pool.retire(0) == [Lost(2)]
    assert pool.want(3, 0) == [Lost(3)]
    assert not pool.is_over
    assert pool.ended(1, 1, 5 * MS) == [Close(1)]
    assert pool.gone(1, 6 * MS) == []
    assert pool.is_over
    assert pool.due_ns() is None


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_due_is_done_by_the_tick_so_no_timer_fires_in_vain(seed: int) -> None:
    """A due time in the past with nothing to do would keep the process awake."""
    random = Random(seed)
    pool = Pool(places=random.choice((1, 4)), children_max=2)
    now_ns = 0
    alive: set[int] = set()
    running: dict[int, int] = {}
    lost = 0

    def do(commands: list[PoolCommand]) -> None:
        nonlocal lost
        for command in commands:
            match command:
                case Spawn(child):
                    alive.add(child)
                case Run(child, number):
                    running[number] = child
                case Lost(number):
                    lost += 1
                    running.pop(number, None)

    for number in range(300):
        due_ns = pool.due_ns()
        if due_ns is not None and due_ns <= now_ns:
            commands = pool.tick(now_ns)
            assert commands, f"due at {due_ns}, and nothing to do at {now_ns}"
            do(commands)
            due_ns = pool.due_ns()
            assert due_ns is None or due_ns > now_ns
        now_ns = max(now_ns, due_ns or 0) if random.random() < 0.2 else now_ns + 50 * MS
        match random.randrange(5):
            case 0 | 1:
                do(pool.want(number, now_ns))
            case 2 if alive:
                do(pool.ready(random.choice(sorted(alive)), now_ns))
            case 3 if alive:
                child = random.choice(sorted(alive))
                alive.discard(child)
                do(pool.gone(child, now_ns))
            case 4 if running:
                withdrawn = random.choice(sorted(running))
                do(pool.withdraw(withdrawn, now_ns))
                if random.random() < 0.5:
                    do(pool.ended(running.pop(withdrawn), withdrawn, now_ns))
    assert lost
