"""Encrypts what leaves the machine, and names it: AES-256-GCM and HMAC-SHA-256 with keys derived from STATE_KEY.

A sealed value is `version, salt, nonce, ciphertext`. Each process draws a salt at its start and derives its own
encryption key with it, so the nonce can be a counter: random nonces under one key for a whole fleet would collide after
some days (NIST SP 800-38D, 8.3: 2^32 values a key). The name of a value is authenticated with it, so a value that
stands under another name does not open.

The extra `fleet` brings `cryptography`. Without STATE_URL, nothing imports this file.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections import OrderedDict
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION: Final = b"\x01"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = 1 + _SALT_BYTES + _NONCE_BYTES
# Keys of other cells' processes that stay derived: more than a fleet has within the life of a story.
_KEYS_MAX: Final = 1_000
_FORMS: Final = "must be 32 bytes as 64 hex digits or in base64; make one with: openssl rand -base64 32"


class SealError(ValueError):
    """Bytes that this key did not seal under this name, or that another version sealed."""


def key_of(text: str) -> bytes:
    """The 32 bytes of STATE_KEY. Raises ValueError, one line, for a text in another form."""
    text = text.strip()
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    try:
        key = base64.b64decode(text.translate(str.maketrans("-_", "+/")).rstrip("=") + "=", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(_FORMS) from None
    if len(key) != 32:
        raise ValueError(_FORMS)
    return key


class Seals:
    """Seals and opens values under one STATE_KEY."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._naming = self._derive(b"", b"twentyms name v1")
        self._salt = secrets.token_bytes(_SALT_BYTES)
        self._used = 0
        # By salt, the one used last at the end.
        self._ciphers: OrderedDict[bytes, AESGCM] = OrderedDict()

    def name(self, kind: str, call_id: str) -> str:
        """The name under which the store keeps something of a call. It does not tell which call."""
        mac = HMAC(self._naming, SHA256())
        mac.update(f"{kind}:{call_id}".encode())
        return f"twentyms:{kind}:{mac.finalize().hex()[:40]}"

    def seal(self, name: str, plain: bytes) -> bytes:
        self._used += 1
        nonce = self._used.to_bytes(_NONCE_BYTES, "big")
        head = _VERSION + self._salt + nonce
        return head + self._cipher(self._salt).encrypt(nonce, plain, _VERSION + name.encode())

    def open(self, name: str, sealed: bytes) -> bytes:
        """Raises SealError."""
        if sealed[:1] != _VERSION or len(sealed) <= _HEAD_BYTES:
            raise SealError("not a value of this version")
        salt, nonce = sealed[1 : 1 + _SALT_BYTES], sealed[1 + _SALT_BYTES : _HEAD_BYTES]
        try:
            return self._cipher(salt).decrypt(nonce, sealed[_HEAD_BYTES:], _VERSION + name.encode())
        except InvalidTag:
            raise SealError("not sealed with this key under this name") from None

    def _cipher(self, salt: bytes) -> AESGCM:
        cipher = self._ciphers.pop(salt, None) or AESGCM(self._derive(salt, b"twentyms story v1"))
        self._ciphers[salt] = cipher
        if len(self._ciphers) > _KEYS_MAX:
            self._ciphers.popitem(last=False)
        return cipher

    def _derive(self, salt: bytes, purpose: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt or None, purpose).derive(self._key)
