"""Who may use the browser phone, and who may open a media socket with it.

The phone places calls that cost money, and Twilio's signatures cannot protect it. Three rules do:

1. The page exists only when PHONE_PAGE says so; by default, only where no other machine can reach it.
2. A request must name one of the gateway's own origins (Host), and a request that changes something must come from a
   page of that origin (Origin). No other page in the same browser can place a call, not even under a DNS name of its
   own.
3. A gateway that checks signatures also asks for a key: the link from `twentyms phone`. A gateway that does not check
   takes calls from anyone who reaches it, with or without the phone.

A media socket of the phone carries a ticket in place of Twilio's signature. A ticket is made for one call, used once,
and expires after a minute. It replaces the signature of the handshake only; `start` has to show the stream token.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from .tokens import TokenError, Tokens

KEY_COOKIE: Final = "twentyms_phone"
TICKET_COOKIE: Final = "twentyms_ticket"
# How long a link opens the page: a working day.
KEY_LIFE_S: Final = 12 * 3600

# A ticket is bound to this in place of a CallSid; no CallSid has this form.
_HANDSHAKE: Final = ("handshake", "phone")


def phone_key(auth_token: str) -> bytes:
    """The secret that signs keys and tickets, shared by all gateways of the account."""
    return hmac.digest(auth_token.encode(), b"twentyms browser phone v1", "sha256")


def mint_key(secret: bytes, now_unix_s: int) -> str:
    """The key in a link. It opens the page for KEY_LIFE_S."""
    expiry = now_unix_s + KEY_LIFE_S
    return f"{expiry}.{_mac(secret, expiry)}"


def _mac(secret: bytes, expiry_s: int) -> str:
    return hmac.new(secret, f"page:{expiry_s}".encode(), hashlib.sha256).hexdigest()


def cookie(header: str | None, name: str) -> str:
    """A cookie's value from the request's Cookie header; "" when the header has no such cookie."""
    try:
        morsel = SimpleCookie(header or "").get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def hosts(origins: Iterable[str]) -> frozenset[str]:
    """The Host headers of requests for `origins`."""
    return frozenset(urlsplit(origin).netloc for origin in origins)


class PhoneAccess:
    """The rules for one gateway. `secret` is None where signatures are not checked; then no key is needed."""

    def __init__(self, origins: Iterable[str], tickets: Tokens, *, secret: bytes | None) -> None:
        self.origins = frozenset(origins)
        self._hosts = hosts(self.origins)
        self._tickets = tickets
        self._secret = secret

    def is_own_host(self, host: str | None) -> bool:
        return host is not None and host.lower() in self._hosts

    def is_own_origin(self, origin: str | None) -> bool:
        return origin is not None and origin.lower() in self.origins

    def opens(self, key: str, now_unix_s: int) -> bool:
        """Whether `key`, from a link or its cookie, opens the page."""
        if self._secret is None:
            return True
        expiry, _, mac = key.partition(".")
        if not (expiry.isascii() and expiry.isdecimal() and len(expiry) < 12 and mac.isascii()):
            return False
        return hmac.compare_digest(_mac(self._secret, int(expiry)), mac) and now_unix_s < int(expiry)

    def ticket(self, now_ns: int) -> str:
        """A ticket for the handshake of one media socket."""
        return self._tickets.mint(0, *_HANDSHAKE, now_ns)[0]

    def takes_ticket(self, origin: str | None, cookies: str | None, now_ns: int) -> bool:
        """Whether a handshake comes from a page of ours and carries an unused ticket. Uses the ticket up."""
        if not self.is_own_origin(origin):
            return False
        try:
            self._tickets.use(cookie(cookies, TICKET_COOKIE), *_HANDSHAKE, now_ns)
        except TokenError:
            return False
        return True
