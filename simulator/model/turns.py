"""The input audio buffer of a simulated session: the caller's audio, and where speech began and ended in it."""

from __future__ import annotations

from typing import Any, Final

from .config import RefusedError
from .vad import NEEDED_MS, Edge, Vad

# Without speech detection the client commits. Uncommitted audio is bounded: 10 minutes of mu-law.
MAX_BUFFER_BYTES: Final = 4_800_000
# "buffer too small. Expected at least 100ms of audio"
MIN_COMMIT_MS: Final = 100
# semantic_vad waits for the end of a thought; the simulator, for silence of this length, ms.
_EAGERNESS_MS: Final = {"low": 1_200, "medium": 700, "auto": 700, "high": 400}


class CallerAudio:
    """Holds the uncommitted audio; during silence, only as much as a commit can need."""

    def __init__(self, session: dict[str, Any], *, detection_ms: int = NEEDED_MS) -> None:
        self._detection_ms = detection_ms
        self.bytes_per_ms = 8
        self._vad: Vad | None = None
        self._settings: dict[str, Any] = {}
        self._prefix_bytes = 0
        self._buffer = bytearray()
        self._written_ms = 0.0
        self.configure(session)

    def configure(self, session: dict[str, Any]) -> None:
        """Follow the session's `audio.input`. What was appended stays, unless the format changes."""
        settings = session["audio"]["input"]
        if {key: settings[key] for key in ("format", "turn_detection")} == self._settings:
            return
        self._settings = {key: settings[key] for key in ("format", "turn_detection")}
        pcm = settings["format"]["type"] == "audio/pcm"
        if self.bytes_per_ms != (48 if pcm else 8):
            self._buffer.clear()
        self.bytes_per_ms = 48 if pcm else 8
        detection = settings["turn_detection"]
        if detection is None:
            self._vad = None
            return
        self._prefix_bytes = detection.get("prefix_padding_ms", 300) * self.bytes_per_ms
        self._vad = Vad(
            threshold=detection.get("threshold", 0.5),
            silence_duration_ms=detection.get("silence_duration_ms")
            or _EAGERNESS_MS[detection.get("eagerness", "auto")],
            pcm_24k=pcm,
            start_ms=round(self._written_ms),
            needed_ms=self._detection_ms,
        )

    def append(self, audio: bytes) -> list[Edge]:
        """Take appended audio. The edges have the times of the events, padding and silence included."""
        self._buffer += audio
        self._written_ms += len(audio) / self.bytes_per_ms
        if self._vad is None:
            del self._buffer[:-MAX_BUFFER_BYTES]
            return []
        edges = self._vad.feed(audio)
        if edges:
            return [self._padded(edge) for edge in edges]
        if not self._vad.speaking and len(self._buffer) > 2 * self._prefix_bytes + 16_000:
            del self._buffer[: -self._prefix_bytes - 8_000]
        return []

    def _padded(self, edge: Edge) -> Edge:
        if edge.kind == "stopped":
            return edge
        start_ms = max(0, edge.at_ms - self._prefix_bytes // self.bytes_per_ms)
        keep_bytes = round((self._written_ms - start_ms) * self.bytes_per_ms)
        del self._buffer[: max(0, len(self._buffer) - keep_bytes)]
        return Edge("started", start_ms)

    def pending_ms(self) -> tuple[int, int]:
        """Where the uncommitted audio begins and ends, ms of all audio written."""
        return round(self._written_ms - len(self._buffer) / self.bytes_per_ms), round(self._written_ms)

    def commit(self, at_least_ms: int = MIN_COMMIT_MS) -> bytes:
        """Take all pending audio. Raises RefusedError when it is too short."""
        pending_ms = len(self._buffer) / self.bytes_per_ms
        if pending_ms < at_least_ms:
            raise RefusedError(
                "input_audio_buffer_commit_empty",
                f"Error committing input audio buffer: buffer too small. Expected at least {at_least_ms}ms of audio, "
                f"but buffer only has {pending_ms:.2f}ms of audio.",
            )
        audio = bytes(self._buffer)
        self._buffer.clear()
        return audio

    def clear(self) -> None:
        self._buffer.clear()
        if self._vad:
            self._vad.forget_speech()
