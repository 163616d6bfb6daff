"""The ear of one line: what Twilio's playout buffer holds, when the next frame is due, and which silences are gaps.

Theory. The ear is Twilio's playout buffer: a queue that plays 8 bytes a millisecond. After an anchor it plays without
a break, and frame `seq` begins at

    anchor_ns + seq * 20 ms.

Lateness is inaudible while that instant lies ahead of now. A frame is due when the ear would otherwise hold less than
the lead, so the deadline of frame `seq` is

    that instant, down to the grid of the pacer's ticks, + 20 ms - lead.

Deadlines are absolute: no wake-up time enters them. The first frames of a silent ear are due at once, up to the lead;
after those, one frame every 20 ms.

Debt. A line that wakes late while the ear still plays emits what is overdue, and nobody hears the lateness. A line that
wakes after the ear ran dry moves the anchor to now and restores the lead: that is a gap, and it is reported. Either way
the line emits whole frames in order, skips none, and never emits more than the lead at once.

The anchor moves for four reasons: the ear was silent (`begin`), frames left the machine late (`wire_late`), frames
arrived late (`far_late`), or a `clear` emptied the ear (`cut`).
"""

from __future__ import annotations

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS

from .reports import Finished, Shifted, Started
from .utterance import Playing, Utterance


class Ear:
    """`seq` is always the number of the next frame to be paced. Times are ns, monotonic.

    `lead_ns` must be a multiple of `grid_ns`, the period of the pacer's ticks, so that every deadline is on the grid.
    """

    __slots__ = (
        "_anchor_ns",
        "_finished",
        "_gap_is_audible",
        "_gap_seq",
        "_spurt_seq",
        "grid_ns",
        "lead_ns",
        "playing",
    )

    def __init__(self, *, lead_ns: int, grid_ns: int) -> None:
        # A frame that is less than 20 ms late must find the ear playing: see `Line.frame`.
        if lead_ns % grid_ns or lead_ns < 2 * FRAME_NS:
            raise ValueError("the lead must be a multiple of the grid, and at least two frames")
        self.lead_ns = lead_ns
        self.grid_ns = grid_ns
        self._anchor_ns = 0
        # The first frame since the ear was last silent.
        self._spurt_seq = 0
        # The frame after the last silence (-1: none), and whether that silence was a gap. It may yet prove longer.
        self._gap_seq = -1
        self._gap_is_audible = False
        # Utterances that are wholly paced, or cut, and not heard to their end.
        self.playing: list[Playing] = []
        # The utterance that the ear finished last, as far as was known then.
        self._finished: Playing | None = None

    def restore(self, seq: int, end_ns: int) -> None:
        """Continue the ear of a lost line, which had played everything at `end_ns` (0: unknown)."""
        self._anchor_ns = end_ns - seq * FRAME_NS
        self._spurt_seq = seq

    def end_ns(self, seq: int) -> int:
        """When the ear has played everything paced so far."""
        return self._anchor_ns + seq * FRAME_NS

    def due_ns(self, seq: int) -> int:
        """The deadline of the next frame. Paced then, the ear holds the lead and less than a tick more."""
        end_ns = self._anchor_ns + seq * FRAME_NS
        return end_ns - end_ns % self.grid_ns + FRAME_NS - self.lead_ns

    def begin(self, seq: int, now_ns: int, head: Utterance, *, meant: bool) -> Started | Shifted | None:
        """The silent ear begins, or begins again, at now. Inside an utterance that was a gap, unless it was meant."""
        silent_ns = self.end_ns(seq)
        report: Started | Shifted | None = None
        self._gap_seq = -1
        if head.paced_bytes and silent_ns:
            self._gap_seq = seq
            self._gap_is_audible = not meant
            report = Shifted(head.number, now_ns - silent_ns, self._gap_is_audible)
        elif head.paced_bytes:
            report = Started(head.number, now_ns - head.paced_bytes * BYTE_NS)
        self.restore(seq, now_ns)
        return report

    def skip_number(self) -> None:
        """The line leaves out a frame's number; the ear plays what it would have played."""
        self._anchor_ns -= FRAME_NS

    def complete(self, seq: int, paced: Utterance) -> None:
        """The last frame of an utterance was paced."""
        self.playing.append(Playing(paced, self.end_ns(seq)))

    def finish(self, now_ns: int) -> list[Finished]:
        """The utterances that the ear has played to their end by now."""
        found = []
        playing = self.playing
        while playing and playing[0].ear_ns <= now_ns:
            heard = self._finished = playing.pop(0)
            found.append(Finished(heard.number, heard.ear_ns))
        return found

    def cut(self, seq: int, now_ns: int) -> None:
        """A `clear` empties the ear now: take what it held from the utterances that were last in it."""
        unheard = max(0, self.end_ns(seq) - now_ns) // BYTE_NS
        for playing in reversed(self.playing):
            # The padding of a last frame precedes the next utterance's audio, and is lost with that audio.
            padding = -playing.paced_bytes % FRAME_BYTES
            lost = min(playing.paced_bytes, max(0, unheard - padding))
            unheard -= min(unheard, lost + padding)
            playing.paced_bytes -= lost
            playing.ear_ns = min(playing.ear_ns, now_ns)
        # How late the lost frames were matters only to the frames that follow them.
        self.restore(seq, min(self.end_ns(seq), now_ns))

    def wire_late(self, late_seq: int, wire_ns: int, seq: int, head: Utterance | None) -> list[Shifted]:
        """Frame `late_seq` left the machine at `wire_ns`. If the ear had run dry by then, it plays the rest later."""
        # A socket is a queue: frames since the last silence left no earlier than the frames before it.
        late_seq = max(late_seq, self._spurt_seq)
        dry_ns = self.end_ns(late_seq)
        gap_ns = wire_ns - dry_ns
        if late_seq >= seq or gap_ns <= 0:
            return []
        late = self._play_later(dry_ns, gap_ns, head)
        if not late:
            return []
        continued = late_seq == self._gap_seq
        if not continued:
            self._gap_seq = late_seq
            self._gap_is_audible = late_seq != late[0].first_seq
        return _shifts(late, gap_ns, self._gap_is_audible, continued)

    def far_late(
        self, seq: int, lag_ns: int, head: Utterance | None, *, audible: bool, continued: bool
    ) -> list[Shifted]:
        """Twilio played what was sent before frame `seq` later than believed, by `lag_ns`, and so the rest."""
        late = self._play_later(self.end_ns(seq) - FRAME_NS, lag_ns, head)
        return _shifts(late, lag_ns, audible, continued) if late else []

    def _play_later(self, after_ns: int, by_ns: int, head: Utterance | None) -> list[Playing | Utterance]:
        """Believe that what the ear plays after that instant is played later; the utterances that this concerns."""
        self._anchor_ns += by_ns
        late: list[Playing | Utterance] = []
        for playing in self.playing:
            if playing.ear_ns > after_ns:
                playing.ear_ns += by_ns
                late.append(playing)
        if head is not None and head.paced_bytes:
            late.append(head)
        if not late and self._finished is not None:
            late.append(self._finished)
        return late


def _shifts(late: list[Playing | Utterance], by_ns: int, audible: bool, continued: bool) -> list[Shifted]:
    first, *others = late
    return [
        Shifted(first.number, by_ns, audible, continued),
        *(Shifted(other.number, by_ns, audible=False) for other in others),
    ]
