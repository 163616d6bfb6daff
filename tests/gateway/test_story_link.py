"""Stories over a real socket: whatever callbook does, the gateway does not wait, and callbook gets the newest."""

from __future__ import annotations

import asyncio

import pytest
import zmq

from gateway.core.commands import KeepStory as LiveStory
from gateway.core.metrics import DEFINITIONS, Metrics
from gateway.story_link import StoryLink
from shared import bus
from shared.bus_link import Link
from shared.messages import CallClosed, CallRecalled, GatewayToStore, KeepStory, RecallCall, StoreHello
from shared.metrics import Page
from shared.plan import HangUp


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Callbook:
    """The other end of the link, with one incarnation's epoch."""

    def __init__(self, context, url, epoch):
        self._epoch = epoch
        self.got = []
        self._link = Link(
            bus.router(context, url, hwm=bus.STORIES_HWM),
            types=GatewayToStore,
            on_message=self._received,
            dropped=Metrics(Page.in_memory(DEFINITIONS)).bus_refused["callbook"],
            undecodable=Metrics(Page.in_memory(DEFINITIONS)).bus_undecodable["callbook"],
        )
        self._link.start()

    def _received(self, peer, message):
        match message:
            case StoreHello():
                self._link.send((StoreHello(self._epoch),), peer)
            case RecallCall(call_id):
                self._link.send((CallRecalled(call_id, False, b"story"),), peer)
            case _:
                self.got.append(message)

    def close(self):
        self._link.close()


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_a_callbook_that_is_away_gets_the_newest_story_of_each_call_and_one_that_restarts_gets_all(context, short_path):
    async def scenario():
        metrics = Metrics(Page.in_memory(DEFINITIONS))
        live, recalled = {}, []
        url = bus.stories_url(short_path)
        link = StoryLink(
            context,
            url,
            name="gateway-0",
            stories=lambda: [LiveStory("CA1", live["CA1"], 5)] if live else [],
            on_message=recalled.append,
            refused=metrics.bus_refused["callbook"],
            undecodable=metrics.bus_undecodable["callbook"],
        )
        link.start()
        for number in range(500):
            live["CA1"] = b"%d" % number
            link.changed("CA1", live["CA1"], 5)
        link.closed("CA2", HangUp(), b"", 5)
        link.recall("CA3")  # to nobody, without an error
        callbook = Callbook(context, url, 1)
        await until(lambda: len(callbook.got) >= 2)
        assert {KeepStory("CA1", b"499", 5), CallClosed("CA2", HangUp(), b"", 5)} <= set(callbook.got)
        link.recall("CA3")
        await until(lambda: recalled)
        assert recalled == [CallRecalled("CA3", False, b"story")]
        callbook.close()
        again = Callbook(context, url, 2)
        await until(lambda: len(again.got) >= 2)
        assert again.got == [CallClosed("CA2", HangUp(), b"", 5), KeepStory("CA1", b"499", 5)]
        again.close()
        link.close()

    asyncio.run(scenario())
