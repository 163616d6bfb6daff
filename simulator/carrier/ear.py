"""What the caller hears: a model of Twilio's playout buffer for one call.

"The media messages are buffered and played in the order received"; a `mark` comes back when the audio before it has
been played, or at once when nothing is buffered; `clear` "empties all buffered audio and causes any mark messages to be
sent back" (Twilio, Media Streams, WebSocket messages). There is no jitter buffer and no rate limit: audio that arrives
while nothing plays starts at that moment, and every nanosecond between two pieces of speech is silence to the caller.

Pure: times are nanoseconds of CLOCK_MONOTONIC, passed in, never going backwards.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from shared.audio import BYTE_NS, SILENCE

# Error 31931, "Media Discarded": more than 10 minutes of audio buffered; what exceeds them is not accepted.
BUFFER_BYTES: Final = 10 * 60 * 8_000


@dataclass(frozen=True)
class Clear:
    """One `clear`: when it came, and how many unheard bytes it discarded."""

    at_ns: int
    cut_bytes: int


@dataclass(frozen=True)
class EarRecord:
    """All that one ear received and when it played it. The arrays have one entry for each media message, in order."""

    # When the message was read.
    arrival_ns: array[int]
    # When its first byte was played; byte k is played k * 125 us later.
    play_start_ns: array[int]
    # Its length.
    size_bytes: array[int]
    # How many of its bytes were played: less than its length where a clear or the end of the call cut it off.
    heard_bytes: array[int]
    # The payloads, end to end.
    audio: bytes
    clears: tuple[Clear, ...]
    # Each mark: how many bytes had come before it, and its name.
    marks: tuple[tuple[int, str], ...]
    # Bytes refused because ten minutes were buffered already, and how many messages they came in.
    discarded_bytes: int
    discarded_messages: int


@dataclass
class Ear:
    """Twilio's side of the outbound audio of one call."""

    _arrival_ns: array[int] = field(default_factory=lambda: array("q"))
    _play_start_ns: array[int] = field(default_factory=lambda: array("q"))
    _size_bytes: array[int] = field(default_factory=lambda: array("q"))
    _heard_bytes: array[int] = field(default_factory=lambda: array("q"))
    _audio: bytearray = field(default_factory=bytearray)
    _clears: list[Clear] = field(default_factory=list)
    _discarded_bytes: int = 0
    _discarded_messages: int = 0
    # When all that is buffered will have been played.
    _play_end_ns: int = 0
    # Marks that wait for the audio before them: (when it will have been played, name).
    _marks: deque[tuple[int, str]] = field(default_factory=deque)
    _marks_seen: list[tuple[int, str]] = field(default_factory=list)

    def media(self, audio: bytes, now_ns: int) -> bool:
        """Append audio of any length; False when it was discarded (31931)."""
        start_ns = max(self._play_end_ns, now_ns)
        if (start_ns - now_ns) // BYTE_NS + len(audio) > BUFFER_BYTES:
            self._discarded_bytes += len(audio)
            self._discarded_messages += 1
            return False
        if audio:
            self._arrival_ns.append(now_ns)
            self._play_start_ns.append(start_ns)
            self._size_bytes.append(len(audio))
            self._heard_bytes.append(len(audio))
            self._audio += audio
            self._play_end_ns = start_ns + len(audio) * BYTE_NS
        return True

    def mark(self, name: str, now_ns: int) -> None:
        """A mark after the audio so far; `advance` returns it when that audio has been played."""
        self._marks.append((max(self._play_end_ns, now_ns), name))
        self._marks_seen.append((len(self._audio), name))

    def advance(self, now_ns: int) -> list[str]:
        """The marks whose audio has been played by now, in order."""
        due = []
        while self._marks and self._marks[0][0] <= now_ns:
            due.append(self._marks.popleft()[1])
        return due

    def next_due_ns(self) -> int | None:
        """When `advance` has something to return; None while no mark waits."""
        return self._marks[0][0] if self._marks else None

    def clear(self, now_ns: int) -> list[str]:
        """Empty the buffer. Returns all waiting marks; they do not tell whether their audio was played."""
        self._clears.append(Clear(now_ns, self._cut(now_ns)))
        names = [name for _, name in self._marks]
        self._marks.clear()
        return names

    def close(self, now_ns: int) -> None:
        """The stream is over: unplayed audio is never played, and no further mark returns."""
        self._cut(now_ns)
        self._marks.clear()

    def is_playing(self, now_ns: int) -> bool:
        """Whether the caller hears something at this instant."""
        return now_ns < self._play_end_ns

    def heard(self, from_ns: int, n_bytes: int) -> bytes:
        """What was played from `from_ns` on; silence where nothing was. Looks back from the last message."""
        until_ns = from_ns + n_bytes * BYTE_NS
        found: list[tuple[int, bytes]] = []
        end = len(self._audio)
        for n in range(len(self._play_start_ns) - 1, -1, -1):
            start_ns, begin = self._play_start_ns[n], end - self._size_bytes[n]
            end = begin
            if start_ns + self._heard_bytes[n] * BYTE_NS <= from_ns:
                break
            first = max(0, from_ns - start_ns) // BYTE_NS
            last = min(self._heard_bytes[n], -(-(until_ns - start_ns) // BYTE_NS))
            if first < last:
                at = max(0, start_ns - from_ns) // BYTE_NS
                found.append((at, bytes(self._audio[begin + first : begin + last])))
        heard = bytearray(SILENCE * n_bytes)
        for at, audio in found:
            heard[at : at + len(audio)] = audio
        return bytes(heard[:n_bytes])

    def record(self) -> EarRecord:
        return EarRecord(
            arrival_ns=self._arrival_ns[:],
            play_start_ns=self._play_start_ns[:],
            size_bytes=self._size_bytes[:],
            heard_bytes=self._heard_bytes[:],
            audio=bytes(self._audio),
            clears=tuple(self._clears),
            marks=tuple(self._marks_seen),
            discarded_bytes=self._discarded_bytes,
            discarded_messages=self._discarded_messages,
        )

    def _cut(self, now_ns: int) -> int:
        """Discard the audio that has not begun to play; returns its bytes. A sample that has begun is heard."""
        cut = 0
        if self._play_end_ns <= now_ns:
            return cut
        for n in range(len(self._play_start_ns) - 1, -1, -1):
            begun = max(0, -(-(now_ns - self._play_start_ns[n]) // BYTE_NS))
            if begun >= self._heard_bytes[n]:
                break
            cut += self._heard_bytes[n] - begun
            self._heard_bytes[n] = begun
        self._play_end_ns = now_ns
        return cut
