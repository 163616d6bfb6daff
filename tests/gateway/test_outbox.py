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
        self.offered = 0

    def send(self, messages: Iterable[Message], peer: str = "") -> bool:
        self.offered += 1
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


def test_a_refusal_loses_neither_audio_nor_control():
    async def scenario() -> None:
        box, link, metrics = outbox()
        link.full = True
        box.audio(1, b"abc")
        box.post(CallerDtmf(1, "5"))
        box.post(CallEnded(2, "stop"))
        link.full = False
        box.audio(1, b"def")
        await until_sent(link, 1)
        # A worker that was restarted has to be told of its calls before it is told what they say.
        assert link.sent == [[CallerDtmf(1, "5"), CallEnded(2, "stop")]]
        box.back()
        await until_sent(link, 2)
        assert link.sent[1:] == [[CallerAudio(1, b"abcdef")]]
        assert metrics.caller_audio_dropped_bytes.value == 0
        box.close()

    asyncio.run(scenario())


def test_what_a_call_said_meanwhile_moves_with_it():
    async def scenario() -> None:
        box, link, _ = outbox()
        link.full = True
        box.audio(1, b"abc")
        box.audio(2, b"xyz")
        box.post(CallEnded(3, "stop"))
        assert (box.take(1), box.take(1), box.take(4)) == (b"abc", b"", b"")
        link.full = False
        box.back()
        await until_sent(link, 1)
        assert link.sent == [[CallEnded(3, "stop"), CallerAudio(2, b"xyz")]]
        box.close()

    asyncio.run(scenario())


def test_of_what_a_caller_says_to_nobody_the_last_is_kept(monkeypatch):
    monkeypatch.setattr(module, "HELD_BYTES", 4)

    async def scenario() -> None:
        box, link, metrics = outbox()
        link.full = True
        box.audio(1, b"abc")
        box.post(CallEnded(2, "stop"))
        box.audio(1, b"def")
        assert (box.take(1), metrics.caller_audio_dropped_bytes.value) == (b"cdef", 2)
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
        await until_sent(link, 1)
        assert link.sent == [[CallerDtmf(1, "1"), CallerDtmf(1, "2")]]
        box.post(CallerDtmf(1, "4"))
        assert link.sent[1:] == [[CallerDtmf(1, "4")]]

    asyncio.run(scenario())


def test_what_waits_is_not_offered_again_with_each_message_behind_it():
    async def scenario() -> None:
        box, link, _ = outbox()
        link.full = True
        for digit in "123":
            box.post(CallerDtmf(1, digit))
        assert link.offered == 1
        link.full = False
        # A peer that says that it is back gets everything with the next message.
        box.back()
        box.post(CallerDtmf(1, "4"))
        assert link.sent == [[CallerDtmf(1, digit) for digit in "1234"]]

    asyncio.run(scenario())
