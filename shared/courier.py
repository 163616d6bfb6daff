"""Delivers facts to callbook: at least once, in order, and without making the sender wait."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import zmq

from . import bus
from .channel import Channel
from .channel_link import ChannelLink
from .facts import Fact, Leaving
from .liveness import FACTS_HELLO_S
from .messages import Header, encode_one
from .metrics import Counter, Page

# Facts that wait while callbook is down. A call makes about one fact in two seconds: 150 calls fill this in four
# minutes, with 10 MB. callbook's spool covers a database that is down, so only callbook's own absence is bridged here.
WAITING_MAX: Final = 20_000
# One send takes well below the gateway's 1 ms.
BATCH_MAX: Final = 32
# Sent and not acknowledged: callbook holds them in memory until they are on its disk.
WINDOW: Final = 128
HWM: Final = WINDOW // BATCH_MAX


class Courier:
    """`note` facts, from the loop that `start` was called on. Bound: WAITING_MAX facts; then the oldest go, counted.

    callbook acknowledges the facts on its disk. They are always the first of the noted facts, without a gap, whatever
    was lost on the way.
    """

    def __init__(
        self, context: zmq.Context[Any], url: str, *, name: str, page: Page, max_waiting: int = WAITING_MAX
    ) -> None:
        self._channel = Channel(
            bus.draw_epoch(),
            max_weight=max_waiting,
            drops="oldest",
            is_lasting=True,
            batch_max=BATCH_MAX,
            window=WINDOW,
        )
        self._noted: Counter = page.counter("facts_noted")
        self._lost: Counter = page.counter("facts_lost")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_flush_planned = False
        self._link = ChannelLink(
            bus.dealer(context, url, name=name, hwm=HWM),
            types=Header,
            make=lambda: self._channel,
            on_message=lambda _, __: None,
            refused=page.counter("facts_refused_sends"),
            lost=self._lost,
            undecodable=page.counter("facts_undecodable"),
            retry_s=FACTS_HELLO_S,
        )

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._link.start()
        self._hello()
        self._flush()

    @property
    def waiting(self) -> int:
        return self._channel.waiting

    def note(self, fact: Fact) -> None:
        """Queue a fact. Never waits."""
        self._noted.inc()
        try:
            encoded = msgspec.Raw(encode_one(fact))
        except (ValueError, OverflowError):
            # A number beyond 64 bits, or a text that is not UTF-8: only this fact is lost.
            self._lost.inc()
            return
        self._link.put((encoded,))
        if self._loop is not None and not self._is_flush_planned:
            # What is noted in one turn of the loop goes out together.
            self._is_flush_planned = True
            self._loop.call_soon(self._flush)

    async def delivered(self, timeout_s: float) -> int:
        """Wait until callbook has everything, at most `timeout_s`, and take leave. Returns the number of facts left.

        It does not wait for a callbook that has never answered.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self.waiting and self._channel.peer_epoch and loop.time() < deadline:  # noqa: ASYNC110  # at the exit only
            await asyncio.sleep(0.01)
        if self._loop is not None:
            self._link.hello(hints=(Leaving(),))
            # For ZeroMQ's thread to hand it over; linger is 0.
            await asyncio.sleep(0.01)
        return self.waiting

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None
        self._link.close()

    def _flush(self) -> None:
        self._is_flush_planned = False
        if self._loop is not None:
            self._link.flush()

    def _hello(self) -> None:
        if self._loop is not None:
            self._link.hello()
            self._timer = self._loop.call_later(FACTS_HELLO_S, self._hello)
