"""Posts about calls that ended, kept in a table until each was accepted or given up.

A row is claimed for a minute, because several cells may share a database. A crash between the answer and its record
repeats the post.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .core.delays import backoff_s
from .models import Delivery, TraceExport
from .queries import wholes

# Rows that are claimed together.
BATCH: Final = 20
CLAIM_S: Final = 60
# 5 s, 10 s and so on, up to an hour.
FIRST_RETRY_S: Final = 5.0
LAST_RETRY_S: Final = 3_600.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Claimed:
    call_sid: str
    # Failed posts so far.
    attempts: int
    # The call, as queries.whole shows it.
    call: dict[str, Any]


class Due:
    """The rows of one table. Both methods work in a thread."""

    def __init__(
        self, engine: Engine, table: type[Delivery | TraceExport], *, attempts_max: int, first_retry_s: float
    ) -> None:
        self._engine = engine
        self._table = table
        self._attempts_max = attempts_max
        self._first_retry_s = first_retry_s

    async def claim(self) -> list[Claimed]:
        """The due posts; none while the database is down, which the writer reports."""
        try:
            return await asyncio.to_thread(self._in_session, self._claim)
        except SQLAlchemyError:
            return []

    def _claim(self, session: Session) -> list[Claimed]:
        now, table = datetime.now(UTC), self._table
        is_due = (table.state == "due", table.due_at <= now)
        some = select(table.call_sid).where(*is_due).limit(BATCH).scalar_subquery()
        # The condition stands twice: another cell may have claimed a row in between.
        claim = update(table).where(table.call_sid.in_(some), *is_due).values(due_at=now + timedelta(seconds=CLAIM_S))
        rows = session.execute(claim.returning(table.call_sid, table.attempts)).all()
        calls = wholes(session, [call_sid for call_sid, _ in rows])
        return [Claimed(call_sid, attempts, calls[call_sid]) for call_sid, attempts in rows]

    async def settle(self, claimed: Sequence[Claimed], outcome: str, *, accepted: bool, final: bool) -> list[str]:
        """Book one attempt for each. `final`: another one would not help. Returns "delivered", "due" or "given-up"."""
        rows = [self._settled(each, outcome, accepted=accepted, final=final) for each in claimed]
        await asyncio.to_thread(self._in_session, lambda session: session.execute(update(self._table), rows))
        return [row["state"] for row in rows]

    def _settled(self, claimed: Claimed, outcome: str, *, accepted: bool, final: bool) -> dict[str, Any]:
        attempts = claimed.attempts + 1
        given_up = final or attempts >= self._attempts_max
        state = "delivered" if accepted else "given-up" if given_up else "due"
        delay_s = backoff_s(attempts, first_s=self._first_retry_s, limit_s=LAST_RETRY_S, spread=random.random())
        due_at = datetime.now(UTC) + timedelta(seconds=delay_s)
        values = {"state": state, "attempts": attempts, "outcome": outcome, "due_at": due_at}
        return {"call_sid": claimed.call_sid, **values}

    def _in_session(self, work: Callable[[Session], _T]) -> _T:
        with Session(self._engine) as session, session.begin():
            return work(session)
