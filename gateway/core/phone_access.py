"""Who may use the browser phone, and who may open a media socket with it.

Three fences, because the phone places calls that cost money, and signatures cannot protect it:

1. The page is there only when PHONE_PAGE says so; by default, only where nobody but this machine can reach it.
2. A request has to be for one of the gateway's own origins (Host), and what changes something has to come from a page
   of that origin (Origin). So no other page in the same browser can call, not even under a DNS name of its own.
3. A gateway that checks signatures lets in only who holds a key: a link from `twentyms phone`. One that does
   not check takes calls from anyone who reaches it, phone or not.

A media socket of the phone carries a ticket in place of Twilio's signature: made for one call, used once, worth nothing
after a minute. It spares the handshake its signature and nothing else; `start` still has to show the stream token.
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
# How long a link opens the page. Long enough for a working day.
KEY_LIFE_S: Final = 12 * 3600

# What a ticket is bound to in the place of a call; no CallSid has this form.
_HANDSHAKE: Final = ("handshake", "phone")


def phone_key(auth_token: str) -> bytes:
    """The secret behind keys and tickets, shared by all gateways of the account."""
    return hmac.digest(auth_token.encode(), b"twentyms browser phone v1", "sha256")


def mint_key(secret: bytes, now_unix_s: int) -> str:
    """The key of a link: opens the page until KEY_LIFE_S from now."""
    expiry = now_unix_s + KEY_LIFE_S
    return f"{expiry}.{_mac(secret, expiry)}"


def _mac(secret: bytes, expiry_s: int) -> str:
    return hmac.new(secret, f"page:{expiry_s}".encode(), hashlib.sha256).hexdigest()


def cookie(header: str | None, name: str) -> str:
    """A cookie's value from the request's Cookie header; "" when it is not there."""
    try:
        morsel = SimpleCookie(header or "").get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def hosts(origins: Iterable[str]) -> frozenset[str]:
    """What a Host header says of a request for one of `origins`."""
    return frozenset(urlsplit(origin).netloc for origin in origins)


class PhoneAccess:
    """The rules for one gateway. `secret` is None where signatures are not checked: then no key is asked for."""

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
        """For the handshake of one media socket."""
        return self._tickets.mint(0, *_HANDSHAKE, now_ns)[0]

    def takes_ticket(self, origin: str | None, cookies: str | None, now_ns: int) -> bool:
        """Whether a handshake from a page of ours carries a ticket; from now on it is used."""
        if not self.is_own_origin(origin):
            return False
        try:
            self._tickets.use(cookie(cookies, TICKET_COOKIE), *_HANDSHAKE, now_ns)
        except TokenError:
            return False
        return True
