"""What the caller of one call has heard, as proved by Twilio's mark echoes."""

from __future__ import annotations

from typing import Final

# More than the utterances that can be unheard or partly heard at the same time.
MARKS_KEPT: Final = 16


class Heard:
    """The marks of one call. Twilio echoes a mark after playing the audio that was sent before it."""

    __slots__ = ("_frames_at_mark", "generation", "marks", "utterance")

    def __init__(self) -> None:
        # `clear`s sent so far. Marks carry this number, because Twilio also echoes the marks that a `clear` discarded.
        self.generation = 0
        # The last utterance of this generation that was played.
        self.utterance = 0
        # The last marks that were sent: `(utterance, frames since the mark before)`. A list: a deque has 760 bytes.
        self.marks: list[tuple[int, int]] = []
        # Frames of the call when the last mark was sent.
        self._frames_at_mark = 0

    def mark_sent(self, utterance: int, frames: int) -> None:
        """The mark of an utterance was sent; `frames` of the call left before it."""
        self.marks.append((utterance, self.frames_since_mark(frames)))
        del self.marks[:-MARKS_KEPT]
        self._frames_at_mark = frames

    def frames_since_mark(self, frames: int) -> int:
        return frames - self._frames_at_mark

    def clear_sent(self) -> None:
        self.generation += 1
        self.utterance = 0

    def echoed(self, generation: int, utterance: int) -> None:
        if generation == self.generation and utterance > self.utterance:
            self.utterance = utterance
