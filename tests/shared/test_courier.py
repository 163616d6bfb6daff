"""Facts on their way to callbook."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from shared import bus
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.courier import WINDOW, Courier
from shared.facts import CallStatus, Fact, Leaving
from shared.metrics import FACTS, Page, counter
from tests.on_a_loop import on_a_loop

PAGE = Page.in_memory((counter("dropped", ""), counter("refused", ""), counter("undecodable", "")))


class Callbook:
    """A stand-in for callbook: `got` has the CallSids of the facts, and "left" for a sender that took leave."""

    def __init__(self, context: zmq.Context[Any], url: str, *, epoch: int = 1) -> None:
        self.got: list[str] = []
        self.channel = Channel(epoch, max_weight=0, acknowledges_at_once=False)
        self.link = ChannelLink(
            bus.router(context, url, hwm=100),
            types=Fact | Leaving,
            make=lambda: self.channel,
            on_message=lambda _, message: self.got.append(getattr(message, "call_sid", "left")),
            refused=PAGE.counter("refused"),
            lost=PAGE.counter("dropped"),
            undecodable=PAGE.counter("undecodable"),
        )
        self.link.start()

    def keep(self) -> None:
        """Acknowledge what came."""
        self.channel.acknowledge(self.channel.taken)
        self.link.hello("sender")


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def status(call_sid: str, duration_s: int = 1) -> CallStatus:
    return CallStatus(call_sid, "AC1", "", "", "completed", duration_s, 1)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def courier_to(context: zmq.Context[Any], url: str, page: Page) -> Courier:
    courier = Courier(context, url, name="sender", page=page)
    courier.start()
    return courier


@pytest.mark.parametrize("unsayable", [status("CA2", 2**64), status("\ud800")])
def test_a_fact_that_cannot_be_encoded_costs_no_other_fact(
    context: zmq.Context[Any], tmp_path: Path, unsayable: CallStatus
) -> None:
    @on_a_loop
    async def scenario() -> None:
        page = Page.in_memory(FACTS)
        url = bus.callbook_url(tmp_path)
        callbook = Callbook(context, url)
        courier = courier_to(context, url, page)
        for fact in (status("CA1"), unsayable, status("CA3")):
            courier.note(fact)
        await until(lambda: callbook.got == ["CA1", "CA3"])
        assert page.counter("facts_lost").value == 1
        callbook.keep()
        courier.note(status("CA4"))
        await until(lambda: callbook.got[-1] == "CA4")
        courier.close()
        callbook.link.close()

    scenario()


def test_a_restarted_callbook_gets_what_its_predecessor_had_not_kept(
    context: zmq.Context[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.courier.FACTS_HELLO_S", 0.05)

    @on_a_loop
    async def scenario() -> None:
        url = bus.callbook_url(tmp_path)
        callbook = Callbook(context, url)
        courier = courier_to(context, url, Page.in_memory(FACTS))
        courier.note(status("CA1"))
        await until(lambda: callbook.got == ["CA1"])
        callbook.keep()
        await until(lambda: courier.waiting == 0)
        courier.note(status("CA2"))
        await until(lambda: callbook.got == ["CA1", "CA2"])
        callbook.link.close()
        courier.note(status("CA3"))
        successor = Callbook(context, url, epoch=2)
        await until(lambda: successor.got == ["CA2", "CA3"])
        successor.keep()
        assert await courier.delivered(5) == 0
        await until(lambda: successor.got[-1] == "left")
        courier.close()
        successor.link.close()

    scenario()


def test_callbook_holds_at_most_one_window_of_facts_that_are_not_on_its_disk(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    @on_a_loop
    async def scenario() -> None:
        url = bus.callbook_url(tmp_path)
        callbook = Callbook(context, url)
        courier = courier_to(context, url, Page.in_memory(FACTS))
        for number in range(WINDOW + 50):
            courier.note(status(f"CA{number}"))
        await until(lambda: len(callbook.got) == WINDOW)
        await asyncio.sleep(0.02)
        assert len(callbook.got) == WINDOW
        callbook.keep()
        await until(lambda: len(callbook.got) == WINDOW + 50)
        assert callbook.got == [f"CA{number}" for number in range(WINDOW + 50)]
        courier.close()
        callbook.link.close()

    scenario()
