"""The records of calls whose gateway is gone end; a frozen gateway corrects them later."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from callbook.core.prices import Prices
from callbook.orphans import Orphans
from callbook.queries import whole
from callbook.records import Records
from shared.facts import Noted, StreamBegan, StreamEnded, Turn

T0 = 1_790_000_000_000
SID = "CA" + "1" * 32


@pytest.fixture
def records():
    return Records(prices=Prices(""), deliveries=True, cell="here")


def began(stream, at_ms=T0):
    return StreamBegan(SID, stream, "AC1", "+1", "+2", False, at_ms, at_ms + 300)


def write(engine, records, *facts, source=1, first=1):
    with Session(engine) as session, session.begin():
        records.write(session, [Noted(source, seq, fact) for seq, fact in enumerate(facts, first)])


def read(engine):
    with Session(engine) as session:
        return whole(session, SID)


def orphans(engine, records, cell="here"):
    return Orphans(engine, cell=cell, records=records, alive=set)


def test_a_call_that_an_earlier_run_left_open_ends_with_its_last_sign_of_life(engine, records):
    turn = Turn(SID, "item_1", 1, "ai", T0 + 300, T0 + 2_000, "Hello", "Hello", 1_700, 1_700, False)
    write(engine, records, began("MZ1"))
    write(engine, records, turn, source=2)
    assert orphans(engine, records).end(set()) == 1
    call = read(engine)
    assert (call["ended_at"], call["end_reason"]) == ("2026-09-21T14:13:22.000Z", "lost")
    assert call["streams"][0]["end_reason"] == "lost"
    assert call["webhook"]["state"] == "due"
    assert orphans(engine, records).end(set()) == 0


def test_a_call_whose_gateway_is_alive_or_in_another_cell_stays_open(engine, records):
    write(engine, records, began("MZ1"))
    assert orphans(engine, records).end({1}) == 0
    assert orphans(engine, records, "elsewhere").end(set()) == 0
    assert read(engine)["ended_at"] is None


def test_a_call_that_continued_at_another_gateway_stays_open(engine, records):
    write(engine, records, began("MZ1"))
    write(engine, records, began("MZ2", T0 + 5_000), source=2)
    assert orphans(engine, records).end({2}) == 1
    call = read(engine)
    assert call["ended_at"] is None
    assert [stream["ended_at"] is None for stream in call["streams"]] == [False, True]


def test_the_end_that_a_frozen_gateway_sends_later_replaces_the_assumed_one(engine, records):
    write(engine, records, began("MZ1"))
    orphans(engine, records).end(set())
    write(engine, records, StreamEnded(SID, "MZ1", T0 + 60_000, "stop", 10, 0, 0, 0), first=2)
    call = read(engine)
    assert (call["ended_at"], call["end_reason"]) == ("2026-09-21T14:14:20.000Z", "stop")


def test_a_stream_of_a_dead_cell_ends_before_the_call_went_on_in_another_cell(engine, records):
    elsewhere = Records(prices=Prices(""), cell="elsewhere")
    write(engine, records, began("MZ1"))
    turn = Turn(SID, "item_9", 9, "ai", T0 + 20_300, T0 + 22_000, "Hello", "Hello", 1_700, 1_700, False)
    ended = StreamEnded(SID, "MZ2", T0 + 30_000, "stop", 1, 0, 0, 0)
    write(engine, elsewhere, began("MZ2", T0 + 20_000), turn, ended, source=2)
    assert orphans(engine, records).end(set()) == 1
    call = read(engine)
    assert (call["ended_at"], call["end_reason"]) == ("2026-09-21T14:13:50.000Z", "stop")
    assert call["streams"][0]["ended_at"] == "2026-09-21T14:13:40.000Z"
