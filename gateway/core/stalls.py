"""The frames of each call on the wire: how evenly they leave, stalls, and sockets that do not accept them.

This is the per-frame path. It counts and decides nothing: watching is not acting.
"""

from __future__ import annotations

from typing import Final

from shared.liveness import UNREAD_S, ns

from .metrics import Metrics
from .pulse import Pulse

STALL_NS: Final = 300_000_000
SLOW_SEND_NS: Final = 50_000_000
UNREAD_NS: Final = ns(UNREAD_S)


class FrameLog:
    """The frames that left on one call's wire."""

    __slots__ = (
        "_metrics",
        "_next_seq",
        "_pulse",
        "frames",
        "largest_gap_ns",
        "last_wire_ns",
        "late_frames",
        "seq",
        "stalls",
        "stuck_since_ns",
    )

    def __init__(self, metrics: Metrics, pulse: Pulse) -> None:
        self._metrics = metrics
        self._pulse = pulse
        # Frames written, those that left more than 20 ms late, and gaps of more than STALL_NS inside an utterance.
        self.frames = 0
        self.late_frames = 0
        self.stalls = 0
        # The largest gap between two writes of one utterance.
        self.largest_gap_ns = 0
        # When the last frame was written; 0 before the first one.
        self.last_wire_ns = 0
        # The number of the next frame.
        self.seq = 0
        # The number of the frame that continues the utterance; -1 when the next frame begins another one.
        self._next_seq = -1
        # Since when the socket has not accepted what was written to it; 0 while it does.
        self.stuck_since_ns = 0

    def written(self, seq: int, count: int, deadline_ns: int, wire_ns: int) -> bool:
        """`count` frames from `seq` on were written. Returns whether they are the call's first."""
        metrics = self._metrics
        metrics.frame_lateness.observe((wire_ns - deadline_ns) / 1e9 if wire_ns > deadline_ns else 0.0, count)
        self.frames += count
        before_ns = self.last_wire_ns
        if seq == self._next_seq:
            gap_ns = wire_ns - before_ns
            metrics.wire_gap.observe(gap_ns / 1e9)
            self._pulse.gap(gap_ns, count)
            if gap_ns > self.largest_gap_ns:
                self.largest_gap_ns = gap_ns
            if gap_ns > STALL_NS:
                self.stalls += 1
                metrics.tx_stall.inc()
                metrics.tx_stall_seconds.inc(gap_ns / 1e9)
        self._next_seq = self.seq = seq + count
        self.last_wire_ns = wire_ns
        return not before_ns

    def utterance_ended(self) -> None:
        """The time to the next frame is not a gap."""
        self._next_seq = -1

    def backlog(self, unsent_bytes: int, now_ns: int) -> None:
        """The socket holds `unsent_bytes` that its peer has not accepted."""
        if not unsent_bytes:
            self.stuck_since_ns = 0
        elif not self.stuck_since_ns:
            self.stuck_since_ns = now_ns

    def is_slow(self, now_ns: int) -> bool:
        return self.stuck_since_ns > 0 and now_ns - self.stuck_since_ns > SLOW_SEND_NS

    def is_unread(self, now_ns: int) -> bool:
        """Whether the peer has accepted no frame for UNREAD_S."""
        return self.stuck_since_ns > 0 and now_ns - self.stuck_since_ns > UNREAD_NS
