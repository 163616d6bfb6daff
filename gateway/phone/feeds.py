"""What happens in a browser phone's call, as a stream of server-sent events beside the media socket.

Twilio's protocol has no room for more than media, mark and clear: an extra message is Twilio's error 31951. A feed
never waits for its page. It holds MAX_NOTES; beyond that it drops and counts the oldest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from shared.liveness import TOKEN_S
from shared.metrics import Counter

# More than a minute of a lively call, which makes about five notes a second.
MAX_NOTES: Final = 500
# How long a feed stays for a page that connects after its call ended.
AFTER_S: Final = 10.0
# A comment is sent this often: it reveals that a page is gone, and proxies keep the stream open.
KEEP_ALIVE_S: Final = 15.0


class Feed:
    """The notes of one call. One page reads them."""

    def __init__(self, call_sid: str, lost: Counter) -> None:
        self.call_sid = call_sid
        self.call = 0
        self._lost = lost
        self._notes: deque[bytes] = deque()
        self._over = False
        self._wake = asyncio.Event()

    def put(self, note: bytes) -> None:
        if len(self._notes) >= MAX_NOTES:
            self._notes.popleft()
            self._lost.inc()
        self._notes.append(note)
        self._wake.set()

    def end(self) -> None:
        self._over = True
        self._wake.set()

    async def events(self) -> AsyncIterator[bytes]:
        """The notes as server-sent events."""
        yield b": here\n\n"
        while True:
            while self._notes:
                yield b"data: " + self._notes.popleft() + b"\n\n"
            if self._over:
                yield b"event: over\ndata: {}\n\n"
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    await self._wake.wait()
            except TimeoutError:
                yield b": still here\n\n"


class Feeds:
    """The feeds of this gateway: at most one for each call that may be offered at once (see Admission)."""

    def __init__(self, lost: Counter) -> None:
        self._lost = lost
        self._by_sid: dict[str, Feed] = {}
        self._by_call: dict[int, Feed] = {}
        self._loop = asyncio.get_running_loop()

    def open(self, call_sid: str) -> None:
        """A phone was offered this call."""
        feed = self._by_sid[call_sid] = Feed(call_sid, self._lost)
        self._loop.call_later(TOKEN_S, self._expire, feed)

    def get(self, call_sid: str) -> Feed | None:
        return self._by_sid.get(call_sid)

    def follow(self, call: int, call_sid: str) -> None:
        """A media socket began this call: it is a phone's if a feed waits for it."""
        feed = self._by_sid.get(call_sid)
        if feed is not None:
            feed.call = call
            self._by_call[call] = feed

    def note(self, call: int, note: bytes) -> None:
        feed = self._by_call.get(call)
        if feed is not None:
            feed.put(note)

    def ended(self, call: int) -> None:
        feed = self._by_call.pop(call, None)
        if feed is not None:
            feed.end()
            self._loop.call_later(AFTER_S, self._forget, feed)

    def close(self) -> None:
        """End every open stream."""
        for feed in self._by_sid.values():
            feed.end()

    def _expire(self, feed: Feed) -> None:
        if not feed.call:
            feed.end()
            self._forget(feed)

    def _forget(self, feed: Feed) -> None:
        if self._by_sid.get(feed.call_sid) is feed:
            del self._by_sid[feed.call_sid]
