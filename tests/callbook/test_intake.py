"""Facts over a real socket: first on the disk, then acknowledged."""

from __future__ import annotations

import asyncio

import pytest
import zmq

from callbook import intake as module
from callbook.intake import Intake
from callbook.metrics import DEFINITIONS, Metrics
from callbook.spool import Spool
from shared import bus
from shared.courier import Courier
from shared.facts import CallStatus
from shared.metrics import FACTS, Page


def status(number: int) -> CallStatus:
    return CallStatus(f"CA{number}", "AC1", "", "", "completed", 1, 1)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_a_full_spool_delays_the_acknowledgement_and_loses_and_doubles_nothing(context, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.02)

    async def scenario():
        metrics = Metrics(Page.in_memory(DEFINITIONS))
        spool = Spool(tmp_path / "spool", max_bytes=0)
        kept = []
        url = bus.callbook_url(tmp_path)
        intake = Intake(context, url, spool=spool, metrics=metrics, on_kept=kept.extend)
        running = asyncio.create_task(intake.run())
        courier = Courier(context, url, name="sender", page=Page.in_memory(FACTS))
        courier.start()
        for number in range(3):
            courier.note(status(number))
        intake.note(status(3))
        await until(lambda: metrics.spool_refused.value >= 3 and intake.senders.sources())
        assert (courier.waiting, kept) == (3, [])
        assert len(intake.senders.sources()) == 1
        spool._max_bytes = 1_000_000
        await until(lambda: courier.waiting == 0)
        facts = {(noted.source in intake.senders.sources(), noted.seq): noted.fact.call_sid for noted in kept}
        assert facts == {(True, 1): "CA0", (True, 2): "CA1", (True, 3): "CA2", (False, 1): "CA3"}
        assert (len(spool.read(10)[0]), metrics.kept.value) == (4, 4)
        assert await courier.delivered(1) == 0
        await until(lambda: not intake.senders.sources())
        courier.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
