"""A ZeroMQ socket on an asyncio loop. txpacer, which has no such loop, uses `shared/bus.py` alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import zmq

from .bus import NOBLOCK, NOBLOCK_MORE, POLLIN, Faults, receive
from .gather import Gather
from .messages import UndecodableError, decode, encode
from .metrics import Counter


class Link:
    """A socket on an asyncio loop: drained whenever readable, written without ever waiting.

    `on_message(peer, message)` is called for each message; `peer` is the sender's name on a ROUTER and "" on a DEALER.
    `undecodable` counts batches that do not decode as `types`, and messages whose handler raised: only they are lost.
    `dropped` counts refused sends. `gather` is told of every batch.
    """

    def __init__(
        self,
        sock: zmq.Socket[Any],
        *,
        types: Any,
        on_message: Callable[[str, Any], None],
        dropped: Counter,
        undecodable: Counter,
        gather: Gather | None = None,
    ) -> None:
        self._sock = sock
        self._types = types
        self._on_message = on_message
        self._dropped = dropped
        self._undecodable = undecodable
        self._gather = gather
        self._faults = Faults(undecodable)
        self._is_router = sock.type == zmq.ROUTER
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = 0

    def start(self) -> None:
        """Begin to receive on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._fd = self._sock.FD
        self._loop.add_reader(self._fd, self._drain)
        self._loop.call_soon(self._drain)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._loop = None
        self._sock.close(linger=0)

    def send(self, messages: Iterable[Any], peer: str = "") -> bool:
        """Send one batch; False when it was dropped. Never waits, never raises for a peer that is gone or full."""
        if self._take(peer, encode(messages)):
            return True
        self._dropped.inc()
        return False

    def _take(self, peer: str, data: bytes) -> bool:
        try:
            if self._is_router:
                self._sock.send(peer.encode(), NOBLOCK_MORE)
            self._sock.send(data, NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as exc:
            if exc.errno == zmq.EHOSTUNREACH:
                return False
            raise
        # Sending may swallow the edge that announces input (the FD is edge-triggered): look again.
        if self._loop is not None and int(self._sock.getsockopt(zmq.EVENTS)) & POLLIN:
            self._loop.call_soon(self._drain)
        return True

    def _accept(self, _peer: str, batch: Sequence[Any]) -> Sequence[Any]:
        """The messages of `batch` that are to be handled."""
        return batch

    def _drain(self) -> None:
        if self._loop is None:
            return
        # A bound, so that a flood on one link does not keep the loop from everything else.
        for _ in range(256):
            data: bytes | memoryview
            try:
                if self._is_router:
                    peer, data = receive(self._sock)
                    name = peer.decode("utf-8", "replace")
                else:
                    name, data = "", self._sock.recv(NOBLOCK)
            except zmq.Again:
                return
            except ValueError:
                self._undecodable.inc()
                continue
            try:
                batch = decode(data, self._types)
            except UndecodableError:
                self._undecodable.inc()
                continue
            if self._gather is not None:
                self._gather.served()
            for message in self._accept(name, batch):
                try:
                    self._on_message(name, message)
                except Exception as exc:
                    self._faults.note(message, exc)
            # Cheaper than to be told by an exception. A handler may have closed the link.
            if self._loop is None or not int(self._sock.getsockopt(zmq.EVENTS)) & POLLIN:
                return
        self._loop.call_soon(self._drain)
