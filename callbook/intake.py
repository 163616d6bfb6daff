"""The intake of facts from gateways, aibridge workers and callbook itself: first the disk, then the acknowledgement."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import zmq

from shared import bus
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.facts import Fact, Leaving, Noted
from shared.messages import encode

from .core.senders import Senders
from .metrics import Metrics
from .spool import Spool

logger = logging.getLogger("callbook")

# Batches from one sender: its window, and repetitions while callbook waits for a slow disk.
HWM: Final = 100
# Facts that come within this time share one write and one sync of the disk.
GATHER_S: Final = 0.02
# The pause after a full spool or a failed disk.
RETRY_S: Final = 1.0


class _FactsLink(ChannelLink):
    """Passes on each fact with its source and number, and acknowledges nothing by itself."""

    senders: Senders

    def _accept(self, peer: str, batch: Sequence[Any]) -> Sequence[Any]:
        messages = super()._accept(peer, batch)
        channel = self.channel(peer)
        if not channel.peer_epoch:
            return ()
        self.senders.heard(peer, channel.peer_epoch, time.monotonic_ns())
        return [
            Noted(channel.peer_epoch, seq, message) if type(message) is not Leaving else message
            for seq, message in enumerate(messages, channel.first_returned)
        ]


class Intake:
    """`on_kept` gets each new fact after it is on the disk. `run` takes facts until it is cancelled.

    Bound: only facts on the disk are acknowledged, and a sender has a window of unacknowledged facts. callbook's own
    facts (one per recording) wait in memory while the spool accepts none.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        url: str,
        *,
        spool: Spool,
        metrics: Metrics,
        on_kept: Callable[[Sequence[Noted]], None],
    ) -> None:
        self._spool = spool
        self._metrics = metrics
        self._on_kept = on_kept
        self._source = bus.draw_epoch()
        self._seq = 0
        self._pending: list[tuple[str, Noted]] = []
        self._wake = asyncio.Event()
        self.senders = Senders()
        self._thread = ThreadPoolExecutor(1, "spool")
        self._link = _FactsLink(
            bus.router(context, url, hwm=HWM),
            types=Fact | Leaving,
            make=lambda: Channel(bus.draw_epoch(), max_weight=0, acknowledges_at_once=False),
            on_message=self._on_message,
            refused=metrics.bus_refused,
            lost=metrics.bus_refused,
            undecodable=metrics.undecodable,
        )
        self._link.senders = self.senders

    @property
    def has_pending(self) -> bool:
        """Whether facts wait for the disk."""
        return bool(self._pending)

    def note(self, fact: Fact) -> None:
        """Take a fact of callbook's own."""
        self._seq += 1
        self._on_message("", Noted(self._source, self._seq, fact))

    def look_for_silent_senders(self) -> None:
        """Forget senders that are gone."""
        for peer in self.senders.silent(time.monotonic_ns()):
            self._link.forget(peer)

    async def run(self) -> None:
        self._link.start()
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(GATHER_S)
                await self._take()
        finally:
            self._link.close()
            self._thread.shutdown()

    def _on_message(self, peer: str, message: Noted | Leaving) -> None:
        if isinstance(message, Leaving):
            self.senders.left(peer)
            return
        self._pending.append((peer, message))
        self._wake.set()

    async def _take(self) -> None:
        self._wake.clear()
        pending = list(self._pending)
        new = [noted for _, noted in pending]
        if not await self._append(new):
            await asyncio.sleep(RETRY_S)
            self._wake.set()
            return
        del self._pending[: len(pending)]
        self._metrics.kept.inc(len(new))
        for peer, (source, seq) in {peer: (noted.source, noted.seq) for peer, noted in pending if peer}.items():
            channel = self._link.channel(peer)
            if channel.peer_epoch == source:
                channel.acknowledge(seq)
                self._link.hello(peer)
        self._on_kept(new)

    async def _append(self, new: list[Noted]) -> bool:
        payloads = [encode((noted,)) for noted in new]
        try:
            taken = await asyncio.get_running_loop().run_in_executor(self._thread, self._spool.append, payloads)
        except OSError as exc:
            logger.error("the spool's disk failed (%s); facts wait where they come from", exc.strerror)
            taken = False
        if not taken:
            self._metrics.spool_refused.inc()
        self._metrics.spool_bytes.set(self._spool.held_bytes)
        return taken
