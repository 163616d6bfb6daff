"""Voice activity detection by the energy of a caller's audio, with the settings of OpenAI's `server_vad`.

Time is counted in bytes of audio, never on a clock: audio that comes ten times too fast is judged the same.
A 20 ms append costs a few microseconds, because 150 calls bring 7,500 of them a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from shared.audio import MULAW_TO_LINEAR

# The energy is judged in windows of this length.
WINDOW_MS: Final = 20
# So much loud audio is speech; a click is shorter. A quiet window takes back a loud one, because words have holes. By
# default speech is noticed 40 to 60 ms after its beginning.
NEEDED_MS: Final = 40


def _level(amplitude: int) -> int:
    """A 15-bit amplitude on a scale of 6 steps a doubling: 0 up to 16, and 66 at full scale."""
    return max(0, round(6 * math.log2(amplitude / 16))) if amplitude > 16 else 0


# Per byte of audio/pcmu, and per high byte of audio/pcm (signed 16 bit, little-endian).
_MULAW_LEVELS: Final = bytes(_level(abs(value)) for value in MULAW_TO_LINEAR)
_PCM_LEVELS: Final = bytes(_level((255 - code if code > 127 else code) << 8) for code in range(256))


@dataclass(frozen=True)
class Edge:
    """Speech began or ended, `at_ms` of all audio written so far."""

    kind: Literal["started", "stopped"]
    at_ms: int


class Vad:
    """Feed it audio; it returns where speech begins and ends."""

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        silence_duration_ms: int = 500,
        pcm_24k: bool = False,
        start_ms: int = 0,
        needed_ms: int = NEEDED_MS,
    ) -> None:
        """`start_ms` is the length of the audio before; `threshold` is 0 to 1, as in `turn_detection`.

        `needed_ms`: the loud audio that is noticed as speech.
        """
        self.bytes_per_ms = 48 if pcm_24k else 8
        self._pcm_24k = pcm_24k
        self._window_bytes = WINDOW_MS * self.bytes_per_ms
        samples = WINDOW_MS * (24 if pcm_24k else 8)
        # Mean level of a window. Speech on a phone lies between 25 and 50, its fading ends near 10, a quiet line under
        # 3. With the default of 0.5 speech starts at 16, which is the level of a steady amplitude of 100 of 32,768.
        self._loud = samples * (6 + 20 * threshold)
        self._quiet = 0.6 * self._loud
        self._silent_windows_to_stop = max(1, -(-silence_duration_ms // WINDOW_MS))
        self._rest = b""
        self._now_ms = start_ms
        self._needed = max(1, needed_ms // WINDOW_MS)
        self._run = 0  # loud windows less quiet ones while silent, quiet ones in a row while speaking
        self._begin_ms = 0  # where the first of the loud windows began
        self.speaking = False

    def feed(self, data: bytes) -> list[Edge]:
        """Judge `data` of any length. Returns the edges in order."""
        if self._rest:
            data = self._rest + data
        size = self._window_bytes
        edges: list[Edge] = []
        at = 0
        while len(data) - at >= size:
            window = data[at : at + size]
            at += size
            energy = sum(window[1::2].translate(_PCM_LEVELS) if self._pcm_24k else window.translate(_MULAW_LEVELS))
            self._now_ms += WINDOW_MS
            if not self.speaking:
                if energy < self._loud:
                    self._run = max(0, self._run - 1)
                    continue
                if not self._run:
                    self._begin_ms = self._now_ms - WINDOW_MS
                self._run += 1
                if self._run == self._needed:
                    self.speaking, self._run = True, 0
                    edges.append(Edge("started", self._begin_ms))
            elif energy >= self._quiet:
                self._run = 0
            else:
                self._run += 1
                if self._run >= self._silent_windows_to_stop:
                    self.speaking, self._run = False, 0
                    edges.append(Edge("stopped", self._now_ms))
        self._rest = data[at:]
        return edges

    def forget_speech(self) -> None:
        """The audio was cleared: speech that had begun is over, without an edge."""
        self.speaking, self._run, self._rest = False, 0, b""
