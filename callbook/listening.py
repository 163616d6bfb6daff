"""`/live/{call_sid}/listen`: a WebSocket through which the page of live calls hears both sides of a call.

The gateway that has the call sends copies (`shared/overheard.py`), because callbook subscribes while somebody listens.
A listener that reads too slowly misses copies, which are counted; nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

import zmq
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from shared import bus
from shared.overheard import topic, unpack

from .metrics import Metrics

logger = logging.getLogger("callbook")

# Each costs 20 kB a second. A wall of supervisors has a machine of its own.
LISTENERS_MAX: Final = 10
# 3 s of a call, 60 ms each. What comes later would be heard as an echo of the past.
WAITING_MAX: Final = 50
# A live call says something every 20 ms. Without a copy for this long, the call is over or in another cell.
SILENT_S: Final = 30.0
_CALL_SID: Final = re.compile(r"[A-Za-z0-9]{2,64}", re.ASCII)
# WebSocket close codes (RFC 6455, 7.4.1): normal, policy violation, try again later.
_OVER, _REFUSED, _TOO_MANY = 1000, 1008, 1013


class Listener:
    """The copies that one page has not taken yet. Bound: WAITING_MAX; then the oldest go, counted."""

    def __init__(self, metrics: Metrics) -> None:
        self._dropped = metrics.copies_dropped
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()

    def put(self, records: bytes) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.popleft()
            self._dropped.inc()
        self._waiting.append(records)
        self._wake.set()

    async def next(self) -> bytes:
        """The next records. Raises TimeoutError after SILENT_S without any."""
        async with asyncio.timeout(SILENT_S):
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
        return self._waiting.popleft()


class Listening:
    """Raises zmq.ZMQError when `url`, where the gateways connect, cannot be bound."""

    def __init__(self, context: zmq.Context[Any], url: str, metrics: Metrics) -> None:
        self._sock = bus.subscriber(context, url, hwm=bus.COPIES_HWM)
        self._fd = self._sock.FD
        self._metrics = metrics
        self._by_topic: dict[bytes, list[Listener]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def routes(self) -> list[WebSocketRoute]:
        return [WebSocketRoute("/live/{call_sid}/listen", self._listen)]

    def start(self) -> None:
        """Begin to receive on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._receive)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._loop = None
        self._sock.close(linger=0)

    async def _listen(self, page: WebSocket) -> None:
        call_sid = page.path_params["call_sid"]
        if not _is_own_page(page) or not _CALL_SID.fullmatch(call_sid):
            await page.close(_REFUSED)
            return
        if sum(map(len, self._by_topic.values())) >= LISTENERS_MAX:
            await page.close(_TOO_MANY)
            return
        listener = Listener(self._metrics)
        self._join(topic(call_sid), listener)
        logger.info("somebody listens to call %s", call_sid)
        try:
            await page.accept()
            sending = asyncio.create_task(_send(page, listener))
            leaving = asyncio.create_task(_left(page))
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        finally:
            self._leave(topic(call_sid), listener)

    def _join(self, call_topic: bytes, listener: Listener) -> None:
        if call_topic not in self._by_topic:
            self._sock.setsockopt(zmq.SUBSCRIBE, call_topic)
        self._by_topic.setdefault(call_topic, []).append(listener)
        self._changed(1)

    def _leave(self, call_topic: bytes, listener: Listener) -> None:
        listeners = self._by_topic[call_topic]
        listeners.remove(listener)
        if not listeners:
            del self._by_topic[call_topic]
            if not self._sock.closed:
                self._sock.setsockopt(zmq.UNSUBSCRIBE, call_topic)
        self._changed(-1)

    def _changed(self, by: int) -> None:
        self._metrics.listeners.inc(by)
        if by > 0:
            self._metrics.listened.inc()
        # An operation on the socket may swallow the edge that announces input (its descriptor is edge-triggered).
        if self._loop is not None:
            self._loop.call_soon(self._receive)

    def _receive(self) -> None:
        while self._loop is not None:
            try:
                message = self._sock.recv(bus.NOBLOCK)
            except zmq.Again:
                return
            call_topic, records = unpack(message)
            for listener in self._by_topic.get(call_topic, ()):
                listener.put(records)


def _is_own_page(page: WebSocket) -> bool:
    """Whether no page of another site opened the socket: a browser lets every page do so, and names it."""
    origin = page.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == page.headers.get("host")


async def _send(page: WebSocket, listener: Listener) -> None:
    """Send copies until the call is over. A page that does not read makes this wait, and nobody else."""
    try:
        while True:
            await page.send_bytes(await listener.next())
    except TimeoutError:
        await page.close(_OVER)


async def _left(page: WebSocket) -> None:
    """Wait until the page leaves. What it sends is read and not used."""
    while (await page.receive())["type"] != "websocket.disconnect":
        pass
