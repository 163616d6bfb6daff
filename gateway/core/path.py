"""What one call's path to the caller shows: how long a WebSocket ping among its frames takes to be answered.

Pings tell what echoes of marks cannot: a delay that the playout buffer hides, and whether a late echo has a cause. Each
follows frames onto the socket, because only then does it wait where frames wait.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_MS: Final = 1_000_000
# Between two pings while frames flow, on a path that shows no delays, and on one that lately did. A ping and its answer
# cost about 20 us; ten a second see a delay of 100 ms at least once.
CALM_NS: Final = 500 * _MS
WATCHFUL_NS: Final = 100 * _MS
# A delay of this much more than the least one is no jitter of event loops: watch the path for a while.
DELAYED_NS: Final = 30 * _MS
WATCH_NS: Final = 30_000 * _MS
# Pings that wait for an answer. A peer that answers none costs no more than that.
PENDING_MAX: Final = 64


class PathProbe:
    """`next_ns` is when the next ping may follow a frame. Times are ns, monotonic."""

    __slots__ = ("_least_ns", "_pending", "_watch_until_ns", "next_ns")

    def __init__(self) -> None:
        self.next_ns = 0
        self._pending: deque[int] = deque(maxlen=PENDING_MAX)
        self._least_ns: int | None = None
        self._watch_until_ns = 0

    def ping(self, now_ns: int) -> bytes:
        """The payload of a ping that is sent now."""
        self._pending.append(now_ns)
        self.next_ns = now_ns + (WATCHFUL_NS if now_ns < self._watch_until_ns else CALM_NS)
        return b"%d" % now_ns

    def answered(self, payload: bytes, now_ns: int) -> int | None:
        """How long this ping took; None for an answer to none of ours. An answer settles the pings before it, too."""
        if not payload.isdigit() or len(payload) > 20:
            return None
        sent_ns = int(payload)
        if sent_ns not in self._pending:
            return None
        while self._pending.popleft() != sent_ns:
            pass
        delay_ns = now_ns - sent_ns
        if self._least_ns is None or delay_ns < self._least_ns:
            self._least_ns = delay_ns
        if delay_ns - self._least_ns > DELAYED_NS:
            self.watch(now_ns)
        return delay_ns

    def watch(self, now_ns: int) -> None:
        """The path shows delays: ping more often for a while."""
        self._watch_until_ns = now_ns + WATCH_NS
        self.next_ns = min(self.next_ns, now_ns + WATCHFUL_NS)
