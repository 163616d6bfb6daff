"""Ends the records of calls whose gateway is gone: killed, or ended with its cell before it could send the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared.liveness import FACTS_SILENT_S

from .models import Source, Stream, Turn
from .records import Records

logger = logging.getLogger("callbook")


class Orphans:
    """`run` checks periodically. `alive` gives the live sources; a source that is gone never returns.

    A gateway that was frozen sends the true end later, which replaces the one written here.
    """

    def __init__(self, engine: Engine, *, cell: str, records: Records, alive: Callable[[], set[int]]) -> None:
        self._engine = engine
        self._cell = cell
        self._records = records
        self._alive = alive

    async def run(self) -> None:
        while True:
            # Wait at the start, too: after that, every live process has said hello.
            await asyncio.sleep(FACTS_SILENT_S)
            try:
                ended = await asyncio.to_thread(self.end, self._alive())
            except SQLAlchemyError:
                continue  # the writer reports that the database is down
            if ended:
                logger.warning("%d calls were left open by a gateway that is gone; their records are ended", ended)

    def end(self, alive: set[int]) -> int:
        """End every open stream of this cell whose source is not in `alive`. Returns how many."""
        with Session(self._engine) as session, session.begin():
            orphans = session.scalars(
                select(Stream)
                .join(Source, Source.source == Stream.source)
                .where(Stream.ended_at.is_(None), Source.cell == self._cell, Source.source.not_in(alive))
            ).all()
            for stream in orphans:
                self._records.stream_lost(session, stream, _last_sign(session, stream))
            return len(orphans)


def _last_sign(session: Session, stream: Stream) -> datetime:
    """When the call was last known to live."""
    words = session.execute(
        select(func.max(Turn.began_at), func.max(Turn.ended_at)).where(Turn.call_sid == stream.call_sid)
    ).one()
    signs = [sign for sign in (stream.started_at, stream.first_frame_at, *words) if sign is not None]
    return max(signs)
