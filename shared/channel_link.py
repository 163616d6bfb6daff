"""The shell of `Channel`: a Link whose peers each have a channel, with the timer that repeats refused sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any

import zmq

from .bus_link import Link
from .channel import Channel
from .gather import Gather
from .liveness import RETRY_S
from .messages import Header, encode
from .metrics import Counter


class ChannelLink(Link):
    """`post` numbered messages, and say `hello` periodically: it acknowledges, and finds what was lost.

    `make` opens the channel to a peer: "" on a DEALER, the peer's name on a ROUTER. `on_restart(peer)` is called when
    another incarnation of the peer answers, before its messages are handled. `refused` counts
    sends that the peer was too full, or not there, to take; `lost` what a channel had no room for.
    """

    def __init__(
        self,
        sock: zmq.Socket[Any],
        *,
        types: Any,
        make: Callable[[], Channel],
        on_message: Callable[[str, Any], None],
        refused: Counter,
        lost: Counter,
        undecodable: Counter,
        on_restart: Callable[[str], None] | None = None,
        gather: Gather | None = None,
        retry_s: float = RETRY_S,
    ) -> None:
        super().__init__(
            sock, types=types, on_message=on_message, dropped=refused, undecodable=undecodable, gather=gather
        )
        self._lost = lost
        self._make = make
        self._on_restart = on_restart
        self._retry_s = retry_s
        self._channels: dict[str, Channel] = {}
        # Peers that refused the last send. They are tried again together.
        self._refusing: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def channel(self, peer: str = "") -> Channel:
        found = self._channels.get(peer)
        if found is None:
            found = self._channels[peer] = self._make()
        return found

    def forget(self, peer: str) -> None:
        """The peer is gone for good."""
        self._channels.pop(peer, None)

    def put(self, messages: Sequence[Any], peer: str = "", *, weight: int = 1) -> bool:
        """Number `messages`, which must not change afterwards; `flush` sends them. False: there is no room."""
        channel = self.channel(peer)
        dropped = channel.dropped
        taken = channel.put(messages, weight=weight)
        if channel.dropped != dropped:
            self._lost.inc(channel.dropped - dropped)
        return taken

    def post(self, messages: Sequence[Any], peer: str = "", *, weight: int = 1) -> bool:
        """`put` and `flush`, but nothing is offered to a peer that has just refused: it is tried again soon."""
        taken = self.put(messages, peer, weight=weight)
        if peer not in self._refusing:
            self.flush(peer)
        return taken

    def hello(self, peer: str = "", hints: Sequence[Any] = ()) -> bool:
        """Say what the peer should have, and `hints`: messages that are worthless a moment later."""
        return self.send((self.channel(peer).hello(), *hints), peer)

    def flush(self, peer: str = "") -> None:
        """Send what was not sent, as far as the peer takes it."""
        channel = self.channel(peer)
        now_ns = monotonic_ns()
        while batch := channel.batch():
            if not self._take(peer, encode(batch)):
                self._dropped.inc()
                self._refusing.add(peer)
                if self._loop is not None and self._timer is None:
                    self._timer = self._loop.call_later(self._retry_s, self._retry)
                return
            channel.sent(batch, now_ns)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().close()

    def _retry(self) -> None:
        self._timer = None
        refusing, self._refusing = self._refusing, set()
        for peer in refusing & self._channels.keys():
            self.flush(peer)

    def _accept(self, peer: str, batch: Sequence[Any]) -> Sequence[Any]:
        if not batch or type(batch[0]) is not Header:
            return batch
        channel = self.channel(peer)
        messages, restarted = channel.receive(batch, monotonic_ns())
        if restarted and self._on_restart is not None:
            self._on_restart(peer)
        if channel.has_unsent:
            self._refusing.discard(peer)
            self.flush(peer)
        if channel.owes_answer:
            self.hello(peer)
        return messages
