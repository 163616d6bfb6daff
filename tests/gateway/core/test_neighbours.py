from __future__ import annotations

from gateway.core.neighbours import SILENT_NS, Neighbours


def test_a_new_gateway_misses_txpacer_and_its_workers_and_names_them():
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


def test_a_peer_that_is_silent_for_three_seconds_is_gone():
    neighbours = Neighbours(1)
    neighbours.pacer_answered(1, 0)
    neighbours.worker_answered(0, ready=True, calls=0, now_ns=5)
    assert neighbours.missing(SILENT_NS - 1) == []
    assert neighbours.missing(SILENT_NS) == ["txpacer does not answer"]
    assert neighbours.pick(SILENT_NS) is None
    neighbours.pacer_answered(1, SILENT_NS)
    assert neighbours.missing(SILENT_NS + 5) == ["no aibridge worker answers"]


def test_the_worker_with_the_fewest_calls_and_offers_is_picked():
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


def test_the_calls_of_a_cell_are_those_that_its_workers_report_and_later_offers():
    neighbours = Neighbours(3)
    assert neighbours.calls(0) == 0
    neighbours.worker_answered(0, ready=True, calls=2, now_ns=0)
    neighbours.worker_answered(1, ready=False, calls=1, now_ns=SILENT_NS)
    neighbours.offered(0)
    assert neighbours.calls(SILENT_NS - 1) == 4
    assert neighbours.calls(SILENT_NS) == 1


def test_a_new_epoch_is_a_restart_and_the_first_epoch_is_not():
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


def test_another_gateway_is_known_through_any_worker():
    neighbours = Neighbours(2)
    assert not neighbours.another_gateway_takes_calls(0)
    neighbours.worker_answered(0, ready=True, calls=0, now_ns=0)
    neighbours.worker_answered(1, ready=True, calls=0, now_ns=0, other_gateways=1)
    assert neighbours.another_gateway_takes_calls(0)
    assert not neighbours.another_gateway_takes_calls(SILENT_NS)


def test_a_worker_that_does_not_exist_is_not_live():
    assert not Neighbours(1).worker_is_there(1, 0)
    assert not Neighbours(1).worker_is_there(-1, 0)
