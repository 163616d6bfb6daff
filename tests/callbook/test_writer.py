"""The way from the spool into the database, past poison facts and failing disks."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from callbook import models
from callbook.core.prices import Prices
from callbook.metrics import DEFINITIONS, Metrics
from callbook.records import Records
from callbook.spool import Spool
from callbook.writer import Writer
from shared.facts import CallStatus, ModelUsage, Noted
from shared.messages import encode
from shared.metrics import Page


def status(number: int, duration_s: int = 1) -> Noted:
    return Noted(1, number, CallStatus(f"CA{number}", "AC1", "", "", "completed", duration_s, 1))


def write_all(engine, records, spool, metrics):
    async def scenario():
        writer = Writer(engine, spool=spool, records=records, metrics=metrics, first_retry_s=0.01, last_retry_s=0.01)
        running = asyncio.create_task(writer.run())
        async with asyncio.timeout(20):
            waiting = asyncio.create_task(writer.caught_up.wait())
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


@pytest.fixture
def metrics():
    return Metrics(Page.in_memory(DEFINITIONS))


def calls(engine):
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(models.Call))


def test_all_other_facts_of_a_batch_with_a_poison_fact_are_written(engine, records, tmp_path, metrics, monkeypatch):
    spool = Spool(tmp_path / "spool", max_bytes=100_000)
    spool.append([encode((status(number),)) for number in range(1, 6)])
    write_one = records._write_one

    def refuse_one(session, rows, fact, source):
        if fact.call_sid == "CA3":
            raise ValueError("poison")
        write_one(session, rows, fact, source)

    monkeypatch.setattr(records, "_write_one", refuse_one)
    write_all(engine, records, spool, metrics)
    assert (calls(engine), metrics.written.value, metrics.rejected.value) == (4, 4, 1)
    with Session(engine) as session:
        assert session.get_one(models.Source, 1).through == 5


def test_a_spool_that_cannot_be_read_for_a_while_does_not_end_callbook(engine, records, tmp_path, metrics, monkeypatch):
    spool = Spool(tmp_path / "spool", max_bytes=100_000)
    spool.append([encode((status(1),))])
    read = spool.read
    failures = iter([OSError(5, "Input/output error")] * 2)

    def fail_twice(limit):
        for failure in failures:
            raise failure
        return read(limit)

    monkeypatch.setattr(spool, "read", fail_twice)
    write_all(engine, records, spool, metrics)
    assert calls(engine) == 1


def test_a_database_that_is_down_is_named_in_the_log(records, tmp_path, metrics, caplog):
    from sqlalchemy.engine import make_url

    from callbook.database import open_engine

    engine = open_engine(make_url("postgresql+psycopg://user:hunter2@127.0.0.1:1/db"))

    async def scenario():
        writer = Writer(engine, spool=Spool(tmp_path, max_bytes=1), records=records, metrics=metrics)
        running = asyncio.create_task(writer.run())
        async with asyncio.timeout(20):
            while not caplog.records:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    engine.dispose()
    assert "the database at 127.0.0.1:1 cannot be written" in caplog.text
    assert "hunter2" not in caplog.text


def test_tokens_and_cost_are_counted_once_also_when_a_fact_comes_twice(engine, tmp_path, metrics):
    prices = Prices("text_in=1,audio_in=10,cached_in=0,text_out=100,audio_out=1000")
    records = Records(prices=prices, deliveries=False, cell="c")
    usage = ModelUsage(f"CA{1:032x}", 7, "gpt", 2, 100, 200, 0, 50, 300, 1_790_000_000_000)
    for run in range(2):
        spool = Spool(tmp_path / f"spool-{run}", max_bytes=100_000)
        spool.append([encode((Noted(1, 1, usage),))])
        write_all(engine, records, spool, metrics)
    assert {kind: tokens.value for kind, tokens in metrics.tokens.items()} == {
        "text_in": 100, "audio_in": 200, "cached_in": 0, "text_out": 50, "audio_out": 300,
    }  # fmt: skip
    assert metrics.cost_usd.value == pytest.approx((100 + 2_000 + 5_000 + 300_000) / 1e6)
