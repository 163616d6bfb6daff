"""Removing a known echo from what the model hears.

The guard keeps the AI from interrupting itself (echo.py). The model hears the echo all the same, and takes it for one
long turn of the caller: it does not notice where the caller begins. A canceller removes most of the echo. It costs more
than the rest of a call, so it hears only calls whose echo the guard has learned, and only while there is any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS

# What the caller's ear heard: `(from_ns, n_bytes)` gives that many bytes of mu-law, silence where nothing was played.
Heard = Callable[[int, int], bytes]

# The echo's source is read so much later than it was heard, when all of it is known (near_ear.py).
LATE_NS: Final = 2 * FRAME_NS
# The canceller finds an echo that comes so much later than the source that it is given: WebRTC's finds 500 ms.
_BEFORE_NS: Final = 3 * FRAME_NS
_SPAN_NS: Final = 15 * FRAME_NS
# A delay that is out of its reach for so many frames calls for another one, which has to learn again: 1 s.
_OUT_FRAMES: Final = 50


class Canceller(Protocol):
    """Of one call. Costs some 200 microseconds a frame."""

    def remove(self, caller: bytes, heard: bytes) -> bytes:
        """The caller's audio without the echo of what was heard: whole frames of mu-law, as many of both."""


class EchoRemoval:
    """Of one call. Give it all audio while an echo is known."""

    def __init__(self, canceller: Callable[[], Canceller], heard: Heard) -> None:
        self._make = canceller
        self._heard = heard
        self._canceller: Canceller | None = None
        # How much later than the caller's audio the source is read.
        self._late_ns = 0
        self._out_frames = 0

    def clean(self, audio: bytes, end_ns: int, delay_ns: int) -> bytes:
        """The caller's audio that ended at `end_ns`, without an echo that comes `delay_ns` after it was heard."""
        if len(audio) % FRAME_BYTES:
            return audio
        is_in_reach = 0 <= delay_ns - self._late_ns <= _SPAN_NS
        self._out_frames = 0 if is_in_reach else self._out_frames + 1
        if self._canceller is None or self._out_frames > _OUT_FRAMES:
            self._canceller, self._out_frames = self._make(), 0
            self._late_ns = max(LATE_NS, (delay_ns - _BEFORE_NS) // FRAME_NS * FRAME_NS)
        begin_ns = end_ns - len(audio) * BYTE_NS
        return self._canceller.remove(audio, self._heard(begin_ns - self._late_ns, len(audio)))
