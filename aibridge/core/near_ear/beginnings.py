"""Speech that the detector notices late: words that begin softly, or with much breath.

The detector hears 128 ms, most of them silence while a word begins, and takes up to 200 ms of a soft beginning for
nothing. Two things are known earlier. At the edge of such a sound the detector is in doubt about one frame, and a voice
then swells, where noise fades. And a sound as loud as somebody close to the telephone is no noise of the background.
"""

from __future__ import annotations

from typing import Final

# Each of so many frames in a row is quieter than the one before by 3 % at most, and the last is 5 % louder than the
# doubtful one. Music holds its level.
_SWELLING_FRAMES: Final = 3
_NO_QUIETER: Final = 0.97
_LOUDER: Final = 1.05
# So many frames in a row have this level, about -22 dBFS, and pass the gate.
_CLOSE_FRAMES: Final = 4
_CLOSE: Final = 2_500.0


class Beginning:
    """Of one burst. Give it each frame of the caller's own, first to `swells`."""

    __slots__ = ("_close", "_doubtful", "_level", "_swelling")

    def __init__(self) -> None:
        # The level of the doubtful frame (0: there is none), of the last one since, and their number.
        self._doubtful = self._level = 0.0
        self._swelling = 0
        # Frames in a row that are close.
        self._close = 0

    def breaks_off(self) -> None:
        """A frame was no sound of the caller's own."""
        self._doubtful, self._swelling, self._close = 0.0, 0, 0

    def swells(self, loudness: float) -> bool:
        """The next frame. Returns whether it confirms that the doubtful one was speech."""
        if not self._doubtful:
            return False
        if loudness < _NO_QUIETER * self._level:
            self._doubtful = 0.0
            return False
        self._level = loudness
        self._swelling += 1
        return self._swelling >= _SWELLING_FRAMES and loudness >= _LOUDER * self._doubtful

    def doubt(self, loudness: float) -> None:
        """The detector nearly takes this frame for speech."""
        if not self._doubtful:
            self._doubtful, self._level, self._swelling = loudness, loudness, 0

    def is_close(self, loudness: float, *, passes_gate: bool) -> bool:
        """Whether this frame is one of enough loud ones."""
        self._close = self._close + 1 if passes_gate and loudness >= _CLOSE else 0
        return self._close >= _CLOSE_FRAMES
