"""The way back from Twilio to the gateway: by how much it delayed what came last.

A lost segment on the way back holds up an echo, and the caller's audio before it just as long. Twilio stamps that audio
with its time in the stream, so the audio tells how long. Without this, a delay on the way back would look like an ear
that lags, and after a `clear` it would count as heard.
"""

from __future__ import annotations

import re
from typing import Final

from shared.audio import FRAME_NS

_MS: Final = 1_000_000
# Less is the jitter of Twilio's own audio. TCP needs longer to repair a loss.
JITTER_NS: Final = 40 * _MS
# The least delay is that of the last one to two minutes: the clocks drift apart by some milliseconds a minute.
WINDOW_NS: Final = 60_000 * _MS
_TIMESTAMP: Final = re.compile(rb'"timestamp":\s*"?(\d{1,12})\b')


class WayBack:
    """Set `media` and `media_ns` to the last audio message and its arrival. Times are ns, monotonic."""

    __slots__ = ("_former_ns", "_least_ns", "_window_until_ns", "media", "media_ns")

    def __init__(self) -> None:
        self.media: bytes = b""
        self.media_ns = 0
        # The least delay of audio, by Twilio's clock and ours, in this window and in the one before. None: unknown.
        self._least_ns: int | None = None
        self._former_ns: int | None = None
        self._window_until_ns = 0

    def punctual_ns(self, now_ns: int) -> int:
        """When an echo that came now would have come without a delay of the way back.

        Call it for every echo, because each call measures the least delay. Far too early if Twilio sends no audio.
        """
        found = _TIMESTAMP.search(self.media)
        if found is None:
            return now_ns
        delay_ns = self.media_ns - int(found[1]) * _MS
        if now_ns >= self._window_until_ns:
            self._former_ns, self._least_ns = self._least_ns, None
            self._window_until_ns = now_ns + WINDOW_NS
        if self._least_ns is None or delay_ns < self._least_ns:
            self._least_ns = delay_ns
        least_ns = self._least_ns if self._former_ns is None else min(self._least_ns, self._former_ns)
        # Twilio sent the echo between this audio and the next.
        punctual_ns = self.media_ns - (delay_ns - least_ns) + FRAME_NS
        return punctual_ns if now_ns - punctual_ns >= JITTER_NS else now_ns
