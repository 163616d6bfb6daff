"""How evenly frames leave, in two figures: about 50 frames a second, and no gap much above 20 ms."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

# Windows, counted in calls of `second`.
_LARGEST_S: Final = 60
_RATE_S: Final = 10


class Pulse:
    """Collects the gaps between two writes of one utterance."""

    def __init__(self) -> None:
        # The largest gap since the last `second`, and the largest gap of each second of the last minute.
        self._largest_ns = 0
        self._largest: deque[int] = deque(maxlen=_LARGEST_S)
        # Frames that followed another frame of their utterance, and the time between the two: since the last `second`,
        # and for each second of the window.
        self._frames = 0
        self._speaking_ns = 0
        self._spoken: deque[tuple[int, int]] = deque(maxlen=_RATE_S)

    def gap(self, gap_ns: int, frames: int) -> None:
        """`frames` were written `gap_ns` after the ones before them."""
        self._frames += frames
        self._speaking_ns += gap_ns
        if gap_ns > self._largest_ns:
            self._largest_ns = gap_ns

    def second(self) -> tuple[float, float]:
        """Seconds of the largest gap of the last minute; frames per second of a speaking call over the last ten.

        The rate is NaN when nobody spoke, so an alert on fewer than 48 stays silent.
        """
        self._largest.append(self._largest_ns)
        self._spoken.append((self._frames, self._speaking_ns))
        self._largest_ns = self._frames = self._speaking_ns = 0
        speaking_ns = sum(ns for _, ns in self._spoken)
        frames = sum(count for count, _ in self._spoken)
        return max(self._largest) / 1e9, frames * 1e9 / speaking_ns if speaking_ns else math.nan
