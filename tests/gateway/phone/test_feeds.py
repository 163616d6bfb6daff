from __future__ import annotations

import asyncio

from gateway.core.metrics import DEFINITIONS, Metrics
from gateway.phone import feeds as module
from gateway.phone.feeds import Feed, Feeds
from shared.metrics import Counter, Page


def feeds() -> tuple[Feeds, Counter]:
    lost = Metrics(Page.in_memory(DEFINITIONS)).phone_notes_lost
    opened = Feeds(lost)
    opened.open("CA1")
    opened.follow(7, "CA1")
    return opened, lost


async def told(feed: Feed | None) -> bytes:
    assert feed is not None
    return b"".join([event async for event in feed.events()])


def test_a_page_reads_the_notes_of_its_call_up_to_the_end():
    async def scenario() -> None:
        opened, _ = feeds()
        opened.follow(8, "CA2")  # no page asked for this call
        opened.note(7, b"{1}")
        opened.note(8, b"{2}")
        opened.ended(7)
        read = await told(opened.get("CA1"))
        assert b"data: {1}" in read
        assert b"{2}" not in read
        assert read.endswith(b"event: over\ndata: {}\n\n")

    asyncio.run(scenario())


def test_a_page_that_does_not_read_loses_the_oldest_notes(monkeypatch):
    monkeypatch.setattr(module, "MAX_NOTES", 2)

    async def scenario() -> None:
        opened, lost = feeds()
        for note in (b"{1}", b"{2}", b"{3}"):
            opened.note(7, note)
        opened.close()
        read = await told(opened.get("CA1"))
        assert [note in read for note in (b"{1}", b"{2}", b"{3}")] == [False, True, True]
        assert lost.value == 1

    asyncio.run(scenario())
