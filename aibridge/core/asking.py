"""Asking the server for responses: what is owed to the caller, and when it may be asked for.

The server answers each turn by itself, unless a response is in its way, or it fails, or its session is lost. Then an
answer is owed, and is asked for once nothing is in the way. Responses that fail are asked for again, a little later
each time.
"""

from __future__ import annotations

import random
from typing import Final

from .commands import Command, CreateResponse
from .metrics import ConversationMetrics
from .responses import Purpose, Responses, Server, Step
from .timers import Due, Timers

_MS: Final = 1_000_000
# After a response that was in the way of an answer is done, the server may make the answer itself; only when it has not
# by then, we ask. It costs nothing: the caller is still hearing that response.
ANSWER_NS: Final = 100 * _MS
# The server answers a turn in the same instant in which it says that the speech stopped. An answer that it has not
# begun after this time will never come.
EXPECTED_NS: Final = 2_000 * _MS
# After another worker died with the words of a caller: for the new session to hear the rest of them.
REPEAT_NS: Final = 2_000 * _MS
# A response.create that is neither answered nor refused.
CREATED_NS: Final = 5_000 * _MS
# From response.cancel to response.done; the server takes less than 100 ms.
CANCELLED_NS: Final = 5_000 * _MS
# A response of which nothing comes while the caller hears nothing: it will never end. The longest that a model was
# meant to think before it speaks, and longer than any caller waits.
STALLED_NS: Final = 20_000 * _MS
# How often a response of which nothing comes is looked at while the caller still hears the rest of it.
STALL_AGAIN_NS: Final = 1_000 * _MS
# Failed responses (rate limit, server error) in a row, before the caller gets the fallback; the first pause doubles.
RETRIES_MAX: Final = 3
RETRY_NS: Final = 500 * _MS


class Asking:
    """Times are ns, monotonic."""

    def __init__(
        self,
        *,
        commands: list[Command],
        responses: Responses,
        timers: Timers,
        metrics: ConversationMetrics,
        rng: random.Random,
    ) -> None:
        self._commands = commands
        self._responses = responses
        self._timers = timers
        self._metrics = metrics
        self._random = rng
        # What the server has to be asked for, once nothing is in the way.
        self.owed: Purpose | None = None
        # The response.create that is under way: its purpose, and the id by which an error names it.
        self.requested: Purpose = "answer"
        self._request_id = ""
        self._requests = 0
        # Responses that failed in a row.
        self._failures = 0

    def owe(self, purpose: Purpose, at_ns: int | None = None) -> None:
        """Ask for it, not before `at_ns`."""
        self.owed = purpose
        if at_ns is not None:
            self._timers.set(Due.ANSWER, at_ns)

    def forgive(self) -> None:
        """What was owed is not wanted any more: a response began, or the caller does."""
        self.owed = None
        self._timers.cancel(Due.ANSWER)
        self._timers.cancel(Due.EXPECTED)

    def turn_ended(self, now_ns: int) -> None:
        """The caller's turn ended: the server answers by itself, unless a response is in its way."""
        if self._responses.server is Server.IDLE:
            self._timers.set(Due.EXPECTED, now_ns + EXPECTED_NS)
        else:
            self.owed = "answer"

    def is_expecting(self) -> bool:
        """An answer is on its way, by whomever."""
        return self.owed is not None or self._timers.is_set(Due.EXPECTED)

    def overdue(self) -> None:
        """The server did not answer by itself."""
        self.owed = self.owed or "answer"

    def may_ask(self) -> bool:
        return self.owed is not None and self._responses.server is Server.IDLE and not self._timers.is_set(Due.ANSWER)

    def ask(self, now_ns: int) -> Purpose | None:
        """Send the response.create that is owed; its purpose."""
        purpose, self.owed = self.owed, None
        if purpose is None or not self._responses.step(Step.CREATE_SENT):
            return None
        self._requests += 1
        self.requested = purpose
        self._request_id = f"create_{self._requests}"
        self._timers.set(Due.CREATED, now_ns + CREATED_NS)
        self._commands.append(CreateResponse(purpose, self._request_id))
        return purpose

    def purpose_of(self, metadata: dict[str, str] | None) -> Purpose:
        """Of a response that was created: the server echoes our metadata; its own responses have none."""
        asked = self._responses.server is Server.REQUESTED
        return self.requested if asked and (metadata or {}).get("purpose") == self.requested else "answer"

    def created(self, *, is_unwanted: bool) -> None:
        """A response began; with `is_unwanted` it will be cancelled at once, and answers nobody."""
        if not is_unwanted:
            self.forgive()
        self._timers.cancel(Due.CREATED)

    def done(self, now_ns: int) -> None:
        """A response is out of the way of what is owed."""
        if self.owed is not None and not self._timers.is_set(Due.ANSWER):
            self._timers.set(Due.ANSWER, now_ns + ANSWER_NS)

    def succeeded(self) -> None:
        self._failures = 0

    def is_ours(self, event_id: str | None) -> bool:
        """Whether an error is about the response.create that is under way."""
        return bool(self._request_id) and event_id == self._request_id

    def refused(self) -> None:
        self._request_id = ""
        self._timers.cancel(Due.CREATED)
        self._responses.step(Step.CREATE_REFUSED)

    def retry(self, purpose: Purpose, now_ns: int) -> bool:
        """A response failed: owe it again. False when it failed too often."""
        self._failures += 1
        if self._failures > RETRIES_MAX:
            return False
        self._metrics.retries.inc()
        pause_ns = RETRY_NS * 2 ** (self._failures - 1) * self._random.uniform(0.75, 1.25)
        self.owe(purpose, now_ns + int(pause_ns))
        return True

    def session_lost(self) -> None:
        """What the next session owes: what this one was asked for, or was going to do."""
        if self._responses.server is Server.REQUESTED:
            self.owed = self.requested
        elif self._timers.is_set(Due.EXPECTED):
            self.owed = "answer"
        for due in (Due.CREATED, Due.EXPECTED, Due.ANSWER):
            self._timers.cancel(due)
        self._request_id = ""
