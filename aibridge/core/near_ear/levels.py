"""How loud 20 ms of mu-law are, in units of a linear amplitude, and how loud a line is when nobody speaks."""

from __future__ import annotations

from math import sqrt
from typing import Final

from shared.audio import MULAW_TO_LINEAR

# The square root of each code's amplitude, so that it fits a byte and C code sums a frame. The squared mean of the
# roots grows as the amplitude does, and one loud sample weighs less than in a mean of squares.
_ROOTS: Final = bytes(round(sqrt(abs(value) * 2)) for value in MULAW_TO_LINEAR)

# Nothing below this is heard as speech: about -54 dBFS.
FLOOR_MIN: Final = 60.0
# Speech is this many times louder than the line without it: 8 dB.
MARGIN: Final = 2.5
# The floor falls within 100 ms, and rises within some 5 s: speech has pauses, noise has none.
_FALL: Final = 0.2
_RISE: Final = 0.004
# The first frames of a call count in the mean, 500 ms, unless they are the AI's echo.
_START_FRAMES: Final = 25
# Many voices at once, or music, are steady in the mean and not by frames. What is less than 14 dB above the floor is
# noise, and one in 50 frames of it is above its top: such a frame raises the top by a tenth. Speech is 3 dB above it.
_NOISE_RANGE: Final = 5.0
_TOP_SHARE: Final = 0.02
_TOP_STEP: Final = 0.1
_TOP_START_STEP: Final = 0.3
_ABOVE_TOP: Final = 1.45
# Speech is louder than what was not speech lately: half is forgotten in 28 s.
_FORGET: Final = 0.9995
_ABOVE_PEAKS: Final = 1.2
# What is louder is judged all the same, about -28 dBFS: a caller's short word must not make the next one inaudible.
_PEAK_MAX: Final = 1_200.0


def level(frame: bytes) -> float:
    """The amplitude of a part of the audio, 0 to 32,000; speech on a phone has 500 to 5,000."""
    mean = sum(frame.translate(_ROOTS)) / len(frame)
    return mean * mean / 2


class NoiseFloor:
    """What the line carries when nobody speaks: steady noise, and the peaks of what is not steady."""

    __slots__ = ("_floor", "_frames", "_peak", "_top")

    def __init__(self) -> None:
        self._floor = FLOOR_MIN
        self._top = FLOOR_MIN / _ABOVE_TOP
        self._peak = 0.0
        self._frames = 0

    def is_exceeded(self, loudness: float, *, is_ai_audible: bool, is_speech: bool = False) -> bool:
        """Whether a frame of this level stands out of the noise. Give it every frame.

        Speech that is known goes on with frames that are louder than the floor.
        """
        floor = self._floor
        rise, step = _RISE, _TOP_STEP
        if not is_ai_audible and self._frames < _START_FRAMES:
            self._frames += 1
            rise, step = 1 / self._frames, _TOP_START_STEP
        self._floor = max(FLOOR_MIN / MARGIN, floor + (loudness - floor) * (_FALL if loudness < floor else rise))
        self._peak *= _FORGET
        above = max(MARGIN * floor, _ABOVE_PEAKS * self._peak)
        if is_speech:
            return loudness > above
        top = self._top
        if loudness < _NOISE_RANGE * floor:
            top *= 1 + step * (1 - _TOP_SHARE if loudness > top else -_TOP_SHARE)
        self._top = min(top, _NOISE_RANGE * self._floor)
        return loudness > max(above, _ABOVE_TOP * self._top)

    def is_silence(self, loudness: float) -> bool:
        """Whether the line carries nothing but its steady noise."""
        return loudness <= MARGIN * self._floor

    def was_noise(self, loudness: float) -> None:
        """A sound of up to this level was no speech."""
        self._peak = max(self._peak, min(loudness, _PEAK_MAX))
