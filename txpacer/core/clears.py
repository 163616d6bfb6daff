"""The `clear`s of one line that wait for their echo: what each left of the ear is known when Twilio tells.

A `clear` empties Twilio's buffer when it arrives there: one path after it was sent, or a lost segment later than that.
So the line sends a mark before it, which Twilio echoes when the `clear` throws its audio away (or has played that
before). The time of the echo, less the way there and back, is when the ear stopped, on the line's own clock.

Until then the ear that is cut is kept apart, because new speech may begin meanwhile. Answers keep their order. Each
`clear` is answered once: by its echo, by the echo of a later mark, after CLEAR_ECHO_S, or when the line changes hands.
Without its echo, a `clear` is taken to have acted as soon as it was sent, which is exact on a path without delays.
"""

from __future__ import annotations

from typing import Final

from shared.liveness import CLEAR_ECHO_S, ns

from .ear import Ear
from .far_ear import FarEar, Talkspurt
from .reports import Cut
from .utterance import Playing

ECHO_NS: Final = ns(CLEAR_ECHO_S)

# An answer, and the utterances whose last sample the ear has played with it.
Settled = tuple[Cut, list[Playing]]


class Clear:
    """`ear` and `spurt` as they were when the utterances up to `through` were withdrawn, before frame `end_seq`."""

    __slots__ = ("_asked_ns", "_through", "_was_paused", "ear", "end_seq", "mark_seq", "sent_ns", "spurt")

    def __init__(
        self, ear: Ear, spurt: Talkspurt, was_paused: bool, *, end_seq: int, mark_seq: int, through: int, asked_ns: int
    ) -> None:
        self.ear = ear
        self.spurt = spurt
        self.end_seq = end_seq
        # The number in the name of its mark, which no other mark before it has.
        self.mark_seq = mark_seq
        # When it left; 0: it has not.
        self.sent_ns = 0
        self._through = through
        self._asked_ns = asked_ns
        # The ear may have been silent for a while.
        self._was_paused = was_paused

    def settle(self, stopped_ns: int | None = None) -> Settled:
        """The ear stopped at `stopped_ns`, unless it had played everything before. None: nobody knows."""
        is_estimate = stopped_ns is None
        if stopped_ns is None:
            stopped_ns = self.sent_ns or self._asked_ns
        end_ns = self.ear.end_ns(self.end_seq)
        self.ear.cut(self.end_seq, stopped_ns)
        heard = tuple((p.number, p.paced_bytes) for p in self.ear.playing if p.number <= self._through)
        silent_ns = min(stopped_ns, end_ns)
        if not (self._was_paused and heard):
            silent_ns = max(self._asked_ns, silent_ns)
        return Cut(self._through, heard, silent_ns, is_estimate and bool(heard)), self.ear.playing


class Clears:
    """`add` a clear, and say when it is `sent`. The other methods return the answers that follow. Times are ns."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Clear] = []

    def __bool__(self) -> bool:
        """Whether an answer is owed."""
        return bool(self._waiting)

    def add(self, clear: Clear) -> None:
        self._waiting.append(clear)

    def sent(self, now_ns: int) -> None:
        """Every `clear` so far has left."""
        for clear in self._waiting:
            clear.sent_ns = clear.sent_ns or now_ns

    def wire_late(self, seq: int, wire_ns: int) -> None:
        """Frame `seq` left the machine late, and what the ear plays from there to the `clear`, it plays later."""
        for clear in self._waiting:
            clear.ear.wire_late(seq, wire_ns, clear.end_seq, None)

    def echoed(self, seq: int, at_ns: int, far: FarEar) -> list[Settled]:
        """The mark of `seq` was echoed at `at_ns`. Echoes come in order: those of earlier `clear`s are missing."""
        settled = []
        while self._waiting and self._waiting[0].mark_seq <= seq:
            first = self._waiting.pop(0)
            stopped_ns = far.stopped_ns(first.spurt, first.sent_ns, at_ns) if first.mark_seq == seq else None
            settled.append(first.settle(stopped_ns))
        return settled

    def next_due_ns(self) -> int | None:
        """When `overdue` has something to return; None: not before a `clear` is sent."""
        sent_ns = self._waiting[0].sent_ns if self._waiting else 0
        return sent_ns + ECHO_NS if sent_ns else None

    def overdue(self, now_ns: int) -> list[Settled]:
        """The echo did not come."""
        settled = []
        while (due_ns := self.next_due_ns()) is not None and due_ns <= now_ns:
            settled.append(self._waiting.pop(0).settle())
        return settled

    def all(self) -> list[Settled]:
        """Answer everything with what is known."""
        settled = [clear.settle() for clear in self._waiting]
        self._waiting.clear()
        return settled
