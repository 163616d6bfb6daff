"""Copies of a call for those who listen to it."""

from __future__ import annotations

import asyncio
from time import monotonic_ns

import pytest
import zmq

from gateway.copies import Copies
from gateway.core.metrics import DEFINITIONS, Metrics
from shared import bus
from shared.messages import CLEAR
from shared.metrics import Page
from shared.overheard import AI, CALLER, FLUSHED, pack, topic, unpack

from .conftest import FRAME, received

SID, OTHER = "CA" + 32 * "1", "CA" + 32 * "2"


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def parts_of(records: bytes) -> list[tuple[int, bytes]]:
    found = []
    while records:
        length = int.from_bytes(records[1:3], "big")
        found.append((records[0], records[3 : 3 + length]))
        records = records[3 + length :]
    return found


def test_the_topic_of_a_call_is_not_the_beginning_of_another_calls():
    assert not topic("CA12").startswith(topic("CA1"))


def test_a_listener_gets_both_sides_of_the_call_and_nobody_elses(run, context):
    async def scenario(cell):
        subscriber = bus.subscriber(context, bus.copies_url(cell.run_dir), hwm=10)
        heard: list[tuple[int, bytes]] = []

        def hears() -> bool:
            try:
                call_topic, records = unpack(subscriber.recv(zmq.NOBLOCK))
            except zmq.Again:
                return False
            assert call_topic == topic(SID)
            heard.extend(parts_of(records))
            return True

        async def frame(call: int, seq: int, mark: int) -> None:
            cell.frames(monotonic_ns(), (call, seq, FRAME, mark))
            await received(socket)

        sockets = cell.gateway.media.sockets
        async with cell.call(SID) as (socket, started), cell.call(OTHER) as (_, other):
            await frame(started.call, 0, 0)
            subscriber.setsockopt(zmq.SUBSCRIBE, topic(SID))

            def is_copied() -> bool:
                subscriber.poll(0)  # a socket tells its subscriptions when it is used
                cell.gateway.media.sweep()
                return sockets[started.call].copy is not None

            await cell.until(is_copied)
            assert sockets[other.call].copy is None
            assert cell.gateway.metrics.calls_listened.value == 1
            await frame(started.call, 1, CLEAR)
            await received(socket)
            await socket.send(cell.twilio.media_text(FRAME[::-1]))
            await cell.until(lambda: hears() and len(heard) >= 3)
            assert heard == [(AI, FRAME), (FLUSHED, b""), (CALLER, FRAME[::-1])]

            subscriber.setsockopt(zmq.UNSUBSCRIBE, topic(SID))
            await cell.until(lambda: not is_copied())
        subscriber.close()
        assert cell.gateway.metrics.calls_listened.value == 0

    run(scenario)


def test_copies_for_a_listener_that_takes_none_are_dropped_and_counted(context, short_path, monkeypatch):
    monkeypatch.setattr(bus, "COPIES_HWM", 1)

    async def scenario():
        metrics = Metrics(Page.in_memory(DEFINITIONS))
        url = bus.copies_url(short_path)
        subscriber = bus.subscriber(context, url, hwm=1)
        subscriber.setsockopt(zmq.SUBSCRIBE, topic(SID))
        copies = Copies(context, url, metrics)
        async with asyncio.timeout(10):
            while not copies.look():
                subscriber.poll(0)
                await asyncio.sleep(0.005)
            copy = copies.of(SID)
            while not metrics.copies_dropped.value:
                copy.ai(bytes(60_000))
                await asyncio.sleep(0.01)
        assert len(copy.parts) < 100
        copies.close()
        subscriber.close()

    asyncio.run(scenario())


def test_audio_that_no_record_can_hold_is_cut():
    assert parts_of(unpack(pack(topic(SID), [(AI, bytes(70_000)), (CALLER, b"x")]))[1])[1] == (CALLER, b"x")
