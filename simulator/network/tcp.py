"""A TCP stream over a bad path, as a pure model: what a reader sees of losses, and when.

One write is one segment, as with frames 20 ms apart (`TCP_NODELAY`). The reader gets bytes in order, so a lost segment
holds up all segments after it. A sender of today (Linux: RACK with tail loss probes) repairs a loss

- when the acknowledgement of a later segment has come back, and an eighth of the round trip on top, or
- by a probe after two round trips, when nothing follows, and then
- by its retransmission timer: round trip and 200 ms, doubled each time.

Without congestion control: a call's 50 small segments a second stay far below any window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .path import Path

_MS: Final = 1_000_000
RTO_MIN_NS: Final = 200 * _MS


@dataclass
class _Segment:
    data: bytes
    # When it was sent last, and when that arrives; None: that was lost.
    sent_ns: int
    arrives_ns: int | None
    # How often it was sent again, and when that is due, if it was lost and nothing tells earlier.
    repairs: int = 0
    timer_ns: int = 0


class TcpStream:
    """One direction of a connection over `path`. Times are ns; they never go backwards."""

    def __init__(self, path: Path, *, return_ns: int, rto_min_ns: int = RTO_MIN_NS) -> None:
        """`return_ns`: how long an acknowledgement takes; none is lost, because each covers those before it."""
        self._path = path
        self._return_ns = return_ns
        self._round_trip_ns = int(path.behaviour.delay_ms * _MS) + return_ns
        self._rto_min_ns = rto_min_ns
        # Segments that the reader has not got, in order.
        self._segments: list[_Segment] = []

    def send(self, data: bytes, now_ns: int) -> None:
        segment = _Segment(data, 0, None)
        self._segments.append(segment)
        self._transmit(segment, now_ns)

    def _transmit(self, segment: _Segment, now_ns: int) -> None:
        segment.sent_ns = now_ns
        segment.arrives_ns = self._path.carry(now_ns)
        first = 2 * self._round_trip_ns if not segment.repairs else 0
        timer_ns = first or self._round_trip_ns + self._rto_min_ns * 2 ** (segment.repairs - 1)
        segment.timer_ns = now_ns + max(timer_ns, 10 * _MS)
        segment.repairs += 1

    def _repair_ns(self, segment: _Segment) -> int:
        """When the sender sends a lost segment again."""
        noticed = [
            later.arrives_ns + self._return_ns
            for later in self._segments
            if later.arrives_ns is not None and later.sent_ns > segment.sent_ns
        ]
        wait_ns = self._round_trip_ns // 8 if segment.repairs == 1 else 0
        return min([segment.timer_ns, *(at + wait_ns for at in noticed)])

    def advance(self, now_ns: int) -> list[bytes]:
        """What the reader gets by now, in order."""
        while True:
            due = [(self._repair_ns(each), each) for each in self._segments if each.arrives_ns is None]
            at_ns, segment = min(due, key=lambda each: each[0], default=(now_ns + 1, None))
            if segment is None or at_ns > now_ns:
                break
            self._transmit(segment, at_ns)
        got = []
        while self._segments and (arrives_ns := self._segments[0].arrives_ns) is not None and arrives_ns <= now_ns:
            got.append(self._segments.pop(0).data)
        return got

    def next_due_ns(self) -> int | None:
        """When `advance` next has something to do; None: nothing is under way. May lie in the past."""
        if not self._segments:
            return None
        times = [self._repair_ns(each) for each in self._segments if each.arrives_ns is None]
        if (arrives_ns := self._segments[0].arrives_ns) is not None:
            times.append(arrives_ns)
        return min(times, default=None)
