"""Deletes calls after RETENTION_DAYS: first the recording at Twilio, then every record of the call."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .metrics import Metrics
from .models import Call, Recording, Source
from .twilio_rest import RestError, RestRefusedError

logger = logging.getLogger("callbook")

EVERY_S: Final = 3_600.0
# Calls in one transaction.
BATCH: Final = 100
# A process that has sent nothing for this long repeats no earlier fact.
SOURCE_DAYS: Final = 30


class Rest(Protocol):
    async def delete_recording(self, recording_sid: str) -> None: ...


class Retention:
    """`run` looks once an hour. `rest` is None without Twilio credentials; then no call can have a recording."""

    def __init__(self, engine: Engine, *, days: int, rest: Rest | None, metrics: Metrics) -> None:
        self._engine = engine
        self._days = days
        self._rest = rest
        self._metrics = metrics

    async def run(self) -> None:
        while True:
            try:
                await self.forget(datetime.now(UTC))
            except SQLAlchemyError as exc:
                logger.warning("old calls could not be deleted (%s); trying again in an hour", type(exc).__name__)
            await asyncio.sleep(EVERY_S)

    async def forget(self, now: datetime) -> None:
        """Delete every call that began more than `days` before `now`, unless its recording cannot be deleted."""
        await asyncio.to_thread(self._forget_sources, now - timedelta(days=SOURCE_DAYS))
        if not self._days:
            return
        last = ("", datetime.min.replace(tzinfo=UTC))
        while found := await asyncio.to_thread(self._old, now - timedelta(days=self._days), last):
            gone = [call_sid for call_sid, _, recording_sid in found if await self._delete_recording(recording_sid)]
            await asyncio.to_thread(self._delete, gone)
            self._metrics.calls_deleted.inc(len(gone))
            last = (found[-1][0], found[-1][1])

    def _old(self, cutoff: datetime, last: tuple[str, datetime]) -> list[tuple[str, datetime, str]]:
        """Calls older than `cutoff` after `last`, oldest first; and the recording of each, if it has one."""
        call_sid, began_at = last
        with Session(self._engine) as session:
            query = (
                select(Call.call_sid, Call.began_at, Recording.recording_sid)
                .outerjoin(Recording)
                .where(Call.began_at < cutoff)
                .where((Call.began_at > began_at) | ((Call.began_at == began_at) & (Call.call_sid > call_sid)))
                .order_by(Call.began_at, Call.call_sid)
                .limit(BATCH)
            )
            return [(row[0], row[1], row[2] or "") for row in session.execute(query)]

    async def _delete_recording(self, recording_sid: str) -> bool:
        if not recording_sid:
            return True
        try:
            if self._rest is None:
                raise RestError("refused", may_be_done=False)
            await self._rest.delete_recording(recording_sid)
        except (RestError, RestRefusedError) as exc:
            self._metrics.deletions_failed.inc()
            logger.warning("recording %s could not be deleted (%s); its call stays until it can", recording_sid, exc)
            return False
        return True

    def _delete(self, call_sids: list[str]) -> None:
        with Session(self._engine) as session, session.begin():
            session.execute(delete(Call).where(Call.call_sid.in_(call_sids)))

    def _forget_sources(self, before: datetime) -> None:
        with Session(self._engine) as session, session.begin():
            session.execute(delete(Source).where(Source.updated_at < before))
