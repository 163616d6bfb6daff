"""Where facts come in, from gateways, aibridge workers and callbook itself: first the disk, then the answer."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import zmq

from shared import bus
from shared.facts import Fact, Kept, Noted
from shared.messages import encode

from .metrics import Metrics
from .spool import Spool

logger = logging.getLogger("callbook")

# Batches under way from one sender: one, and its repetitions while callbook was busy with a slow disk.
HWM: Final = 100
# What came within it shares one write and one sync of the disk.
GATHER_S: Final = 0.02
# After a spool that is full, or a disk that failed.
RETRY_S: Final = 1.0


class Intake:
    """`on_kept` gets each new fact once it is on the disk. `run` takes facts until it is cancelled.

    Bound: nothing is acknowledged that is not on the disk, and a sender has one batch under way; callbook's own facts
    wait in memory while the spool takes none (one a recording, so their number is that of the calls).
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
        self._source = secrets.randbits(62)
        self._seq = 0
        self._pending: list[tuple[str, Noted]] = []
        self._wake = asyncio.Event()
        # When the last fact came; the loop's time.
        self.heard_at = asyncio.get_running_loop().time()
        # By source: the last seq that is on the disk.
        self._through: dict[int, int] = {}
        self._thread = ThreadPoolExecutor(1, "spool")
        self._link = bus.Link(
            bus.router(context, url, hwm=HWM),
            types=Noted,
            on_message=self._on_noted,
            dropped=metrics.bus_refused,
            undecodable=metrics.undecodable,
        )

    def note(self, fact: Fact) -> None:
        """A fact of callbook's own."""
        self._seq += 1
        self._on_noted("", Noted(self._source, self._seq, fact))

    def _on_noted(self, peer: str, noted: Noted) -> None:
        self._pending.append((peer, noted))
        self.heard_at = asyncio.get_running_loop().time()
        self._wake.set()

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

    async def _take(self) -> None:
        self._wake.clear()
        pending, self._pending = self._pending, []
        new: list[Noted] = []
        through: dict[int, int] = {}
        for _, noted in pending:
            if noted.seq > through.get(noted.source, self._through.get(noted.source, 0)):
                through[noted.source] = noted.seq
                new.append(noted)
        if new and not await self._append(new):
            # Others say it again by themselves.
            self._pending = [(peer, noted) for peer, noted in pending if not peer] + self._pending
            await asyncio.sleep(RETRY_S)
            self._wake.set()
            return
        self._through |= through
        self._metrics.kept.inc(len(new))
        self._metrics.again.inc(len(pending) - len(new))
        # The last of a sender's facts stands for its whole batch: batches come whole.
        for (peer, source), seq in {(peer, noted.source): noted.seq for peer, noted in pending if peer}.items():
            self._link.send((Kept(source, seq),), peer)
        if new:
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
