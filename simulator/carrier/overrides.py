"""How Twilio requests a webhook: its time-outs, and which failures it repeats.

The fragment of a webhook's URL may override the defaults (Twilio, "Webhooks: Connection Overrides"):
`https://voice.example.com/twilio/voice#ct=1000&rc=2&rp=all`. It is neither sent nor signed. Twilio does not document a
pause between two tries; here there is none, which is the worst case for a server that starts again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urldefrag

import httpx2

# The least and the most of each number, and its default.
_NUMBERS: Final = {
    "ct": (100, 10_000, 5_000),
    "rt": (100, 15_000, 15_000),
    "tt": (100, 15_000, 15_000),
    "rc": (0, 5, 1),
}
# No connection; no answer in time; a status. A connection that breaks before its answer is in no documented class: only
# `all` repeats it.
_POLICIES: Final = frozenset({"ct", "rt", "4xx", "5xx", "all"})


@dataclass(frozen=True)
class Overrides:
    """What one URL asks for."""

    connect_ms: int
    read_ms: int
    # For all tries together.
    total_ms: int
    # How often a failed request is repeated, and after which failures.
    retries: int
    policy: Collection[str]

    def repeats(self, failure: httpx2.HTTPError) -> bool:
        """Whether a request that failed so is repeated."""
        return "all" in self.policy or _class_of(failure) in self.policy


def split(url: str) -> tuple[str, Overrides]:
    """The URL without its fragment, and the overrides in it.

    Raises ValueError for a value that Twilio refuses (errors 11237 to 11243).
    """
    url, fragment = urldefrag(url)
    given = dict(parse_qsl(fragment))
    policy = frozenset(given.get("rp", "ct").split(","))
    if unknown := policy - _POLICIES:
        raise ValueError(f"rp={','.join(sorted(unknown))}: not a retry policy")
    connect_ms, read_ms, total_ms, retries = (_number(given, name) for name in ("ct", "rt", "tt", "rc"))
    return url, Overrides(connect_ms, read_ms, total_ms, retries, policy)


def _number(given: Mapping[str, str], name: str) -> int:
    least, most, default = _NUMBERS[name]
    text = given.get(name, str(default))
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ValueError(f"{name}={text}: not from {least} to {most}")
    return int(text)


def _class_of(failure: httpx2.HTTPError) -> str:
    match failure:
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return "ct"
        case httpx2.TimeoutException():
            return "rt"
        case httpx2.HTTPStatusError(response=response):
            return f"{response.status_code // 100}xx"
    return ""
