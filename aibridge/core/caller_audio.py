"""The caller's own audio: what a fresh session still has to hear, and whether the caller is speaking right now.

The server says that speech stopped only `silence_duration_ms` (500) after it did, or later still with semantic_vad.
Where that is too late, the last 160 ms are listened to here. It costs nothing otherwise: a chunk is only kept.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from shared.audio import BYTES_PER_MS, MULAW_TO_LINEAR

# Chunks that are remembered; Twilio sends 20 ms each, so 1 s. Bounded in chunks, because nothing promises their length.
RECENT_CHUNKS: Final = 50
# What "right now" means: longer than the closure of a consonant (up to about 120 ms), shorter than a pause for breath.
NOW_BYTES: Final = 160 * BYTES_PER_MS
WINDOW_BYTES: Final = 20 * BYTES_PER_MS
# Speech is not more than this below its loudest 20 ms of the last second. Between words it falls further.
DEPTH: Final = 8
# Mean amplitude of 20 ms under which nothing is speech: about -46 dBFS; speech on a phone is at -35 to -15.
FLOOR: Final = 160
# Audio that waits for a session: 15 s; the oldest goes first.
HELD_BYTES: Final = 120_000
# Before speech_started, what belongs to the turn: prefix_padding_ms (300) and the time that the detection took.
PREFIX_CHUNKS: Final = 25

# Amplitude of each mu-law code in units of 32, so that it fits a byte (all above 8,160 is loud) and C code sums 20 ms.
_UNIT: Final = 32
_AMPLITUDES: Final = bytes(min(255, abs(value) // _UNIT) for value in MULAW_TO_LINEAR)


class CallerAudio:
    """Feed it every chunk with `take`."""

    def __init__(self) -> None:
        self._recent: deque[bytes] = deque(maxlen=RECENT_CHUNKS)
        # From the beginning of the caller's turn on, or since there is no session; None: nobody could want it.
        self._held: bytearray | None = bytearray()
        # Bytes that were thrown away because nobody took them in time.
        self.dropped_bytes = 0

    def take(self, chunk: bytes) -> None:
        """The caller's next audio, mu-law of any length."""
        self._recent.append(chunk)
        if self._held is not None:
            self._held += chunk
            excess = len(self._held) - HELD_BYTES
            if excess > BYTES_PER_MS * 1_000:  # moving 120 kB for each chunk would be wasteful
                del self._held[:excess]
                self.dropped_bytes += excess

    def turn_started(self) -> None:
        """The session heard speech begin: from here on, another one would have to be told."""
        if self._held is None:
            self._held = bytearray(b"".join(list(self._recent)[-PREFIX_CHUNKS:]))

    def turn_committed(self) -> None:
        """The session has the turn in its conversation."""
        self._held = None

    def session_lost(self) -> None:
        """Keep everything from now on; in the middle of a turn, from its beginning."""
        if self._held is None:
            self._held = bytearray()

    def deliver(self) -> bytes:
        """What a session that is ready now has missed."""
        held, self._held = self._held, None
        return bytes(held) if held else b""

    def is_speaking(self) -> bool:
        """Whether there is speech in the last 160 ms."""
        audio = b"".join(self._recent)
        levels = [
            sum(audio[at : at + WINDOW_BYTES].translate(_AMPLITUDES)) * _UNIT // WINDOW_BYTES
            for at in range(len(audio) % WINDOW_BYTES, len(audio), WINDOW_BYTES)
        ]
        now = max(levels[-(NOW_BYTES // WINDOW_BYTES) :], default=0)
        return now >= max(FLOOR, max(levels, default=0) // DEPTH)
