"""Whether a request comes from Twilio: `X-Twilio-Signature` over URLs that are built from the configured origin alone.

Host and X-Forwarded-* headers of a proxy or a client play no part. Source: twilio.com/docs/usage/security and the
twilio package's RequestValidator, which computes and compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from twilio.request_validator import HMAC_SHA1, HMAC_SHA256, RequestValidator, get_signature_algorithm

SIGNATURE_HEADER: Final = "X-Twilio-Signature"
# Twilio sends this header when it signs a webhook with a shared key instead of the auth token.
ALGORITHM_HEADER: Final = "X-Twilio-Webhooks-Signature-Settings"


class Signatures:
    """Checks for one account and one origin."""

    def __init__(self, auth_token: str, origin: str, shared_key: str = "") -> None:
        """`shared_key` is the secret for HMAC_SHA256; without it, only HMAC_SHA1 is accepted."""
        self._validators = {HMAC_SHA1: RequestValidator(auth_token)}
        if shared_key:
            self._validators[HMAC_SHA256] = RequestValidator(shared_key)
        self._origin = origin

    def webhook(
        self, target: str, params: Mapping[str, str], signature: str | None, algorithm_header: str | None
    ) -> bool:
        """Check a webhook. `target` is path and query as sent; `params` the form with blank values, empty for a GET."""
        return self._check((self._origin + target,), params, signature, algorithm_header)

    def media(self, path: str, signature: str | None, algorithm_header: str | None) -> bool:
        """Check the handshake of a media socket: a GET without parameters."""
        urls = _media_variants("ws" + self._origin.removeprefix("http") + path.removesuffix("/"))
        return self._check(urls, {}, signature, algorithm_header)

    def _check(
        self, urls: tuple[str, ...], params: Mapping[str, str], signature: str | None, algorithm_header: str | None
    ) -> bool:
        # RequestValidator raises TypeError for a missing signature, and logs one line per unknown algorithm.
        if not signature:
            return False
        algorithm = get_signature_algorithm(algorithm_header).upper()
        validator = self._validators.get(algorithm)
        if validator is None:
            return False
        try:
            return any(validator.validate(url, params, signature, algorithm) for url in urls)
        except (TypeError, ValueError):  # no form of Twilio's holds such parameters: lone surrogates, for instance
            return False


def _media_variants(url: str) -> tuple[str, ...]:
    """The spellings under which Twilio has been seen to sign a media socket's URL.

    With a trailing slash: OpenAI's Twilio example has both in its tests. With an explicit default port: for `wss` the
    validator itself tries port 80 only, never 443.
    """
    parts = urlsplit(url)
    hosts = [parts.netloc]
    if parts.port is None:
        hosts.append(f"{parts.netloc}:{443 if parts.scheme == 'wss' else 80}")
    return tuple(f"{parts.scheme}://{host}{parts.path}{slash}" for host in hosts for slash in ("", "/"))
