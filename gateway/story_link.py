"""The gateway's link to callbook for the stories of its calls (STATE_URL). Nothing here waits for anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import Any, Final

import zmq

from shared.bus import STORIES_HWM, dealer, draw_epoch
from shared.bus_link import Link
from shared.messages import CallElsewhere, CallRecalled, RecallCall, StoreHello, StoreToGateway
from shared.metrics import Counter
from shared.plan import CallOrder

from .core.commands import KeepStory as LiveStory
from .core.kept_stories import KeptStories

# Another cell learns from the store when this gateway was last alive, and takes for heard what was due until then.
HELLO_S: Final = 0.25
# What callbook did not take is offered again after this.
RETRY_S: Final = 0.05
# Messages in one turn of the loop: some kB each.
TURN_MAX: Final = 8


class StoryLink:
    """`stories` gives the last story of each live call; `on_message` gets what callbook says of single calls.

    Bound: STORIES_HWM messages in the socket; of the rest, the newest of each call (core/kept_stories.py).
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        url: str,
        *,
        name: str,
        stories: Callable[[], Iterable[LiveStory]],
        on_message: Callable[[CallRecalled | CallElsewhere], None],
        refused: Counter,
        undecodable: Counter,
    ) -> None:
        self._kept = KeptStories()
        self._stories = stories
        self._on_message = on_message
        self._epoch = draw_epoch()
        self._loop = asyncio.get_running_loop()
        self._hello_timer: asyncio.TimerHandle | None = None
        self._flush_timer: asyncio.Handle | None = None
        self._link = Link(
            dealer(context, url, name=name, hwm=STORIES_HWM),
            types=StoreToGateway,
            on_message=self._received,
            dropped=refused,
            undecodable=undecodable,
        )

    def start(self) -> None:
        self._link.start()
        self._hello()

    def close(self) -> None:
        for timer in (self._hello_timer, self._flush_timer):
            if timer is not None:
                timer.cancel()
        self._link.close()

    def changed(self, call_sid: str, story: bytes, since_ms: int) -> None:
        """A conversation has changed: only its newest story waits."""
        self._kept.changed(call_sid, story, since_ms)
        self._flush_soon()

    def closed(self, call_sid: str, order: CallOrder, story: bytes, since_ms: int) -> None:
        """A call ended on purpose. `story` is its last one."""
        self._kept.closed(call_sid, order, story, since_ms, monotonic_ns())
        self._flush_soon()

    def recall(self, call_sid: str) -> None:
        """Ask whether another cell had this call. `on_message` gets the answer, or nothing does."""
        self._link.send((RecallCall(call_sid),))

    def _received(self, _: str, message: StoreHello | CallRecalled | CallElsewhere) -> None:
        if not isinstance(message, StoreHello):
            self._on_message(message)
        else:
            self._kept.met(message.epoch, self._stories(), monotonic_ns())
            self._flush_soon()

    def _hello(self) -> None:
        self._link.send((StoreHello(self._epoch),))
        self._hello_timer = self._loop.call_later(HELLO_S, self._hello)

    def _flush_soon(self) -> None:
        if self._flush_timer is None:
            self._flush_timer = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        for _ in range(TURN_MAX):
            message = self._kept.next()
            if message is None:
                return
            if not self._link.send((message,)):
                self._flush_timer = self._loop.call_later(RETRY_S, self._flush)
                return
            self._kept.given(message)
        self._flush_soon()
