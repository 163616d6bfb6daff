"""Copies of the calls that somebody listens to, for callbook, whose page of live calls plays them.

callbook subscribes to a call, and this gateway's socket receives the subscription. A call to which nobody listens costs
one comparison per message. A call to which somebody listens costs an append per message, and a send every SEND_S.
Nothing here waits: copies that callbook does not take are dropped and counted.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import zmq

from shared import bus
from shared.overheard import AI, CALLER, FLUSHED, pack, topic

from .core.metrics import Metrics

# A listener hears the call this much later than it is. A send for each frame would cost as much as the frame.
SEND_S: Final = 0.06
# First byte of what the socket receives: somebody subscribed, or the last one left.
_SUBSCRIBED: Final = 1


class Copy:
    """What was said in one call since the last send."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[tuple[int, bytes]] = []

    def caller(self, audio: bytes) -> None:
        self.parts.append((CALLER, audio))

    def ai(self, audio: bytes) -> None:
        self.parts.append((AI, audio))

    def flushed(self) -> None:
        self.parts.append((FLUSHED, b""))


class Copies:
    """Needs a running loop. `url` is where callbook takes copies. Bound: COPIES_HWM messages; then they are dropped."""

    def __init__(self, context: zmq.Context[Any], url: str, metrics: Metrics) -> None:
        self._sock = bus.publisher(context, url, hwm=bus.COPIES_HWM)
        self._by_topic: dict[bytes, Copy] = {}
        self._dropped = metrics.copies_dropped
        self._listened = metrics.calls_listened
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> bool:
        """Take subscriptions. True: they changed, so ask `of` for each call."""
        changed = False
        while True:
            try:
                said = self._sock.recv(bus.NOBLOCK)
            except zmq.Again:
                break
            changed = True
            if said[:1] == bytes((_SUBSCRIBED,)):
                self._by_topic[said[1:]] = Copy()
            else:
                self._by_topic.pop(said[1:], None)
        if changed:
            self._listened.set(len(self._by_topic))
        if self._by_topic and self._timer is None:
            self._timer = self._loop.call_later(SEND_S, self._send)
        return changed

    def of(self, call_sid: str) -> Copy | None:
        """Where to put what is said in this call; None: nobody listens."""
        return self._by_topic.get(topic(call_sid)) if self._by_topic else None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._sock.close(linger=0)

    def _send(self) -> None:
        for call_topic, copy in self._by_topic.items():
            if not copy.parts:
                continue
            try:
                self._sock.send(pack(call_topic, copy.parts), bus.NOBLOCK)
            except zmq.Again:
                self._dropped.inc()
            copy.parts.clear()
        self._timer = self._loop.call_later(SEND_S, self._send) if self._by_topic else None
