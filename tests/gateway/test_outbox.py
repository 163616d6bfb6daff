"""Caller audio and control messages for one worker, over a channel to a worker that reads, refuses, or restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic_ns
from typing import Any

import pytest
import zmq

from gateway import outbox as module
from gateway.core.metrics import DEFINITIONS, Metrics
from gateway.outbox import Outbox
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.messages import (
    BridgeToGateway,
    CallEnded,
    CallerAudio,
    CallerDtmf,
    GatewayHello,
    GatewayToBridge,
    Message,
    decode,
)
from shared.metrics import Page
from tests.on_a_loop import on_a_loop


class Worker:
    """A socket whose other end is a worker. It refuses messages while `full`; `read` returns those that it accepted."""

    type = zmq.DEALER

    def __init__(self, epoch: int = 7) -> None:
        self.full = False
        self.offered = 0
        self.queue: list[Sequence[Any]] = []
        self.channel = Channel(epoch, max_weight=100)
        self.messages: list[Message] = []
        # When the gateway says that each caller audio came.
        self.audio_ns: list[int] = []

    def send(self, data: bytes, _: int) -> None:
        self.offered += 1
        if self.full:
            raise zmq.Again
        self.queue.append(decode(data, GatewayToBridge))

    def getsockopt(self, _: int) -> int:
        return 0

    def close(self, linger: int) -> None:
        pass

    def read(self) -> list[Message]:
        """Handle all that was sent; the messages of this time, hellos apart. Caller audio is as if it came at 0."""
        before = len(self.messages)
        for batch in self.queue:
            taken, _ = self.channel.receive(batch, 0)
            for message in taken:
                if isinstance(message, CallerAudio):
                    self.audio_ns.append(message.at_ns)
                    self.messages.append(CallerAudio(message.call, message.data, 0))
                elif not isinstance(message, GatewayHello):
                    self.messages.append(message)
        self.queue.clear()
        return self.messages[before:]

    def heard(self, call: int) -> bytes:
        return b"".join(m.data for m in self.messages if isinstance(m, CallerAudio) and m.call == call)


class Bench:
    """An outbox with its worker. Only `wait` moves the time."""

    def __init__(self) -> None:
        self.metrics = Metrics(Page.in_memory(DEFINITIONS))
        self.worker = Worker()
        sock: Any = self.worker
        self.link = ChannelLink(
            sock,
            types=BridgeToGateway,
            make=lambda: Channel(1, max_weight=3),
            on_message=lambda _, __: None,
            on_restart=lambda _: self.box.restarted(),
            refused=self.metrics.bus_refused["aibridge"],
            lost=self.metrics.bus_lost["aibridge"],
            undecodable=self.metrics.bus_undecodable["aibridge"],
        )
        self.link._loop = asyncio.get_running_loop()
        self.box = Outbox(self.link, dropped_audio=self.metrics.caller_audio_dropped_bytes)
        self.hello()
        self.worker.read()
        self.answer()
        self.dropped = self.metrics.caller_audio_dropped_bytes

    def hello(self) -> None:
        self.box.hello("gw", draining=False)

    def answer(self, *tell: Message) -> None:
        """The worker answers a hello. The gateway's core tells a restarted worker its calls first."""
        self.link._accept("", [self.worker.channel.hello()])
        for message in tell:
            self.box.post(message)
        self.box.answered()

    def restart(self) -> None:
        """The worker is restarted, and its first message comes before its answer to a hello."""
        self.worker.queue.clear()
        self.worker.channel = Channel(self.worker.channel.epoch + 1, max_weight=100)
        self.link._accept("", [self.worker.channel.hello()])

    def say(self, call: int, data: bytes) -> None:
        """Caller audio that is sent at once."""
        self.box.audio(call, data)
        self.box._send()


@on_a_loop
async def test_audio_of_all_calls_is_gathered_and_joined() -> None:
    bench = Bench()
    bench.box.audio(1, b"a")
    bench.box.audio(2, b"b")
    bench.box.audio(1, b"c")
    assert bench.worker.read() == []
    await asyncio.sleep(0.02)
    assert bench.worker.read() == [CallerAudio(1, b"ac", 0), CallerAudio(2, b"b", 0)]
    bench.box.close()


@on_a_loop
async def test_caller_audio_that_was_gathered_tells_when_the_first_of_it_came() -> None:
    bench = Bench()
    before_ns = monotonic_ns()
    bench.box.audio(1, b"a")
    after_ns = monotonic_ns()
    await asyncio.sleep(0.02)
    bench.box.audio(1, b"b")
    bench.box.post(CallEnded(1, "stop"))
    bench.worker.read()
    first_ns, second_ns = bench.worker.audio_ns
    assert before_ns <= first_ns <= after_ns
    assert second_ns > after_ns + 10_000_000


@on_a_loop
async def test_a_control_message_leaves_at_once_after_the_audio_before_it() -> None:
    bench = Bench()
    bench.box.audio(1, b"a")
    bench.box.post(CallEnded(1, "stop"))
    assert bench.worker.read() == [CallerAudio(1, b"a", 0), CallEnded(1, "stop")]


@on_a_loop
async def test_a_refusal_loses_neither_audio_nor_control_and_keeps_their_order() -> None:
    bench = Bench()
    bench.worker.full, bench.worker.offered = True, 0
    bench.box.audio(1, b"abc")
    bench.box.post(CallerDtmf(1, "5", 0))
    bench.box.post(CallEnded(2, "stop"))
    # A waiting message is not offered again with each later message.
    assert bench.worker.offered == 1
    bench.worker.full = False
    bench.say(1, b"def")
    await asyncio.sleep(0.05)
    assert bench.worker.read() == [
        CallerAudio(1, b"abc", 0),
        CallerDtmf(1, "5", 0),
        CallEnded(2, "stop"),
        CallerAudio(1, b"def", 0),
    ]
    assert bench.dropped.value == 0
    bench.link.close()


@on_a_loop
async def test_messages_that_wait_are_bounded() -> None:
    bench = Bench()
    bench.worker.full = True
    for digit in "1234":
        bench.box.audio(1, digit.encode())
        bench.box.post(CallerDtmf(1, digit, 0))
    assert bench.metrics.bus_lost["aibridge"].value == 1
    assert bench.dropped.value == 1
    bench.worker.full = False
    await asyncio.sleep(0.05)
    bench.worker.read()
    assert bench.worker.heard(1) == b"123"
    bench.link.close()


@on_a_loop
async def test_a_call_that_moves_takes_along_what_its_worker_has_not_acknowledged() -> None:
    bench = Bench()
    bench.say(1, b"read")
    bench.worker.read()
    bench.answer()
    bench.say(1, b"a")
    bench.say(2, b"x")
    bench.say(1, b"b")
    bench.box.audio(1, b"c")
    assert (bench.box.take(1), bench.box.take(1), bench.box.take(2), bench.box.take(3)) == (b"abc", b"", b"x", b"")
    assert bench.dropped.value == 0


@on_a_loop
async def test_a_worker_that_was_only_slow_hears_nothing_twice() -> None:
    bench = Bench()
    for said in (b"a", b"b"):
        bench.say(1, said)
        bench.hello()
    bench.worker.read()
    bench.answer()
    bench.say(1, b"c")
    bench.worker.read()
    assert bench.worker.heard(1) == b"abc"
    assert bench.dropped.value == 0


@on_a_loop
async def test_a_restarted_worker_hears_its_calls_before_what_its_predecessor_had_not_acknowledged() -> None:
    bench = Bench()
    bench.say(1, b"read")
    bench.worker.read()
    bench.answer()
    bench.say(1, b"b")
    bench.box.audio(1, b"c")
    bench.restart()
    bench.box.audio(1, b"d")
    started = CallerDtmf(1, "in the place of CallStarted", 0)
    bench.answer(started)
    assert bench.worker.read() == [started, CallerAudio(1, b"bcd", 0)]
    # Audio is kept until a restarted worker has acknowledged it.
    bench.restart()
    assert bench.box.take(1) == b"bcd"
    assert bench.dropped.value == 0


@on_a_loop
async def test_a_late_worker_is_sent_fewer_and_larger_batches_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.say(1, b"a")
    monkeypatch.setattr("shared.channel._LATE_NS", -1)
    bench.box.audio(1, b"b")
    await asyncio.sleep(0.02)
    assert bench.worker.read() == [CallerAudio(1, b"a", 0)]
    bench.box.audio(1, b"c")
    bench.answer()
    assert bench.worker.read() == [CallerAudio(1, b"bc", 0)]


@on_a_loop
async def test_of_what_a_caller_says_to_nobody_the_last_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_BYTES", 4)
    bench = Bench()
    for said in (b"abc", b"def"):
        bench.say(1, said)
    assert (bench.box.take(1), bench.dropped.value) == (b"cdef", 2)
    bench.restart()
    for said in (b"abc", b"def"):
        bench.box.audio(2, said)
    assert (bench.box.take(2), bench.dropped.value) == (b"cdef", 4)


@on_a_loop
async def test_what_is_too_old_to_be_kept_is_lost_only_if_nobody_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.say(1, b"old")
    bench.say(2, b"old")
    monkeypatch.setattr(module, "HELD_NS", -1)
    bench.hello()
    monkeypatch.setattr(module, "HELD_NS", 10**12)
    bench.say(1, b"new")
    assert (bench.box.take(1), bench.dropped.value) == (b"new", 3)
    bench.worker.read()
    bench.answer()
    assert (bench.box.take(2), bench.dropped.value) == (b"", 3)
    # Audio that was not sent is dropped, too.
    bench.worker.full = True
    bench.say(1, b"old")
    monkeypatch.setattr(module, "HELD_NS", -1)
    bench.hello()
    assert bench.dropped.value == 6
    bench.link.close()
