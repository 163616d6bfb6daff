"""The customer's webhook: each ended call is posted to WEBHOOK_URL until the receiver accepts it, or it is given up."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.signing import headers

from .due import FIRST_RETRY_S, Claimed, Due
from .metrics import Metrics
from .models import Delivery

logger = logging.getLogger("callbook")

POLL_S: Final = 2.0
TIMEOUT_S: Final = 10.0
# The last attempt is about seven hours after the first.
ATTEMPTS_MAX: Final = 16
# 410 Gone: the receiver wants no more posts (standardwebhooks.com).
GONE: Final = 410


class Deliveries:
    """`run` posts until it is cancelled. The body is the call as `/api/calls/{id}` shows it.

    Delivery is at least once: a crash between the answer and its record repeats a post, with the same `webhook-id`.
    """

    def __init__(
        self, engine: Engine, *, url: str, key: bytes, metrics: Metrics, first_retry_s: float = FIRST_RETRY_S
    ) -> None:
        self._due = Due(engine, Delivery, attempts_max=ATTEMPTS_MAX, first_retry_s=first_retry_s)
        self._url = url
        self._key = key
        self._metrics = metrics
        # The pause between two looks for due posts.
        self.poll_s = POLL_S

    async def run(self) -> None:
        # 3 MB that a callbook without WEBHOOK_URL does not need.
        import httpx2

        async with httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
            while True:
                due = await self._due.claim()
                try:
                    await asyncio.gather(*(self._deliver(client, each) for each in due))
                except SQLAlchemyError:
                    due = []  # the writer reports that the database is down
                if not due:
                    await asyncio.sleep(self.poll_s)

    async def _deliver(self, client: Any, due: Claimed) -> None:
        import httpx2

        call_sid, body = due.call_sid, due.call
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
        if not delivered:
            attempt = due.attempts + 1
            logger.warning("call %s: the webhook was not accepted (%s), attempt %d", call_sid, outcome, attempt)
        (state,) = await self._due.settle([due], outcome, accepted=delivered, final=gone)
        self._metrics.webhooks["failed" if state == "due" else state.replace("-", "_")].inc()
