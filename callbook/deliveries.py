"""The customer's webhook: each ended call is posted to WEBHOOK_URL until the receiver accepts it, or it is given up."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, cast

from sqlalchemy import CursorResult, Engine, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared.signing import headers

from .core.delays import backoff_s
from .metrics import Metrics
from .models import Delivery
from .queries import whole

logger = logging.getLogger("callbook")

POLL_S: Final = 2.0
TIMEOUT_S: Final = 10.0
# Posts at the same time.
BATCH: Final = 20
# 5 s, 10 s and so on up to an hour: the last attempt is about seven hours after the first.
ATTEMPTS_MAX: Final = 16
FIRST_RETRY_S: Final = 5.0
LAST_RETRY_S: Final = 3_600.0
# A claimed delivery belongs to its cell for this long: two cells may share a database.
CLAIM_S: Final = 60
# 410 Gone: the receiver wants no more posts (standardwebhooks.com).
GONE: Final = 410

_T = TypeVar("_T")


class Deliveries:
    """`run` posts until it is cancelled. The body is the call as `/api/calls/{id}` shows it.

    Delivery is at least once: a crash between the answer and its record repeats a post, with the same `webhook-id`.
    """

    def __init__(
        self, engine: Engine, *, url: str, key: bytes, metrics: Metrics, first_retry_s: float = FIRST_RETRY_S
    ) -> None:
        self._engine = engine
        self._url = url
        self._key = key
        self._metrics = metrics
        self._first_retry_s = first_retry_s
        # The pause between two looks for due posts.
        self.poll_s = POLL_S

    async def run(self) -> None:
        # 3 MB that a callbook without WEBHOOK_URL does not need.
        import httpx2

        async with httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
            while True:
                try:
                    due = await asyncio.to_thread(self._claim)
                    await asyncio.gather(*(self._deliver(client, *each) for each in due))
                except SQLAlchemyError:
                    due = []  # the writer reports that the database is down
                if not due:
                    await asyncio.sleep(self.poll_s)

    def _claim(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Claim the due deliveries: the SID, the attempts so far and the body of each."""
        now = datetime.now(UTC)
        claimed = []
        with Session(self._engine) as session, session.begin():
            query = select(Delivery).where(Delivery.state == "due", Delivery.due_at <= now).limit(BATCH)
            for row in session.scalars(query).all():
                mine = (Delivery.call_sid == row.call_sid, Delivery.due_at == row.due_at, Delivery.state == "due")
                taken = session.execute(update(Delivery).where(*mine).values(due_at=now + timedelta(seconds=CLAIM_S)))
                body = whole(session, row.call_sid)
                if cast("CursorResult[Any]", taken).rowcount == 1 and body is not None:
                    claimed.append((row.call_sid, row.attempts, body))
        return claimed

    async def _deliver(self, client: Any, call_sid: str, attempts: int, body: dict[str, Any]) -> None:
        import httpx2

        # The path is for operators, and may be longer than all the rest.
        del body["webhook"], body["path"]
        message_id = f"call-ended-{call_sid}"
        data = json.dumps({"type": "call.ended", "timestamp": body["ended_at"], "data": body}).encode()
        signed = headers(self._key, message_id, int(time.time()), data)
        try:
            answer = await client.post(self._url, content=data, headers={"content-type": "application/json", **signed})
            delivered, outcome = answer.is_success, f"HTTP {answer.status_code}"
            gone = answer.status_code == GONE
        except (httpx2.HTTPError, OSError) as exc:
            delivered, outcome, gone = False, type(exc).__name__, False
        attempts += 1
        state = "delivered" if delivered else "given-up" if gone or attempts >= ATTEMPTS_MAX else "due"
        self._metrics.webhooks["failed" if state == "due" else state.replace("-", "_")].inc()
        if not delivered:
            logger.warning("call %s: the webhook was not accepted (%s), attempt %d", call_sid, outcome, attempts)
        delay_s = backoff_s(attempts, first_s=self._first_retry_s, limit_s=LAST_RETRY_S, spread=random.random())
        due_at = datetime.now(UTC) + timedelta(seconds=delay_s)
        values = {"state": state, "attempts": attempts, "outcome": outcome, "due_at": due_at}
        await asyncio.to_thread(
            self._in_session,
            lambda session: session.execute(update(Delivery).where(Delivery.call_sid == call_sid).values(**values)),
        )

    def _in_session(self, work: Callable[[Session], _T]) -> _T:
        with Session(self._engine) as session, session.begin():
            return work(session)
