"""One-time tokens that tie a media socket to the signed webhook that asked for it.

Every gateway of every cell can check the tokens of the others: all of them derive the key from the account's auth
token, and an expiry is wall time. An HMAC covers the token's own fields and the CallSid, the AccountSid and the packed
plan, which travel beside the token. Each gateway remembers only the used tokens that it has seen itself.

A token names the cell that answered the webhook. When that cell is gone, the socket reaches another one, to which the
worker in the token means nothing.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from shared.liveness import TOKEN_S, ns

LIFE_NS: Final = ns(TOKEN_S)
# Used tokens are remembered until they expire: enough for 160 new calls a second. Beyond that, tokens are refused.
USED_MAX: Final = 10_000

# token_id.worker.expiry in ms.resumed.source.cell.mac; below the 500 characters that a <Parameter> may have. For a call
# that is back from an order, `resumed` is StreamToken.returned.
_SHAPE: Final = re.compile(
    r"([\w-]{16})\.(\d{1,4})\.(\d{1,19})\.([01]|[a-z-]{2,16})\.([0-9a-f]{0,16})\.([a-z0-9-]{0,32})\.([0-9a-f]{64})",
    re.ASCII,
)


def shared_key(auth_token: str) -> bytes:
    """The key of all gateways of an account; without an auth token, a random key, which serves one gateway.

    The auth token is the one secret that every gateway of every cell needs anyway, to check Twilio's signatures.
    """
    if not auth_token:
        return secrets.token_bytes(32)
    return hmac.digest(auth_token.encode(), b"twentyms stream token v2", "sha256")


@dataclass(frozen=True)
class StreamToken:
    """An accepted token. `token_id` names the offer that aibridge got; it proves nothing by itself."""

    token_id: str
    # None: the webhook was answered by another cell.
    worker: int | None
    # The call had an earlier media socket.
    resumed: bool
    source: str
    # The call is back from a Dial or a Conference: how that ended; "": it is not.
    returned: str = ""


class TokenError(Exception):
    """A token was refused. The text is one of `REASONS` and a metric's label."""


REASONS: Final = ("malformed", "forged", "expired", "used", "full")


class Tokens:
    """Mints tokens for `cell` and accepts each at most once. Times are ns of one clock, which all gateways share."""

    def __init__(self, key: bytes, cell: str = "") -> None:
        self._key = key
        self._cell = cell
        # token_id -> expiry, oldest use first.
        self._used: OrderedDict[str, int] = OrderedDict()

    def source(self, number: str) -> str:
        """The stand-in for a caller's number in a token: the same at every gateway, and not the number."""
        return hmac.digest(self._key, b"source:" + number.encode("utf-8", "surrogatepass"), "sha256")[:8].hex()

    def mint(
        self,
        worker: int,
        call_sid: str,
        account_sid: str,
        now_ns: int,
        *,
        packed_plan: str = "",
        resumed: bool = False,
        returned: str = "",
        source: str = "",
    ) -> tuple[str, str]:
        """`(token, token_id)` for a call from `source` that was offered to aibridge worker `worker`."""
        token_id = secrets.token_urlsafe(12)
        expiry_ms = (now_ns + LIFE_NS) // 1_000_000
        signed = f"{token_id}.{worker}.{expiry_ms}.{returned or int(resumed)}.{source}.{self._cell}"
        return f"{signed}.{self._mac(signed, call_sid, account_sid, packed_plan)}", token_id

    def use(self, token: str, call_sid: str, account_sid: str, now_ns: int, *, packed_plan: str = "") -> StreamToken:
        """Accept `token` for this call, and never again. Raises TokenError."""
        match = _SHAPE.fullmatch(token)
        if match is None:
            raise TokenError("malformed")
        token_id, expiry_ns = match[1], int(match[3]) * 1_000_000
        mac = self._mac(token.rpartition(".")[0], call_sid, account_sid, packed_plan)
        if not hmac.compare_digest(mac, match[7]):
            raise TokenError("forged")
        if now_ns >= expiry_ns:
            raise TokenError("expired")
        self._forget_expired(now_ns)
        if token_id in self._used:
            raise TokenError("used")
        if len(self._used) >= USED_MAX:
            raise TokenError("full")
        self._used[token_id] = expiry_ns
        returned = match[4] if match[4] not in ("0", "1") else ""
        worker = int(match[2]) if match[6] == self._cell else None
        return StreamToken(token_id, worker, match[4] != "0", match[5], returned)

    def _mac(self, *fields: str) -> str:
        # Lengths come first, so two different lists of fields never give the same bytes.
        text = "".join(f"{len(field)}:{field}" for field in fields)
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hex()

    def _forget_expired(self, now_ns: int) -> None:
        # Tokens are used nearly in the order of expiry. An older token that was used later is forgotten a little late.
        while self._used:
            token_id, expiry_ns = next(iter(self._used.items()))
            if expiry_ns > now_ns:
                return
            del self._used[token_id]
