from __future__ import annotations

from gateway.core.neighbours import SILENT_NS, Neighbours


def test_a_cell_is_missing_everything_at_first_and_says_what():
    neighbours = Neighbours(2)
    assert neighbours.missing(0) == ["txpacer does not answer", "no aibridge worker answers"]
    assert neighbours.pick(0) is None
    neighbours.pacer_answered(1, 0)
    neighbours.worker_answered(1, ready=False, calls=0, now_ns=0)
    assert neighbours.missing(0) == ["no aibridge worker is ready"]
    assert neighbours.pick(0) is None
    neighbours.worker_answered(1, ready=True, calls=0, now_ns=0)
    assert neighbours.missing(0) == []
    assert neighbours.pick(0) == 1


def test_who_is_silent_for_three_seconds_is_gone():
    neighbours = Neighbours(1)
    neighbours.pacer_answered(1, 0)
    neighbours.worker_answered(0, ready=True, calls=0, now_ns=5)
    assert neighbours.missing(SILENT_NS - 1) == []
    assert neighbours.missing(SILENT_NS) == ["txpacer does not answer"]
    assert neighbours.pick(SILENT_NS) is None
    neighbours.pacer_answered(1, SILENT_NS)
    assert neighbours.missing(SILENT_NS + 5) == ["no aibridge worker answers"]


def test_the_worker_with_the_fewest_calls_is_picked_offers_included():
    neighbours = Neighbours(3)
    neighbours.pacer_answered(1, 0)
    neighbours.worker_answered(0, ready=True, calls=2, now_ns=0)
    neighbours.worker_answered(1, ready=True, calls=1, now_ns=0)
    neighbours.worker_answered(2, ready=False, calls=0, now_ns=0)
    assert neighbours.pick(0) == 1
    neighbours.offered(1)
    neighbours.offered(1)
    assert neighbours.pick(0) == 0
    neighbours.worker_answered(1, ready=True, calls=1, now_ns=0)
    assert neighbours.pick(0) == 1


def test_the_calls_of_a_cell_are_those_of_its_workers_and_what_was_offered_since():
    neighbours = Neighbours(3)
    assert neighbours.calls(0) == 0
    neighbours.worker_answered(0, ready=True, calls=2, now_ns=0)
    neighbours.worker_answered(1, ready=False, calls=1, now_ns=SILENT_NS)
    neighbours.offered(0)
    assert neighbours.calls(SILENT_NS - 1) == 4
    assert neighbours.calls(SILENT_NS) == 1


def test_another_epoch_is_a_restart_and_the_first_one_is_not():
    neighbours = Neighbours(1)
    assert not neighbours.pacer_answered(1, 0)
    assert not neighbours.pacer_answered(1, 0)
    assert neighbours.pacer_answered(2, 0)


def test_everyone_is_there_once_each_has_answered():
    neighbours = Neighbours(2)
    neighbours.pacer_answered(1, 0)
    neighbours.worker_answered(0, ready=True, calls=0, now_ns=0)
    assert neighbours.missing(0) == []
    assert not neighbours.everyone_is_there(0)
    neighbours.worker_answered(1, ready=False, calls=0, now_ns=0)
    assert neighbours.everyone_is_there(0)
    assert not neighbours.everyone_is_there(SILENT_NS)


def test_any_worker_knows_of_another_gateway():
    neighbours = Neighbours(2)
    assert not neighbours.another_gateway_takes_calls(0)
    neighbours.worker_answered(0, ready=True, calls=0, now_ns=0)
    neighbours.worker_answered(1, ready=True, calls=0, now_ns=0, other_gateways=1)
    assert neighbours.another_gateway_takes_calls(0)
    assert not neighbours.another_gateway_takes_calls(SILENT_NS)


def test_a_worker_that_does_not_exist_is_not_there():
    assert not Neighbours(1).worker_is_there(1, 0)
    assert not Neighbours(1).worker_is_there(-1, 0)
