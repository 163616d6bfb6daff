"""One timer of each kind; each is given out once, the earliest first."""

from __future__ import annotations

from aibridge.core.timers import Due, Timers


def test_what_is_due_is_given_out_once_and_the_earliest_first() -> None:
    timers = Timers()
    timers.set(Due.DIAL, 30)
    timers.set(Due.ANSWER, 10)
    timers.set(Due.RENEW, 50)
    assert timers.next_due_ns() == 10
    assert timers.take(40) == [Due.ANSWER, Due.DIAL]
    assert timers.take(40) == []
    assert timers.next_due_ns() == 50


def test_a_kind_that_is_set_again_has_its_new_time_only() -> None:
    timers = Timers()
    timers.set(Due.ANSWER, 10)
    timers.set(Due.ANSWER, 20)
    assert timers.take(15) == []
    assert timers.take(20) == [Due.ANSWER]


def test_a_cancelled_kind_is_not_due() -> None:
    timers = Timers()
    timers.set(Due.ANSWER, 10)
    timers.cancel(Due.ANSWER)
    timers.cancel(Due.DIAL)
    assert not timers.is_set(Due.ANSWER)
    assert timers.next_due_ns() is None
