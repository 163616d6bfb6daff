"""Webhooks whose answer waits for CALL_CONFIG_URL, or for what other cells know of the call."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class WaitingWebhooks:
    """By CallSid; two requests of one call wait together."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}

    async def wait(self, call_sid: str, seconds: float) -> None:
        """Return when the call's webhook may be answered, or after this time."""
        came = self._waiting.setdefault(call_sid, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await came.wait()
        self._waiting.pop(call_sid, None)

    def answer(self, call_sid: str) -> None:
        came = self._waiting.get(call_sid)
        if came is not None:
            came.set()
