from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gateway import outbox as module
from gateway.metrics import DEFINITIONS, Metrics
from gateway.outbox import Outbox
from shared.messages import CallEnded, CallerAudio, CallerDtmf, Message
from shared.metrics import Page


class FakeLink:
    """Refuses while `full`."""

    def __init__(self) -> None:
        self.full = False
        self.sent: list[list[Message]] = []

    def send(self, messages: Iterable[Message], peer: str = "") -> bool:
        if not self.full:
            self.sent.append(list(messages))
        return not self.full


def outbox() -> tuple[Outbox, FakeLink, Metrics]:
    metrics = Metrics(Page.in_memory(DEFINITIONS))
    link = FakeLink()
    dropped = metrics.caller_audio_dropped_bytes
    return Outbox(link, dropped_audio=dropped, lost=metrics.bus_lost["aibridge"]), link, metrics  # type: ignore[arg-type]


async def until_sent(link: FakeLink, count: int) -> None:
    async with asyncio.timeout(5):
        while len(link.sent) < count:  # noqa: ASYNC110 - a fake without events
            await asyncio.sleep(0.001)


def test_audio_of_all_calls_is_gathered_and_joined():
    async def scenario() -> None:
        box, link, _ = outbox()
        box.audio(1, b"a")
        box.audio(2, b"b")
        box.audio(1, b"c")
        assert link.sent == []
        await until_sent(link, 1)
        assert link.sent == [[CallerAudio(1, b"ac"), CallerAudio(2, b"b")]]

    asyncio.run(scenario())


def test_a_control_message_leaves_at_once_behind_the_audio_before_it():
    async def scenario() -> None:
        box, link, _ = outbox()
        box.audio(1, b"a")
        box.post(CallEnded(1, "stop"))
        assert link.sent == [[CallerAudio(1, b"a"), CallEnded(1, "stop")]]

    asyncio.run(scenario())


def test_a_refusal_loses_audio_and_never_control():
    async def scenario() -> None:
        box, link, metrics = outbox()
        link.full = True
        box.audio(1, b"abc")
        box.post(CallerDtmf(1, "5"))
        box.post(CallEnded(1, "stop"))
        assert metrics.caller_audio_dropped_bytes.value == 3
        link.full = False
        await until_sent(link, 1)
        assert link.sent == [[CallerDtmf(1, "5"), CallEnded(1, "stop")]]
        box.close()

    asyncio.run(scenario())


def test_what_waits_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "CONTROL_HWM", 2)

    async def scenario() -> None:
        box, link, metrics = outbox()
        link.full = True
        for digit in "123":
            box.post(CallerDtmf(1, digit))
        assert metrics.bus_lost["aibridge"].value == 1
        link.full = False
        box.post(CallerDtmf(1, "4"))
        assert link.sent == [[CallerDtmf(1, "1"), CallerDtmf(1, "2"), CallerDtmf(1, "4")]]

    asyncio.run(scenario())
