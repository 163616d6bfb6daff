"""Gets facts to callbook: at least once, in order, and without the sender ever waiting for it."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Any, Final

import zmq

from . import bus
from .facts import Fact, Kept, Noted
from .messages import encode
from .metrics import Counter, Page

# Facts that wait while callbook is away. A call makes about one in two seconds: 150 calls fill it in four minutes, with
# 10 MB. callbook's own spool covers its database's absence, so only a dead callbook is bridged here.
WAITING_MAX: Final = 20_000
# One send: 0.3 ms of encoding, well within the gateway's 1 ms.
BATCH_MAX: Final = 32
# An answer takes callbook one fsync. Silence for this long means that it is gone or frozen: say it again.
AGAIN_S: Final = 1.0
# No more than a few repetitions may queue up in front of a callbook that is frozen.
HWM: Final = 4


class Courier:
    """`note` facts, from the loop that `start` was called on. Bound: WAITING_MAX facts; then the oldest go, counted.

    One batch is under way at a time, and is sent again until callbook has answered that it is on disk. So what is
    Kept is always a beginning of what was noted, whatever was lost on the way or died at the other end.
    """

    def __init__(
        self, context: zmq.Context[Any], url: str, *, name: str, page: Page, max_waiting: int = WAITING_MAX
    ) -> None:
        self._source = secrets.randbits(62)
        self._seq = 0
        self._waiting: deque[Noted] = deque()
        self._max_waiting = max_waiting
        # The last seq of the batch under way; 0: none is.
        self._under_way = 0
        self._was_answered = False
        self._noted: Counter = page.counter("facts_noted")
        self._lost: Counter = page.counter("facts_lost")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._link = bus.Link(
            bus.dealer(context, url, name=name, hwm=HWM),
            types=Kept,
            on_message=self._on_kept,
            dropped=page.counter("facts_refused_sends"),
            undecodable=page.counter("facts_undecodable"),
        )

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._link.start()
        self._timer = self._loop.call_later(0, self._send)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def note(self, fact: Fact) -> None:
        """Queue a fact. Never waits."""
        self._seq += 1
        self._noted.inc()
        if len(self._waiting) >= self._max_waiting:
            self._waiting.popleft()
            self._lost.inc()
        self._waiting.append(Noted(self._source, self._seq, fact))
        if not self._under_way and self._loop is not None and self._timer is None:
            # What is noted in one turn of the loop goes out together.
            self._timer = self._loop.call_later(0, self._send)

    async def delivered(self, timeout_s: float) -> int:
        """Wait until everything is Kept, at most `timeout_s`; how many facts were left behind.

        A callbook that has never answered is not waited for.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._waiting and self._was_answered and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  # at the exit only
            await asyncio.sleep(0.01)
        return len(self._waiting)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None
        self._link.close()

    def _send(self) -> None:
        self._timer = None
        if self._loop is None or not self._waiting:
            self._under_way = 0
            return
        batch = [self._waiting[i] for i in range(min(BATCH_MAX, len(self._waiting)))]
        self._under_way = batch[-1].seq
        try:
            self._link.send(batch)
        except (ValueError, OverflowError):
            # A number beyond 64 bits, a text that is no UTF-8: that fact is lost, and not all that come behind it.
            self._drop_unsayable(batch)
            self._send()
            return
        self._timer = self._loop.call_later(AGAIN_S, self._send)

    def _drop_unsayable(self, batch: list[Noted]) -> None:
        for noted in batch:
            try:
                encode((noted,))
            except (ValueError, OverflowError):
                self._waiting.remove(noted)
                self._lost.inc()

    def _on_kept(self, _: str, kept: Kept) -> None:
        if kept.source != self._source:
            return
        self._was_answered = True
        while self._waiting and self._waiting[0].seq <= kept.through:
            self._waiting.popleft()
        if kept.through >= self._under_way:
            if self._timer is not None:
                self._timer.cancel()
            self._send()
