"""The limits of one peer, and of this machine. Times are ns of one monotonic clock."""

from __future__ import annotations

from collections import deque
from typing import Final

from shared.audio import BYTE_NS

# Twilio sends 50 frames a second per call, and after a stall of its own the whole backlog. Accept a backlog of 30 s at
# once, and five times the ordinary rate for any time. Pings and fragments count as messages.
MESSAGES_PER_S: Final = 250
MESSAGES_AT_ONCE: Final = 1_500
# A phone cannot speak faster than real time, and the model bills all audio that it gets.
AUDIO_AT_ONCE_NS: Final = 30_000_000_000
_MESSAGE_NS: Final = 1_000_000_000 // MESSAGES_PER_S
_MESSAGES_AHEAD_NS: Final = MESSAGES_AT_ONCE * _MESSAGE_NS

# The window over which the lateness of frames is judged, and the frames that it needs for a judgement.
LATENESS_WINDOW_NS: Final = 2_000_000_000
LATENESS_FRAMES: Final = 100
# The share of the window's frames that may be late. A machine with room stays far below one in a thousand.
LATE_SHARE: Final = 0.05
# Late frames count only when they spread over this many of the window's ten steps: a single stall makes its frames late
# all at once and says nothing about room.
LATE_STEPS: Final = 3


class MessageRate:
    """The messages of one socket against MESSAGES_PER_S: a leaky bucket in a single number (GCRA)."""

    __slots__ = ("_paid_until_ns",)

    def __init__(self) -> None:
        self._paid_until_ns = 0

    def allows(self, now_ns: int) -> bool:
        """Count one message; False when it is one too many."""
        self._paid_until_ns = max(self._paid_until_ns, now_ns) + _MESSAGE_NS
        return self._paid_until_ns - now_ns <= _MESSAGES_AHEAD_NS


class AudioRate:
    """The caller audio of one call against real time: the same leaky bucket, in ns of audio."""

    __slots__ = ("_paid_until_ns",)

    def __init__(self) -> None:
        self._paid_until_ns = 0

    def allows(self, n_bytes: int, now_ns: int) -> bool:
        self._paid_until_ns = max(self._paid_until_ns, now_ns) + n_bytes * BYTE_NS
        return self._paid_until_ns - now_ns <= AUDIO_AT_ONCE_NS


class Lateness:
    """Whether the machine has room for another call, judged by whether the frames of its calls leave in time.

    A frame is late after `late_ns`. Use half the lead: twice as late would be audible.
    """

    def __init__(self, late_ns: int) -> None:
        self._late_ns = late_ns
        # [when, frames, late frames] of each tenth of the window, oldest first; and the sums of all steps.
        self._steps: deque[list[int]] = deque()
        self._frames = 0
        self._late = 0

    def observe(self, frames: int, lateness_ns: int, now_ns: int) -> None:
        """`frames` left `lateness_ns` after their deadline."""
        steps = self._steps
        if not steps or now_ns - steps[-1][0] > LATENESS_WINDOW_NS // 10:
            steps.append([now_ns, 0, 0])
            self._forget(now_ns)
        step = steps[-1]
        step[1] += frames
        self._frames += frames
        if lateness_ns > self._late_ns:
            step[2] += frames
            self._late += frames

    def is_full(self, now_ns: int) -> bool:
        """Whether more than LATE_SHARE of the window's frames were late, in at least LATE_STEPS of its steps."""
        self._forget(now_ns)
        return (
            self._frames >= LATENESS_FRAMES
            and self._late > LATE_SHARE * self._frames
            and sum(late > 0 for _, _, late in self._steps) >= LATE_STEPS
        )

    def pressure(self, now_ns: int) -> float:
        """How near the machine is to being full, by the lateness of its frames: 0 to 1."""
        self._forget(now_ns)
        is_spread = sum(late > 0 for _, _, late in self._steps) >= LATE_STEPS
        if self._frames < LATENESS_FRAMES or not is_spread:
            return 0.0
        return min(1.0, self._late / (LATE_SHARE * self._frames))

    def _forget(self, now_ns: int) -> None:
        while self._steps and now_ns - self._steps[0][0] > LATENESS_WINDOW_NS:
            _, frames, late = self._steps.popleft()
            self._frames -= frames
            self._late -= late
