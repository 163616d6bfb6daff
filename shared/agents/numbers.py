"""Called numbers and SIP addresses, written in one way."""

from __future__ import annotations

import re
from typing import Final

_SIGNS: Final = re.compile(r"[\s().\-/]")
_E164: Final = re.compile(r"\+[0-9]{5,15}")
_SIP: Final = re.compile(r"[^\s@]+@[^\s@]+")


def normalised(number: str) -> str:
    """A telephone number as `+` and digits, a SIP address in small letters without scheme and parameters."""
    text = number.strip().lower()
    if "@" in text:
        return text.removeprefix("sips:").removeprefix("sip:").partition(";")[0]
    digits = _SIGNS.sub("", text)
    if digits.startswith("00"):
        digits = digits[2:]
    # A "+" in a query string that is not escaped arrives as a space.
    return f"+{digits}" if digits.isdecimal() else digits


def written_as_it_should_be(number: str) -> bool:
    """Whether a number in a file can only mean one number: with its country, or a SIP address."""
    text = number.strip()
    if "@" in text:
        return bool(_SIP.fullmatch(normalised(text)))
    return text.startswith(("+", "00")) and bool(_E164.fullmatch(normalised(text)))
