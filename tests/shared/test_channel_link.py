"""Channels over real sockets: kept while the peer is away, repeated, and nothing stale for a successor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from shared import bus
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.messages import BridgeHello, BridgeToPacer, LineState, PacerToBridge, Speech
from shared.metrics import Page, counter
from tests.on_a_loop import on_a_loop

PAGE = (counter("dropped", ""), counter("refused", ""), counter("undecodable", ""))


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


class Ends:
    """A dealer "x" and a router, each with what it was told and how often its peer restarted."""

    def __init__(self, context: zmq.Context[Any], directory: Path, *, max_weight: int = 1_000) -> None:
        self.context = context
        self.url = bus.speech_url(directory)
        self.page = Page.in_memory(PAGE)
        self.restarts: list[str] = []
        self.at_dealer: list[Any] = []
        self.at_router: list[Any] = []
        sock = bus.dealer(context, self.url, name="x", hwm=10)
        self.dealer = self._link(sock, PacerToBridge, self.at_dealer, max_weight)
        self.router: ChannelLink

    def open_router(self) -> None:
        self.router = self._link(bus.router(self.context, self.url, hwm=10), BridgeToPacer, self.at_router, 1_000)

    def _link(self, sock: zmq.Socket[Any], types: Any, told: list[Any], max_weight: int) -> ChannelLink:
        link = ChannelLink(
            sock,
            types=types,
            make=lambda: Channel(bus.draw_epoch(), max_weight=max_weight),
            on_message=lambda _, message: told.append(message),
            on_restart=self.restarts.append,
            refused=self.page.counter("refused"),
            lost=self.page.counter("dropped"),
            undecodable=self.page.counter("undecodable"),
        )
        link.start()
        return link

    def close(self) -> None:
        self.dealer.close()
        self.router.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def test_what_is_posted_while_the_peer_is_away_arrives_in_order_when_it_comes(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    @on_a_loop
    async def scenario() -> None:
        ends = Ends(context, tmp_path)
        for number in range(50):
            assert ends.dealer.post((Speech(1, number, b"x" * 100),))
        ends.open_router()
        await until(lambda: len(ends.at_router) == 50)
        assert [message.utterance for message in ends.at_router] == list(range(50))
        ends.router.post((LineState(1, ()),), "x")
        await until(lambda: ends.at_dealer == [LineState(1, ())])
        # The answer acknowledged what came.
        assert ends.dealer.channel().waiting == 0
        assert ends.restarts == []
        ends.close()

    scenario()


def test_what_exceeds_the_bound_is_dropped_and_counted(context: zmq.Context[Any], tmp_path: Path) -> None:
    @on_a_loop
    async def scenario() -> None:
        ends = Ends(context, tmp_path, max_weight=500)
        taken = [ends.dealer.post((Speech(1, number, b"x" * 100),), weight=100) for number in range(10)]
        assert taken == [True] * 5 + [False] * 5
        assert ends.page.counter("dropped").value == 5
        ends.open_router()
        ends.close()

    scenario()


def test_a_restarted_peer_is_announced_and_hears_nothing_that_was_meant_for_its_predecessor(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    @on_a_loop
    async def scenario() -> None:
        ends = Ends(context, tmp_path)
        ends.open_router()
        await until(lambda: ends.dealer.hello(hints=(BridgeHello("x"),)))
        await until(lambda: ends.dealer.channel().peer_epoch != 0)
        ends.router.close()
        ends.at_router.clear()
        ends.dealer.post((Speech(1, 1, b"stale"),))
        ends.open_router()
        await until(lambda: ends.dealer.hello() and ends.restarts == [""])
        ends.dealer.post((Speech(1, 2, b"fresh"),))
        await until(lambda: len(ends.at_router) > 0)
        assert ends.at_router == [Speech(1, 2, b"fresh")]
        ends.close()

    scenario()
