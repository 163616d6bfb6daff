"""Listening to a live call through the private port."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
import zmq
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from callbook import listening as module
from callbook.listening import Listener, Listening
from callbook.metrics import DEFINITIONS, Metrics
from callbook.private_port import PrivatePort
from shared import bus
from shared.metrics import Page
from shared.overheard import AI, pack, topic

SID = "CA" + 32 * "1"


class Port:
    def __init__(self, gateway, number, metrics):
        self.gateway, self.number, self.metrics = gateway, number, metrics

    def listen(self, call_sid=SID, **options):
        return connect(f"ws://127.0.0.1:{self.number}/live/{call_sid}/listen", proxy=None, **options)

    async def subscription(self):
        """What the gateway's socket received next."""
        async with asyncio.timeout(5):
            while not self.gateway.poll(0):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return self.gateway.recv()


@pytest.fixture
def play(short_path):
    @asynccontextmanager
    async def port():
        context = zmq.Context()
        listener = socket.create_server(("127.0.0.1", 0))
        metrics = Metrics(Page.in_memory(DEFINITIONS))
        listening = Listening(context, bus.copies_url(short_path), metrics)
        private = PrivatePort(listener, listening.routes(), host="127.0.0.1")
        listening.start()
        private.start()
        try:
            gateway = bus.publisher(context, bus.copies_url(short_path), hwm=100)
            yield Port(gateway, listener.getsockname()[1], metrics)
        finally:
            await private.close()
            listening.close()
            context.destroy(linger=0)

    def playing(scenario):
        async def run():
            async with asyncio.timeout(20), port() as there:
                await scenario(there)

        asyncio.run(run())

    return playing


def test_a_page_hears_the_call_that_it_asked_for_until_it_leaves(play):
    async def scenario(port):
        async with port.listen() as page, port.listen() as another:
            assert await port.subscription() == b"\x01" + topic(SID)
            assert port.metrics.listeners.value == 2
            port.gateway.send(pack(topic(SID), [(AI, b"abc")]))
            for each in (page, another):
                assert await each.recv() == b"\x01\x00\x03abc"
        assert await port.subscription() == b"\x00" + topic(SID)
        assert (port.metrics.listeners.value, port.metrics.listened.value) == (0, 2)

    play(scenario)


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_site_hears_nothing(origin, play):
    async def scenario(port):
        with pytest.raises(InvalidStatus) as refused:
            await port.listen(origin=origin)
        assert refused.value.response.status_code == 403
        assert port.metrics.listened.value == 0

    play(scenario)


def test_a_page_under_a_foreign_name_hears_nothing(play):
    async def scenario(port):
        with pytest.raises(InvalidStatus):
            await connect(f"ws://rebound.example/live/{SID}/listen", host="127.0.0.1", port=port.number, proxy=None)
        assert port.metrics.listened.value == 0

    play(scenario)


def test_its_own_page_hears_the_call(play):
    async def scenario(port):
        async with port.listen(origin=f"http://127.0.0.1:{port.number}"):
            assert port.metrics.listeners.value == 1

    play(scenario)


def test_only_so_many_listen_at_once(play, monkeypatch):
    monkeypatch.setattr(module, "LISTENERS_MAX", 1)

    async def scenario(port):
        async with port.listen():
            with pytest.raises(InvalidStatus):
                await port.listen()
        assert port.metrics.listened.value == 1

    play(scenario)


def test_what_is_no_calls_id_is_refused(play):
    async def scenario(port):
        with pytest.raises(InvalidStatus):
            await port.listen("CA%201")

    play(scenario)


def test_a_call_of_which_nothing_comes_any_more_is_over(play, monkeypatch):
    monkeypatch.setattr(module, "SILENT_S", 0.05)

    async def scenario(port):
        async with port.listen() as page:
            with pytest.raises(ConnectionClosed) as closed:
                await page.recv()
            assert closed.value.rcvd.code == 1000

    play(scenario)


def test_what_a_page_sends_is_not_used_and_a_long_message_ends_it(play):
    async def scenario(port):
        async with port.listen() as page:
            await page.send("hello")
            await page.send(b"hello")
            await port.subscription()
            port.gateway.send(pack(topic(SID), [(AI, b"abc")]))
            await page.recv()
            await page.send(bytes(2_000))
            with pytest.raises(ConnectionClosed):
                await page.recv()

    play(scenario)


def test_a_listener_that_reads_too_slowly_misses_the_oldest_copies():
    async def scenario():
        metrics = Metrics(Page.in_memory(DEFINITIONS))
        listener = Listener(metrics)
        for number in range(module.WAITING_MAX + 3):
            listener.put(b"%d" % number)
        assert await listener.next() == b"3"
        assert metrics.copies_dropped.value == 3

    asyncio.run(scenario())
