from __future__ import annotations

from gateway.core.cell import SILENT_NS, Cell


def test_a_cell_is_missing_everything_at_first_and_says_what():
    cell = Cell(2)
    assert cell.missing(0) == ["txpacer does not answer", "no aibridge worker answers"]
    assert cell.pick(0) is None
    cell.pacer_answered(1, 0)
    cell.worker_answered(1, ready=False, calls=0, now_ns=0)
    assert cell.missing(0) == ["no aibridge worker is ready"]
    assert cell.pick(0) is None
    cell.worker_answered(1, ready=True, calls=0, now_ns=0)
    assert cell.missing(0) == []
    assert cell.pick(0) == 1


def test_who_is_silent_for_three_seconds_is_gone():
    cell = Cell(1)
    cell.pacer_answered(1, 0)
    cell.worker_answered(0, ready=True, calls=0, now_ns=5)
    assert cell.missing(SILENT_NS - 1) == []
    assert cell.missing(SILENT_NS) == ["txpacer does not answer"]
    assert cell.pick(SILENT_NS) is None
    cell.pacer_answered(1, SILENT_NS)
    assert cell.missing(SILENT_NS + 5) == ["no aibridge worker answers"]


def test_the_worker_with_the_fewest_calls_is_picked_offers_included():
    cell = Cell(3)
    cell.pacer_answered(1, 0)
    cell.worker_answered(0, ready=True, calls=2, now_ns=0)
    cell.worker_answered(1, ready=True, calls=1, now_ns=0)
    cell.worker_answered(2, ready=False, calls=0, now_ns=0)
    assert cell.pick(0) == 1
    cell.offered(1)
    cell.offered(1)
    assert cell.pick(0) == 0
    cell.worker_answered(1, ready=True, calls=1, now_ns=0)
    assert cell.pick(0) == 1


def test_the_calls_of_a_cell_are_those_of_its_workers_and_what_was_offered_since():
    cell = Cell(3)
    assert cell.calls(0) == 0
    cell.worker_answered(0, ready=True, calls=2, now_ns=0)
    cell.worker_answered(1, ready=False, calls=1, now_ns=SILENT_NS)
    cell.offered(0)
    assert cell.calls(SILENT_NS - 1) == 4
    assert cell.calls(SILENT_NS) == 1


def test_another_epoch_is_a_restart_and_the_first_one_is_not():
    cell = Cell(1)
    assert not cell.pacer_answered(1, 0)
    assert not cell.pacer_answered(1, 0)
    assert cell.pacer_answered(2, 0)


def test_everyone_is_there_once_each_has_answered():
    cell = Cell(2)
    cell.pacer_answered(1, 0)
    cell.worker_answered(0, ready=True, calls=0, now_ns=0)
    assert cell.missing(0) == []
    assert not cell.everyone_is_there(0)
    cell.worker_answered(1, ready=False, calls=0, now_ns=0)
    assert cell.everyone_is_there(0)
    assert not cell.everyone_is_there(SILENT_NS)


def test_any_worker_knows_of_another_gateway():
    cell = Cell(2)
    assert not cell.another_gateway_takes_calls(0)
    cell.worker_answered(0, ready=True, calls=0, now_ns=0)
    cell.worker_answered(1, ready=True, calls=0, now_ns=0, other_gateways=1)
    assert cell.another_gateway_takes_calls(0)
    assert not cell.another_gateway_takes_calls(SILENT_NS)


def test_a_worker_that_does_not_exist_is_not_there():
    assert not Cell(1).worker_is_there(1, 0)
    assert not Cell(1).worker_is_there(-1, 0)
