"""Asking CALL_CONFIG_URL how to answer a call, while its phone rings.

aibridge asks and not the gateway: a TLS handshake takes the loop about 1 ms, and a gateway has frames to send. The
question is signed as the posts to WEBHOOK_URL are.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from typing import Any, Final
from urllib.parse import urlsplit

from shared.liveness import CONFIG_S
from shared.process import ConfigError
from shared.settings import Settings
from shared.signing import headers, key_of

from .core import call_config

# An answer is a few hundred bytes; what is longer is not read.
MAX_BYTES: Final = 64 * 1024


def check(settings: Settings) -> None:
    """Raises ConfigError for settings with which no server could be asked."""
    if not settings.call_config_url:
        return
    if urlsplit(settings.call_config_url).scheme not in ("http", "https"):
        raise ConfigError("CALL_CONFIG_URL is not an http:// or https:// URL; correct it, or leave it empty")
    try:
        key_of(settings.webhook_secret)
    except ValueError as exc:
        raise ConfigError(f"WEBHOOK_SECRET {exc}; CALL_CONFIG_URL checks signatures with it") from None


class CallConfig:
    """`settings` were checked. Connections stay open between calls."""

    def __init__(self, settings: Settings) -> None:
        # 3 MB that a worker without CALL_CONFIG_URL does not need.
        import httpx2

        self._url = settings.call_config_url
        self._key = key_of(settings.webhook_secret)
        # Reading the system's certificates takes 20 ms: once, at the start.
        self._client = httpx2.AsyncClient(verify=ssl.create_default_context(), timeout=CONFIG_S, follow_redirects=False)

    async def ask(self, call_sid: str, question: dict[str, Any]) -> bytes:
        """The body of the answer. Raises core.call_config.CallConfigError."""
        data = json.dumps(question).encode()
        signed = headers(self._key, f"call-inbound-{call_sid}", int(time.time()), data)
        # Uncompressed, because a few bytes can unpack to any number.
        plain = {"content-type": "application/json", "accept-encoding": "identity"}
        import httpx2

        try:
            async with (
                asyncio.timeout(CONFIG_S),
                self._client.stream("POST", self._url, content=data, headers={**plain, **signed}) as answer,
            ):
                if not answer.is_success:
                    raise call_config.CallConfigError("status", f"it answered HTTP {answer.status_code}")
                body = bytearray()
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise call_config.CallConfigError("too_large", f"its answer has more than {MAX_BYTES} bytes")
                return bytes(body)
        except (TimeoutError, httpx2.TimeoutException):
            raise call_config.CallConfigError("timeout", f"it did not answer within {CONFIG_S:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as exc:
            raise call_config.CallConfigError("unreachable", f"it cannot be reached ({type(exc).__name__})") from None

    async def close(self) -> None:
        await self._client.aclose()
