"""How much one peer, and this machine, may be asked for. Times are ns, monotonic; nothing here knows a socket."""

from __future__ import annotations

from collections import deque
from typing import Final

from shared.audio import BYTE_NS

# Twilio sends 50 frames a second for each call, and after a stall of its own all that piled up: 30 s of it are let
# through at once, and five times the ordinary rate for ever. Pings and fragments count like messages.
MESSAGES_PER_S: Final = 250
MESSAGES_AT_ONCE: Final = 1_500
# Caller audio is real time; a phone cannot speak faster. The model's input is as long as what we let through.
AUDIO_AT_ONCE_NS: Final = 30_000_000_000
_MESSAGE_NS: Final = 1_000_000_000 // MESSAGES_PER_S
_MESSAGES_AHEAD_NS: Final = MESSAGES_AT_ONCE * _MESSAGE_NS

# The window over which the lateness of frames is judged, and how many frames have to be in it to say anything.
LATENESS_WINDOW_NS: Final = 2_000_000_000
LATENESS_FRAMES: Final = 100
# So many of the window's frames may be late. A machine that has room stays far below one in a thousand.
LATE_SHARE: Final = 0.05
# In so many of the window's ten steps at least: one stall, of whatever process, makes its frames late all at once and
# says nothing about room.
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
    """The caller audio of one call against real time, likewise."""

    __slots__ = ("_paid_until_ns",)

    def __init__(self) -> None:
        self._paid_until_ns = 0

    def allows(self, n_bytes: int, now_ns: int) -> bool:
        self._paid_until_ns = max(self._paid_until_ns, now_ns) + n_bytes * BYTE_NS
        return self._paid_until_ns - now_ns <= AUDIO_AT_ONCE_NS


class Lateness:
    """Whether the machine still has room for a call: whether the frames of those it has leave in time.

    `late_ns`: from here on a frame is late. Half the lead: as much again would be heard.
    """

    def __init__(self, late_ns: int) -> None:
        self._late_ns = late_ns
        # (when, frames, late ones), oldest first, in steps of a tenth of the window; and their sums.
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
        """More than LATE_SHARE of the last two seconds' frames were late, and not all of them at once."""
        self._forget(now_ns)
        return (
            self._frames >= LATENESS_FRAMES
            and self._late > LATE_SHARE * self._frames
            and sum(late > 0 for _, _, late in self._steps) >= LATE_STEPS
        )

    def _forget(self, now_ns: int) -> None:
        while self._steps and now_ns - self._steps[0][0] > LATENESS_WINDOW_NS:
            _, frames, late = self._steps.popleft()
            self._frames -= frames
            self._late -= late
