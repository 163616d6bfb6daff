"""The caller's own audio: what a new session still has to hear, and whether the caller is speaking right now.

A lost session takes along what it heard. A turn of the caller is therefore kept until its words are known or its answer
was heard, and a new session hears it again.

The model notices the end of speech half a second late, or later when it listens for the meaning. Where that is too
late, the last 160 ms are examined here. At any other time a chunk is only kept, which costs nothing.
"""

from __future__ import annotations

from typing import Final

from shared.audio import BYTES_PER_MS, MULAW_TO_LINEAR

# Recent audio: 1 s.
RECENT_BYTES: Final = 1_000 * BYTES_PER_MS
# "Right now": longer than the closure of a consonant (up to about 120 ms), shorter than a pause for breath.
NOW_BYTES: Final = 160 * BYTES_PER_MS
WINDOW_BYTES: Final = 20 * BYTES_PER_MS
# Speech is at most this much below the loudest 20 ms of the last second. Between words the level falls further.
DEPTH: Final = 8
# Below this mean amplitude of 20 ms there is no speech: about -46 dBFS; speech on a phone is at -35 to -15.
FLOOR: Final = 160
# Audio that is kept for a new session: 15 s; the oldest goes first.
HELD_BYTES: Final = 120_000
# What belongs to a turn before the model notices it: its padding (300 ms) and the time that the detection took.
PREFIX_BYTES: Final = 500 * BYTES_PER_MS

# Amplitude of each mu-law code in units of 32, so that it fits a byte (all above 8,160 is loud) and C code sums 20 ms.
_UNIT: Final = 32
_AMPLITUDES: Final = bytes(min(255, abs(value) // _UNIT) for value in MULAW_TO_LINEAR)


class CallerAudio:
    """Feed it every chunk with `take`. Positions count the bytes since the call began."""

    def __init__(self) -> None:
        # The last second: a ring, because 50 chunks as objects are 3 kB more. How much of it came, and where the next
        # byte belongs.
        self._recent = bytearray(RECENT_BYTES)
        self._recent_bytes = self._recent_end = 0
        # The audio that a new session would have to hear, and the position of its first byte; None: no audio.
        self._held: bytearray | None = bytearray()
        self._held_from = 0
        # No session hears the caller.
        self._is_unheard = True
        # Bytes since the model last took a turn.
        self._bytes_since_turn = 0
        # Where the turn that the caller is speaking begins; None: the caller is silent.
        self._speaking_from: int | None = None
        # The position of each turn that the model took, without known words and without a heard answer.
        self._unanswered: dict[int, int] = {}
        # Bytes that exceeded the bound.
        self.dropped_bytes = 0

    def take(self, chunk: bytes) -> None:
        """The caller's next audio, mu-law of any length."""
        self._bytes_since_turn += len(chunk)
        end = self._recent_end + len(chunk)
        if end <= RECENT_BYTES:
            self._recent[self._recent_end : end] = chunk
            self._recent_end = end
            self._recent_bytes = max(self._recent_bytes, end)
        else:
            self._wrap(chunk)
        if self._held is not None:
            self._held += chunk
            excess = len(self._held) - HELD_BYTES
            if excess > BYTES_PER_MS * 1_000:  # moving 120 kB for each chunk would be wasteful
                self._drop(excess)
                self.dropped_bytes += excess

    def _wrap(self, chunk: bytes) -> None:
        """Begin the ring again with this chunk, of any length."""
        recent = (self._last(RECENT_BYTES) + chunk)[-RECENT_BYTES:]
        self._recent[: len(recent)] = recent
        self._recent_bytes, self._recent_end = len(recent), 0

    def _last(self, n_bytes: int) -> bytes:
        """The last `n_bytes` that came, or all if fewer came."""
        begin = self._recent_end - min(n_bytes, self._recent_bytes)
        if begin >= 0:
            return bytes(self._recent[begin : self._recent_end])
        return bytes(self._recent[begin:] + self._recent[: self._recent_end])

    def _drop(self, n_bytes: int) -> None:
        assert self._held is not None
        del self._held[:n_bytes]
        self._held_from += n_bytes

    def turn_started(self) -> None:
        """The session notices speech: a new session would have to hear it from here."""
        prefix = self._last(PREFIX_BYTES)
        if self._held is None:
            self._held = bytearray(prefix)
        if self._speaking_from is None:
            self._speaking_from = max(self._held_from, self._held_from + len(self._held) - len(prefix))

    def turn_taken(self, turn: int, *, has_speech: bool) -> None:
        """The turn is in the session's conversation. It is lost with the session unless its words become known."""
        self._bytes_since_turn = 0
        begin, self._speaking_from = self._speaking_from, None
        if has_speech and begin is not None:
            self._unanswered[turn] = begin
        self._release()

    def turn_settled(self, turn: int) -> None:
        """The words of this turn are known."""
        if self._unanswered.pop(turn, None) is not None:
            self._release()

    def answer_heard(self, turn: int) -> None:
        """The caller hears the answer to this turn, and so to all before it."""
        answered = [each for each in self._unanswered if each <= turn]
        for each in answered:
            del self._unanswered[each]
        if answered:
            self._release()

    def _release(self) -> None:
        """Drop audio that no session would have to hear."""
        if self._held is None or self._is_unheard:
            return
        begins = list(self._unanswered.values())
        if self._speaking_from is not None:
            begins.append(self._speaking_from)
        if begins:
            self._drop(max(0, min(begins) - self._held_from))
        else:
            self._held = None

    def overlap(self) -> None:
        """Another session takes over: both sessions hear the last audio."""
        if self._held is None:
            self._held = bytearray(self._last(PREFIX_BYTES))

    def session_lost(self) -> None:
        """Keep all audio from now on, and an unfinished or unanswered turn from its beginning.

        The lost session may not have read the last audio, or not have noticed that a turn begins in it.
        """
        self._is_unheard = True
        if self._held is None:
            self._held = bytearray(self._last(min(PREFIX_BYTES, self._bytes_since_turn)))

    def deliver(self) -> tuple[bytes, list[int]]:
        """The audio that a ready session has missed, and the unanswered turns in it."""
        held, self._held = self._held, None
        again, self._unanswered = list(self._unanswered), {}
        self._is_unheard, self._speaking_from = False, None
        return bytes(held or b""), again

    def is_speaking(self) -> bool:
        """Whether there is speech in the last 160 ms."""
        audio = self._last(RECENT_BYTES)
        levels = [
            sum(audio[at : at + WINDOW_BYTES].translate(_AMPLITUDES)) * _UNIT // WINDOW_BYTES
            for at in range(len(audio) % WINDOW_BYTES, len(audio), WINDOW_BYTES)
        ]
        now = max(levels[-(NOW_BYTES // WINDOW_BYTES) :], default=0)
        return now >= max(FLOOR, max(levels, default=0) // DEPTH)
