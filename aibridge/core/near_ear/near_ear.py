"""The near ear of one call. Give it all audio of the caller, in order.

A gate that costs 2 us a frame stands in front of the detector. Both are asked only while the AI is audible, because
nothing can be interrupted otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .detection import Detectors, Sensitivity
from .events import NearEarEvent, Sound

# What the caller's ear heard: `(from_ns, n_bytes)` gives that many bytes of mu-law, silence where nothing was played.
Heard = Callable[[int, int], bytes]


class NearEar:
    """Feed it with `hear`. It holds no clock: times are ns, monotonic."""

    def __init__(self, detectors: Detectors, sensitivity: Sensitivity, heard: Heard) -> None:
        self._detectors = detectors
        self._sensitivity = sensitivity
        self._heard = heard

    def hear(self, audio: bytes, at_ns: int, *, is_ai_audible: bool) -> Sequence[NearEarEvent]:
        """The caller's next audio, mu-law of any length, whose last byte came to the gateway at `at_ns`."""
        return ()

    def is_speaking(self) -> bool:
        """Whether speech of the caller began and has not ended."""
        return False

    def sound(self, now_ns: int) -> Sound:
        """What the caller's last second was: asked when the model reports that the caller speaks."""
        return Sound.NOTHING
