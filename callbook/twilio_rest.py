"""callbook's requests to Twilio, through the `twilio` package and around its traps.

The package's asynchronous client ignores its constructor's time-out and waits for ever, its `max_retries` repeats
POSTs, and it logs headers and URLs at INFO. Therefore each request here has a time-out, the package retries nothing,
and its logger is silent. Source: twilio 9.13, http/async_http_client.py.

The package and what it imports take 14 MB and a quarter of a second, so the first request loads them, in a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeVar

from shared.settings import Settings

# Twilio usually answers within a second. After this the answer counts as lost.
TIMEOUT_S: Final = 15.0
TOO_MANY: Final = 429

_silent = logging.getLogger("callbook.twilio")
_silent.setLevel(logging.CRITICAL)

_T = TypeVar("_T")


class RestError(Exception):
    """Twilio did not carry out a request; a retry may succeed. `may_be_done`: Twilio may have carried it out."""

    def __init__(self, why: Literal["timeout", "refused", "busy", "error"], *, may_be_done: bool) -> None:
        super().__init__(why)
        self.why: Literal["timeout", "refused", "busy", "error"] = why
        self.may_be_done = may_be_done


class RestRefusedError(Exception):
    """Twilio refuses a request for good (a 4xx other than 429). The text quotes no number and no word of a caller."""

    def __init__(self, status: int, code: int | None) -> None:
        super().__init__(f"HTTP {status}" + (f", Twilio's error {code}" if code else ""))
        self.status = status


class TwilioRest:
    """Construct and `close` it on the loop that uses it. `timeout_s` is for each request."""

    def __init__(self, settings: Settings, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._callback = f"{settings.origin}/twilio/recording"
        self._account = (settings.twilio_account_sid, settings.twilio_auth_token)
        self._url = settings.twilio_api_url.rstrip("/")
        # twilio.rest.Client and its connections, after the first request.
        self._client: Any = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.http_client.close()

    async def start_recording(self, call_sid: str) -> str:
        """Start a recording with caller and AI on a channel each. Returns its SID."""
        recording: Any = await self._ask(
            lambda client: client.calls(call_sid).recordings.create_async(
                recording_channels="dual",
                recording_track="both",
                recording_status_callback=self._callback,
                recording_status_callback_event=["in-progress", "completed", "absent"],
                recording_status_callback_method="POST",
            )
        )
        return str(recording.sid)

    async def find_recording(self, call_sid: str) -> str:
        """The SID of the call's recording that was started over REST; "" when there is none."""
        found: list[Any] = await self._ask(lambda client: client.calls(call_sid).recordings.list_async(limit=20))
        return next((str(each.sid) for each in found if each.source == "StartCallRecordingAPI"), "")

    async def delete_recording(self, recording_sid: str) -> None:
        """Delete a recording. A missing recording counts as deleted."""
        try:
            await self._ask(lambda client: client.recordings(recording_sid).delete_async())
        except RestRefusedError as exc:
            if exc.status != 404:
                raise

    async def _ask(self, request: Callable[[Any], Awaitable[_T]]) -> _T:
        """Raises RestError or RestRefusedError."""
        if self._client is None:
            await asyncio.to_thread(_load)
        import aiohttp
        from twilio.base.exceptions import TwilioRestException

        try:
            async with asyncio.timeout(self._timeout_s):
                return await request(self._opened())
        except TimeoutError:
            raise RestError("timeout", may_be_done=True) from None
        except TwilioRestException as exc:
            if exc.status == TOO_MANY:
                raise RestError("busy", may_be_done=False) from None
            if 400 <= exc.status < 500:
                raise RestRefusedError(exc.status, exc.code) from None
            raise RestError("error", may_be_done=True) from None
        except aiohttp.ClientConnectorError:
            raise RestError("refused", may_be_done=False) from None
        except Exception:
            # The connection broke, or the answer is not Twilio's; the package raises many types for either.
            raise RestError("error", may_be_done=True) from None

    def _opened(self) -> Any:
        if self._client is None:
            from twilio.http.async_http_client import AsyncTwilioHttpClient
            from twilio.rest import Client

            self._client = Client(*self._account, http_client=AsyncTwilioHttpClient(logger=_silent))
            if self._url:
                self._client.api.base_url = self._url
        return self._client


def _load() -> None:
    import twilio.http.async_http_client
    import twilio.rest  # noqa: F401
