"""A worker's messages to txpacer: in order and at once; the later deltas of an utterance gather."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aibridge import speech_link
from aibridge.speech_link import SpeechLink
from shared.messages import CloseLine, Message, Speech, SpeechEnd, Withdraw
from shared.metrics import Page, gauge
from tests.on_a_loop import on_a_loop


class FakeLink:
    """In the place of a ChannelLink. It has room for `room` bytes, and its socket takes nothing."""

    def __init__(self) -> None:
        self.sent: list[list[Message]] = []
        self.room = 1_000
        self.unsent_weight = 0

    def post(self, messages: list[Message], *, weight: int) -> bool:
        if self.unsent_weight + weight > self.room:
            return False
        self.unsent_weight += weight
        self.sent.append(list(messages))
        return True

    def channel(self) -> FakeLink:
        return self


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


def speaking(link: Any) -> SpeechLink:
    return SpeechLink(link, Page.in_memory([gauge("kept", "kept")]).gauge("kept"))


@on_a_loop
async def test_the_first_delta_of_an_utterance_leaves_within_its_event_and_the_next_ones_gather(
    link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_link, "SPEECH_GATHER_S", 0.001)
    line = speaking(link)
    line.say(Speech(1, 1, b"a"))
    assert link.sent == [[Speech(1, 1, b"a")]]
    line.say(Speech(1, 1, b"b"))
    line.say(Speech(1, 1, b"c"))
    await asyncio.sleep(0)
    assert len(link.sent) == 1
    async with asyncio.timeout(5):
        while len(link.sent) < 2:  # noqa: ASYNC110  # the timer's word, and nobody else's
            await asyncio.sleep(0.001)
    assert link.sent[1:] == [[Speech(1, 1, b"b"), Speech(1, 1, b"c")]]


@pytest.mark.parametrize("message", [Withdraw(1, 1, False), SpeechEnd(1, 1), Speech(1, 2, b"x"), Speech(2, 1, b"y")])
@on_a_loop
async def test_an_urgent_message_takes_along_the_speech_before_it(link: FakeLink, message: Message) -> None:
    line = speaking(link)
    line.say(Speech(1, 1, b"a"))
    await asyncio.sleep(0)
    line.say(Speech(1, 1, b"b"))
    line.say(message)
    await asyncio.sleep(0)
    assert link.sent[1:] == [[Speech(1, 1, b"b"), message]]
    await asyncio.sleep(2 * speech_link.SPEECH_GATHER_S)
    assert len(link.sent) == 2  # the timer was put off


@on_a_loop
async def test_after_the_end_of_a_line_a_first_delta_leaves_at_once_again(link: FakeLink) -> None:
    line = speaking(link)
    for message in (Speech(1, 1, b"a"), CloseLine(1), Speech(1, 1, b"b")):
        line.say(message)
        await asyncio.sleep(0)
    assert [len(batch) for batch in link.sent] == [1, 1, 1]


@on_a_loop
async def test_bytes_that_txpacer_has_not_accepted_are_shown(link: FakeLink) -> None:
    shown = Page.in_memory([gauge("kept", "kept")]).gauge("kept")
    line = SpeechLink(link, shown)  # type: ignore[arg-type]  # as much of a link as it needs
    line.say(Speech(1, 1, bytes(320)))
    await asyncio.sleep(0)
    assert shown.value == 320


@on_a_loop
async def test_a_full_channel_loses_speech_and_nothing_else(link: FakeLink) -> None:
    link.room = 10
    line = speaking(link)
    line.say(Speech(1, 1, bytes(320)))
    line.say(Withdraw(1, 1, False))
    await asyncio.sleep(0)
    assert link.sent == [[Withdraw(1, 1, False)]]
