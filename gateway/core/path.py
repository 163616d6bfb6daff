"""What one call's path to the caller shows: how long a WebSocket ping among its frames takes to be answered, and what
txpacer makes of it.

Pings tell what echoes of marks cannot: a delay that the playout buffer hides, and whether a late echo has a cause. Each
follows frames onto the socket, because only then does it wait where frames wait.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from shared.facts import StreamPath

from .metrics import Metrics

_MS: Final = 1_000_000
# Between two pings while frames flow: on a path that shows no delays, and on one that lately did, or that nobody knows.
# A ping and its answer cost about 20 us. Ten a second see what one lost frame costs at a round trip of 60 ms; five a
# second see a delay of 200 ms, which the lead may not hide.
CALM_NS: Final = 200 * _MS
WATCHFUL_NS: Final = 100 * _MS
# The same in a call with BARGE_IN=clear: after every third frame. When a path stalls and a `clear` follows, pings alone
# tell which frames had arrived before the stall, so they limit how exact the history is.
EXACT_NS: Final = 50 * _MS
# A call begins watchful, as long as the lead expects losses (txpacer/core/lead.py).
UNKNOWN_NS: Final = 10_000 * _MS
# A delay of this much more than the least one is no jitter of event loops: watch the path for a while.
DELAYED_NS: Final = 30 * _MS
WATCH_NS: Final = 30_000 * _MS
# Pings that wait for an answer. A peer that answers none costs no more than that.
PENDING_MAX: Final = 64
# Answers that are late for longer than this, all of them, show a path that has become longer (see LONGER_AFTER_NS in
# txpacer/core/far_ear.py): the least of them is its least from now on.
LONGER_NS: Final = 10_000 * _MS
# No segment is lost on a path with a shorter round trip: it stays inside a machine or a rack.
FAR_NS: Final = 5 * _MS
# A ping that waits for longer than this when the call ends was not answered.
UNANSWERED_NS: Final = 1_000 * _MS
# A fact holds this many samples at most, and none that is older than this: what a lost gateway takes along.
SAMPLES_MAX: Final = 60
KEPT_NS: Final = 60_000 * _MS
SECOND_NS: Final = 1_000 * _MS


class PathProbe:
    """`next_ns` is when the next ping may follow a frame. Times are ns, monotonic."""

    __slots__ = (
        "_is_exact",
        "_late_since_ns",
        "_least_late_ns",
        "_least_ns",
        "_metrics",
        "_pending",
        "_watch_until_ns",
        "next_ns",
    )

    def __init__(self, metrics: Metrics, *, exact: bool = False) -> None:
        """`exact`: interruptions send `clear`."""
        self._metrics = metrics
        self.next_ns = 0
        # When the pings without an answer were sent. A list: an empty deque has 760 bytes.
        self._pending: list[int] = []
        self._least_ns: int | None = None
        # Since when all answers are delayed (0: the last one was not), and the least of them.
        self._late_since_ns = self._least_late_ns = 0
        self._watch_until_ns = 0
        self._is_exact = exact

    @property
    def is_far(self) -> bool:
        """The path may lose a segment. False as long as nothing is known of it."""
        return self._least_ns is not None and self._least_ns >= FAR_NS

    def ping(self, now_ns: int) -> bytes:
        """The payload of a ping that is sent now."""
        if len(self._pending) == PENDING_MAX:
            self._metrics.pings_unanswered.inc()
            del self._pending[0]
        self._pending.append(now_ns)
        if not self.next_ns:
            self._watch_until_ns = now_ns + UNKNOWN_NS
        is_watchful = now_ns < self._watch_until_ns
        self.next_ns = now_ns + (EXACT_NS if self._is_exact else WATCHFUL_NS if is_watchful else CALM_NS)
        return b"%d" % now_ns

    def answered(self, payload: bytes, now_ns: int) -> int | None:
        """How long this ping took; None for an unknown payload. An answer settles the pings before it, too."""
        if not payload.isdigit() or len(payload) > 20:
            return None
        sent_ns = int(payload)
        if sent_ns not in self._pending:
            return None
        earlier = self._pending.index(sent_ns)
        del self._pending[: earlier + 1]
        self._metrics.pings_unanswered.inc(earlier)
        delay_ns = now_ns - sent_ns
        self._metrics.ping.observe(delay_ns / 1e9)
        if self._least_ns is None or delay_ns < self._least_ns:
            self._least_ns = delay_ns
        if delay_ns - self._least_ns > DELAYED_NS:
            self._delayed(delay_ns, now_ns)
        else:
            self._late_since_ns = 0
        return delay_ns

    def _delayed(self, delay_ns: int, now_ns: int) -> None:
        if not self._late_since_ns:
            self._late_since_ns, self._least_late_ns = now_ns, delay_ns
        self._least_late_ns = min(self._least_late_ns, delay_ns)
        if now_ns - self._late_since_ns >= LONGER_NS:
            self._least_ns, self._late_since_ns = self._least_late_ns, 0
        else:
            self.watch(now_ns)

    def watch(self, now_ns: int) -> None:
        """The path shows delays: ping more often for a while."""
        self._watch_until_ns = now_ns + WATCH_NS
        self.next_ns = min(self.next_ns, now_ns + WATCHFUL_NS)

    def cleared(self) -> None:
        """A `clear` was sent: this call's agent has a BARGE_IN of its own."""
        self._is_exact = True

    def ended(self, now_ns: int) -> None:
        """The call is over."""
        self._metrics.pings_unanswered.inc(sum(now_ns - sent_ns > UNANSWERED_NS for sent_ns in self._pending))


class PathLog:
    """The samples of one media stream (see PathSamples), which reach callbook a minute at a time. Times are ns."""

    __slots__ = ("_began_ns", "_call_sid", "_samples", "_stream_sid")

    def __init__(self, call_sid: str, stream_sid: str) -> None:
        self._call_sid = call_sid
        self._stream_sid = stream_sid
        # Since `_began_ns`, five numbers each. As tuples, they would be 7 kB of a call.
        self._samples = array("q")
        self._began_ns = 0

    def add(self, lead_ms: int, least_ms: int, delay_ms: int, gap_ms: int, now_ns: int) -> None:
        """A sample of the second that ends now."""
        second_ns = now_ns - SECOND_NS
        if not self._samples:
            self._began_ns = second_ns
        self._samples.extend(((second_ns - self._began_ns) // _MS, lead_ms, least_ms, delay_ms, gap_ms))

    def is_due(self, now_ns: int) -> bool:
        """Whether the samples should go to callbook now."""
        samples = self._samples
        return len(samples) >= 5 * SAMPLES_MAX or (bool(samples) and now_ns - self._began_ns >= KEPT_NS)

    def take(self, unix_ms: Callable[[int], int]) -> list[StreamPath]:
        """A fact of the samples since the last time, if there are any."""
        if not self._samples:
            return []
        numbers = iter(self._samples)
        samples = tuple(zip(numbers, numbers, numbers, numbers, numbers, strict=True))
        del self._samples[:]
        return [StreamPath(self._call_sid, self._stream_sid, unix_ms(self._began_ns), samples)]
