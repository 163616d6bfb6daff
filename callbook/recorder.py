"""Starts recordings: after the first frame, until Twilio accepts or refuses, and never two for one call."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from shared.facts import RecordingMove

from .core.delays import backoff_s
from .metrics import Metrics
from .twilio_rest import RestError, RestRefusedError

logger = logging.getLogger("callbook")

FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 30.0
# Half an hour: by then nearly every call is over. Twilio answers 4xx once a call has ended.
GIVE_UP_S: Final = 1_800.0
# Calls remembered, so that a second request for one of them does nothing.
REMEMBERED_MAX: Final = 20_000


class Rest(Protocol):
    async def start_recording(self, call_sid: str) -> str: ...
    async def find_recording(self, call_sid: str) -> str: ...


class Recorder:
    """`want` a recording; `note` gets the outcome. Needs a running loop. `rest` is None without Twilio credentials."""

    def __init__(
        self,
        rest: Rest | None,
        *,
        note: Callable[[RecordingMove], None],
        metrics: Metrics,
        first_retry_s: float = FIRST_RETRY_S,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self._rest = rest
        self._note = note
        self._metrics = metrics
        self._first_retry_s = first_retry_s
        self._give_up_s = give_up_s
        self._known: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def want(self, call_sid: str, *, may_exist: bool = False) -> None:
        """Record this call, unless a request is in flight. `may_exist`: an earlier callbook may have started it."""
        if call_sid in self._known:
            return
        if self._rest is None:
            self._done(call_sid, "given-up", "", 0, "no TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN")
            self._metrics.recordings["given_up"].inc()
            return
        self._known[call_sid] = None
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        task = asyncio.create_task(self._record(self._rest, call_sid, may_exist=may_exist))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop trying. The next start requests the missing recordings again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _record(self, rest: Rest, call_sid: str, *, may_exist: bool) -> None:
        deadline = time.monotonic() + self._give_up_s
        attempts = 0
        failures = 0
        while True:
            try:
                if may_exist:
                    found = await rest.find_recording(call_sid)
                    if found:
                        self._done(call_sid, "started", found, attempts, "")
                        self._metrics.recordings["found"].inc()
                        return
                    may_exist = False
                attempts += 1
                sid = await rest.start_recording(call_sid)
            except RestRefusedError as exc:
                logger.error("call %s: gave up the recording: %s", call_sid, exc)
                self._done(call_sid, "given-up", "", attempts, str(exc))
                self._metrics.recordings["given_up"].inc()
                return
            except RestError as exc:
                failures += 1
                may_exist |= exc.may_be_done
                self._metrics.rest_failures[exc.why].inc()
                if time.monotonic() > deadline:
                    logger.error("call %s: gave up the recording after %d failures", call_sid, failures)
                    self._done(call_sid, "given-up", "", attempts, f"Twilio did not answer ({exc.why})")
                    self._metrics.recordings["given_up"].inc()
                    return
                if failures == 1:
                    logger.warning("call %s: could not start the recording (%s); retrying", call_sid, exc.why)
                await asyncio.sleep(
                    backoff_s(failures, first_s=self._first_retry_s, limit_s=LAST_RETRY_S, spread=random.random())
                )
            else:
                self._done(call_sid, "started", sid, attempts, "")
                self._metrics.recordings["started"].inc()
                return

    def _done(self, call_sid: str, state: str, recording_sid: str, attempts: int, error: str) -> None:
        self._note(RecordingMove(call_sid, state, recording_sid, attempts, error, time.time_ns() // 1_000_000))
