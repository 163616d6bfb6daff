"""The caller's own audio: what a new session still has to hear, and whether the caller is speaking right now.

A lost session takes along what it heard. A turn of the caller is therefore kept until its words are known or its answer
was heard, and a new session hears it again.

The model notices the end of speech half a second late, or later when it listens for the meaning. Where that is too
late, the last 160 ms are examined here. At any other time a chunk is only kept, which costs nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from shared.audio import BYTES_PER_MS, MULAW_TO_LINEAR

# Recent chunks: 1 s at Twilio's 20 ms each. Bounded in chunks, because their length is not documented.
RECENT_CHUNKS: Final = 50
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
PREFIX_CHUNKS: Final = 25

# Amplitude of each mu-law code in units of 32, so that it fits a byte (all above 8,160 is loud) and C code sums 20 ms.
_UNIT: Final = 32
_AMPLITUDES: Final = bytes(min(255, abs(value) // _UNIT) for value in MULAW_TO_LINEAR)


class CallerAudio:
    """Feed it every chunk with `take`. Positions count the bytes since the call began."""

    def __init__(self) -> None:
        self._recent: deque[bytes] = deque(maxlen=RECENT_CHUNKS)
        # The audio that a new session would have to hear, and the position of its first byte; None: no audio.
        self._held: bytearray | None = bytearray()
        self._held_from = 0
        # No session hears the caller.
        self._is_unheard = True
        # Chunks since the model last took a turn.
        self._chunks_since_turn = 0
        # Where the turn that the caller is speaking begins; None: the caller is silent.
        self._speaking_from: int | None = None
        # The position of each turn that the model took, without known words and without a heard answer.
        self._unanswered: dict[int, int] = {}
        # Bytes that exceeded the bound.
        self.dropped_bytes = 0

    def take(self, chunk: bytes) -> None:
        """The caller's next audio, mu-law of any length."""
        self._recent.append(chunk)
        self._chunks_since_turn += 1
        if self._held is not None:
            self._held += chunk
            excess = len(self._held) - HELD_BYTES
            if excess > BYTES_PER_MS * 1_000:  # moving 120 kB for each chunk would be wasteful
                self._drop(excess)
                self.dropped_bytes += excess

    def _drop(self, n_bytes: int) -> None:
        assert self._held is not None
        del self._held[:n_bytes]
        self._held_from += n_bytes

    def turn_started(self) -> None:
        """The session notices speech: a new session would have to hear it from here."""
        prefix = b"".join(list(self._recent)[-PREFIX_CHUNKS:])
        if self._held is None:
            self._held = bytearray(prefix)
        if self._speaking_from is None:
            self._speaking_from = max(self._held_from, self._held_from + len(self._held) - len(prefix))

    def turn_taken(self, turn: int, *, has_speech: bool) -> None:
        """The turn is in the session's conversation. It is lost with the session unless its words become known."""
        self._chunks_since_turn = 0
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
            self._held = bytearray(b"".join(list(self._recent)[-PREFIX_CHUNKS:]))

    def session_lost(self) -> None:
        """Keep all audio from now on, and an unfinished or unanswered turn from its beginning.

        The lost session may not have read the last audio, or not have noticed that a turn begins in it.
        """
        self._is_unheard = True
        if self._held is None:
            unnoticed = min(PREFIX_CHUNKS, self._chunks_since_turn)
            self._held = bytearray(b"".join(list(self._recent)[len(self._recent) - unnoticed :]))

    def deliver(self) -> tuple[bytes, list[int]]:
        """The audio that a ready session has missed, and the unanswered turns in it."""
        held, self._held = self._held, None
        again, self._unanswered = list(self._unanswered), {}
        self._is_unheard, self._speaking_from = False, None
        return bytes(held or b""), again

    def is_speaking(self) -> bool:
        """Whether there is speech in the last 160 ms."""
        audio = b"".join(self._recent)
        levels = [
            sum(audio[at : at + WINDOW_BYTES].translate(_AMPLITUDES)) * _UNIT // WINDOW_BYTES
            for at in range(len(audio) % WINDOW_BYTES, len(audio), WINDOW_BYTES)
        ]
        now = max(levels[-(NOW_BYTES // WINDOW_BYTES) :], default=0)
        return now >= max(FLOOR, max(levels, default=0) // DEPTH)
