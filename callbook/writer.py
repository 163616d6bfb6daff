"""Moves facts from the spool into the database, in batches, until the database takes them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared.facts import Noted
from shared.messages import UndecodableError, decode

from .core.delays import backoff_s
from .database import blames_the_fact, migrate, place
from .metrics import Metrics
from .records import Records
from .spool import Position, Spool

logger = logging.getLogger("callbook")

# Facts in one transaction.
BATCH: Final = 500
# The pause while the database is down.
FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 10.0

_T = TypeVar("_T")


class Writer:
    """`run` migrates the database, then writes until it is cancelled. `wake` means that the spool has new facts.

    `caught_up` is set when all facts of an earlier callbook are written.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        spool: Spool,
        records: Records,
        metrics: Metrics,
        first_retry_s: float = FIRST_RETRY_S,
        last_retry_s: float = LAST_RETRY_S,
    ) -> None:
        self._engine = engine
        self._spool = spool
        self._records = records
        self._metrics = metrics
        self._first_retry_s = first_retry_s
        self._last_retry_s = last_retry_s
        self._thread = ThreadPoolExecutor(1, "database")
        self._wake = asyncio.Event()
        self.caught_up = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        try:
            await self._until_it_works(lambda: migrate(self._engine))
            while True:
                self._wake.clear()
                if not await self._write_some():
                    self.caught_up.set()
                    await self._wake.wait()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _write_some(self) -> bool:
        """Write one batch; False when there was none."""
        try:
            payloads, position = await self._in_thread(lambda: self._spool.read(BATCH))
        except OSError as exc:
            logger.error("the spool cannot be read (%s); facts wait on the disk", exc.strerror)
            await asyncio.sleep(self._last_retry_s)
            return True
        self._metrics.spool_torn.set(self._spool.torn)
        batch = self._decode(payloads)
        if batch:
            written = await self._until_it_works(lambda: self._write(batch))
            self._metrics.written.inc(written)
        if payloads:
            await self._in_thread(lambda: self._forget(position))
            self._metrics.spool_bytes.set(self._spool.held_bytes)
        return bool(payloads)

    def _forget(self, position: Position) -> None:
        try:
            self._spool.done(position)
        except OSError as exc:
            logger.error("the spool's disk failed (%s); what is written may be read again", exc.strerror)

    def _decode(self, payloads: Sequence[bytes]) -> list[Noted]:
        batch: list[Noted] = []
        for payload in payloads:
            try:
                batch.extend(decode(payload, Noted))
            except UndecodableError:
                self._metrics.undecodable.inc()
        return batch

    def _write(self, batch: Sequence[Noted]) -> int:
        try:
            return self._commit(batch)
        except Exception as exc:
            if not blames_the_fact(exc):
                raise
        # A poison fact: write the batch one by one.
        return sum(self._write_one(noted) for noted in batch)

    def _commit(self, batch: Sequence[Noted]) -> int:
        with Session(self._engine) as session, session.begin():
            written = self._records.write(session, batch)
        for usage, cost_usd in self._records.used:
            for kind, counter in self._metrics.tokens.items():
                counter.inc(getattr(usage, kind))
            self._metrics.cost_usd.inc(cost_usd or 0.0)
        return written

    def _write_one(self, noted: Noted) -> int:
        try:
            return self._commit((noted,))
        except Exception as exc:
            if not blames_the_fact(exc):
                raise
            # The type only: the text of a database's error may quote the fact.
            logger.error("the database refused a %s (%s)", type(noted.fact).__name__, type(exc).__name__)
            self._metrics.rejected.inc()
            with Session(self._engine) as session, session.begin():
                self._records.skip(session, noted)
            return 0

    async def _until_it_works(self, work: Callable[[], _T]) -> _T:
        """Do `work` in the database's thread, and retry it while the database is down."""
        failures = 0
        while True:
            try:
                result = await self._in_thread(work)
            except SQLAlchemyError as exc:
                failures += 1
                self._metrics.database_failures.inc()
                self._metrics.database_up.set(0)
                if failures == 1:
                    where = place(self._engine.url)
                    kind = type(exc).__name__
                    logger.warning("the database at %s cannot be written (%s); facts wait on the disk", where, kind)
                delay_s = backoff_s(
                    failures, first_s=self._first_retry_s, limit_s=self._last_retry_s, spread=random.random()
                )
                await asyncio.sleep(delay_s)
            else:
                if failures:
                    logger.info("the database is back after %d failures", failures)
                self._metrics.database_up.set(1)
                return result

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        loop: Any = asyncio.get_running_loop()
        result: _T = await loop.run_in_executor(self._thread, work)
        return result
