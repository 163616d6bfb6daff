"""A caller's speakerphone: what the caller hears comes back into the line, quieter and later.

Telephones cancel most of their echo. A loudspeaker leaves 10 to 30 dB below the far end's voice, after 50 to 400 ms
with the network's delay, and a room adds a tail.

Pure. Times are nanoseconds of CLOCK_MONOTONIC, passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from shared.audio import FRAME_BYTES, MULAW_TO_LINEAR, SILENCE, linear_to_mulaw

_MS: Final = 1_000_000
# The room: a second copy, later and quieter than the first one.
TAIL_MS: Final = 35
TAIL_DB: Final = 8.0
_NOTHING: Final = SILENCE * FRAME_BYTES

# `(from_ns, n_bytes)`: what the caller heard from then on, mu-law; silence where nothing was played.
Heard = Callable[[int, int], bytes]


@cache
def _encoded() -> bytes:
    """The mu-law code of each 16-bit sample, two's complement."""
    return bytes(linear_to_mulaw(value - 65_536 if value > 32_767 else value) for value in range(65_536))


class Speakerphone:
    """`loss_db`: how much quieter the echo is than what is heard; `delay_ms`: from the ear back into the line."""

    def __init__(self, *, delay_ms: int, loss_db: float) -> None:
        self._delay_ns = delay_ms * _MS
        self._first = self._quieter(loss_db)
        self._second = self._quieter(loss_db + TAIL_DB)

    @staticmethod
    def _quieter(loss_db: float) -> list[int]:
        factor = 10 ** (-loss_db / 20)
        return [round(value * factor) for value in MULAW_TO_LINEAR]

    def line(self, own: bytes, at_ns: int, heard: Heard) -> bytes:
        """The frame that goes into the line: the caller's `own`, which begins at `at_ns`, and the echo."""
        first = heard(at_ns - self._delay_ns, FRAME_BYTES)
        second = heard(at_ns - self._delay_ns - TAIL_MS * _MS, FRAME_BYTES)
        if first == second == _NOTHING:
            return own
        loud, quiet, encoded = self._first, self._second, _encoded()
        mixed = [MULAW_TO_LINEAR[o] + loud[a] + quiet[b] for o, a, b in zip(own, first, second, strict=True)]
        return bytes(encoded[max(-32_768, min(32_767, sample)) & 0xFFFF] for sample in mixed)
