from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gateway import outbox as module
from gateway.core.metrics import DEFINITIONS, Metrics
from gateway.outbox import Outbox
from shared.messages import CallEnded, CallerAudio, CallerDtmf, GatewayHello, Message
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


def say(box: Outbox, call: int, data: bytes) -> None:
    """Caller audio that is sent at once."""
    box.audio(call, data)
    box.post(CallerDtmf(9, "1"))


def heard(link: FakeLink, call: int) -> bytes:
    return b"".join(m.data for batch in link.sent for m in batch if isinstance(m, CallerAudio) and m.call == call)


def test_what_was_sent_is_kept_until_a_hello_behind_it_is_answered():
    async def scenario() -> None:
        box, link, metrics = outbox()
        say(box, 1, b"a")
        box.hello("gw", draining=False)
        say(box, 1, b"b")
        say(box, 2, b"x")
        box.hello("gw", draining=True)
        say(box, 1, b"c")
        hellos = [m for batch in link.sent for m in batch if isinstance(m, GatewayHello)]
        assert hellos == [GatewayHello("gw", False, 1), GatewayHello("gw", True, 2)]
        box.confirm(1)
        # An answer to no hello.
        box.confirm(0)
        assert (box.take(1), box.take(1), box.take(2)) == (b"bc", b"", b"x")
        say(box, 1, b"d")
        box.hello("gw", draining=False)
        box.confirm(3)
        assert box.take(1) == b""
        assert metrics.caller_audio_dropped_bytes.value == 0
        box.close()

    asyncio.run(scenario())


def test_a_call_that_leaves_a_stopped_worker_takes_along_whatever_that_has_not_read():
    async def scenario() -> None:
        box, link, _ = outbox()
        said = b""
        for turn in range(30):
            for part in (bytes([turn, 1]), bytes([turn, 2])):
                say(box, 1, part)
                say(box, 2, b"-")
                said += part if turn > 9 else b""
            box.hello("gw", draining=False)
            if turn == 9:
                box.confirm(10)
        link.full = True
        say(box, 1, b"held")
        box.audio(1, b" and more")
        assert box.take(1) == said + b"held and more"
        assert box.take(2) == b"-" * 40
        box.close()

    asyncio.run(scenario())


def test_a_worker_that_was_only_slow_hears_nothing_twice():
    async def scenario() -> None:
        box, link, metrics = outbox()
        say(box, 1, b"a")
        box.hello("gw", draining=False)
        say(box, 1, b"b")
        link.full = True
        box.audio(1, b"c")
        box.hello("gw", draining=False)
        box.audio(1, b"d")
        link.full = False
        # It wakes, reads, and answers.
        box.confirm(1)
        box.back()
        say(box, 1, b"e")
        assert heard(link, 1) == b"abcde"
        assert metrics.caller_audio_dropped_bytes.value == 0
        box.close()

    asyncio.run(scenario())


def test_a_restarted_worker_is_sent_what_the_one_before_did_not_confirm():
    async def scenario() -> None:
        box, link, metrics = outbox()
        box.answered(1)
        say(box, 1, b"a")
        box.hello("gw", draining=False)
        box.confirm(1)
        say(box, 1, b"b")
        box.hello("gw", draining=False)
        say(box, 1, b"c")
        box.audio(1, b"d")
        link.full = True
        box.hello("gw", draining=False)
        box.audio(1, b"e")
        link.full = False
        link.sent.clear()
        box.answered(2)
        box.audio(1, b"f")
        started = CallerDtmf(1, "the call again")
        box.post(started)
        box.confirm(3)
        box.back()
        await until_sent(link, 2)
        assert link.sent == [[started], [CallerAudio(1, b"bcdef")]]
        # And once more, should this one not read it either.
        box.answered(3)
        assert box.take(1) == b"bcdef"
        assert metrics.caller_audio_dropped_bytes.value == 0
        box.close()

    asyncio.run(scenario())


def test_a_call_is_missed_for_8_s_and_what_it_said_before_is_lost_only_if_nobody_wakes(monkeypatch):
    monkeypatch.setattr(module, "UNCONFIRMED_HELLOS", 3)
    monkeypatch.setattr(module, "HELD_BYTES", 4)

    async def scenario() -> None:
        box, _, metrics = outbox()
        box.answered(1)
        dropped = metrics.caller_audio_dropped_bytes
        for said in (b"ab", b"c", b"d", b"e"):
            say(box, 1, said)
            say(box, 2, said)
            box.hello("gw", draining=False)
        say(box, 1, b"fg")
        assert (box.take(1), dropped.value) == (b"defg", 3)
        # It answers the hello behind what was too old to be kept.
        box.confirm(1)
        assert (box.take(2), dropped.value) == (b"cde", 3)
        for said in (b"ab", b"c", b"d", b"e"):
            say(box, 1, said)
            box.hello("gw", draining=False)
        box.answered(2)
        assert (box.take(1), dropped.value) == (b"cde", 5)
        box.close()

    asyncio.run(scenario())
