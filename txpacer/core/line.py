"""One call's outbound audio as a pure function of time.

Theory. The ear is Twilio's playout buffer: a queue that plays 8 bytes a millisecond. `ear_ns` is when it will have
played all that was paced; while that lies ahead of now, lateness is inaudible. The line paces a frame whenever the ear
would otherwise hold less than the lead, so the deadline of the next frame is

    ear_ns, down to the grid of the pacer's ticks, + 20 ms - lead.

`ear_ns` starts at an anchor, the instant of the first frame after silence, and grows by 20 ms a frame: deadlines are
absolute, and no wake-up time ever enters them. The first frames of a silent ear are due at once, up to the lead; after
that one every 20 ms.

Debt. Woken late while the ear still has something to play, the line emits what is overdue, and nobody hears it. Woken
after the ear ran dry, it anchors anew at now and restores the lead: a gap, counted. Either way it emits whole frames in
order, never more than the lead at once, and skips none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import length_hint
from struct import Struct

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS, SILENCE
from shared.messages import CLEAR

# A line whose ear ran dry in mid-utterance starts again with this much: one frame alone would run dry again at once.
# 60 ms is about one delta of the model.
REBUFFER_BYTES = 3 * FRAME_BYTES
# Ten minutes of mu-law, which is what Twilio itself would buffer (its error 31931). More than any answer.
RESERVOIR_LIMIT_BYTES = 4_800_000
# Frames that may be taken from the midst of an utterance without asking, at most.
_RUN_FRAMES = 100
_FRAME = Struct(f"{FRAME_BYTES}s")


@dataclass(frozen=True)
class Started:
    """The first frame of an utterance was paced; the ear begins to play it at `ear_ns`."""

    utterance: int
    ear_ns: int


@dataclass(frozen=True)
class Shifted:
    """The rest of an utterance will be heard `gap_ns` later than was reported.

    `audible`: the ear ran dry inside the utterance, which is a gap; otherwise only its beginning was late, or the
    silence was meant. `continued`: it is the same silence as the last one's, which has become longer by `gap_ns`.
    """

    utterance: int
    gap_ns: int
    audible: bool
    continued: bool = False


@dataclass(frozen=True)
class Finished:
    """The ear played the last paced sample of an utterance (its end, or where it was withdrawn)."""

    utterance: int
    ear_ns: int


@dataclass(frozen=True)
class Starved:
    """The model was slower than the ear: a deadline passed with no whole frame there."""

    utterance: int


@dataclass(frozen=True)
class CaughtUp:
    """The line was woken late, and emitted `frames` overdue ones before the ear ran dry."""

    frames: int


Report = Started | Shifted | Finished | Starved | CaughtUp

# Audio of whole frames, the number of the first, and the mark behind them (0: none, CLEAR: see Frames).
Piece = tuple[int, bytes, int]


@dataclass(frozen=True)
class Cut:
    """What a withdrawal left: speech bytes per utterance that are or will be heard, and when the ear falls silent."""

    heard_bytes: tuple[tuple[int, int], ...]
    silent_ns: int


class _Utterance:
    """Speech that is not paced yet: `size` bytes, in the chunks that came, from byte `at` of the first one.

    A bytearray would move all it holds whenever it outgrows its room, ten seconds of speech every few deltas.
    """

    __slots__ = ("at", "chunks", "ended", "first_seq", "number", "paced_bytes", "size")

    def __init__(self, number: int) -> None:
        self.number = number
        self.chunks: deque[bytes] = deque()
        self.at = 0
        self.size = 0
        self.ended = False
        self.paced_bytes = 0  # without the padding of a short last frame
        self.first_seq = 0

    def front(self, size: int) -> memoryview:
        """The next `size` bytes, which must be there; they stay."""
        chunks = self.chunks
        if len(chunks[0]) - self.at < size:
            parts = [chunks.popleft()[self.at :]]
            gathered = len(parts[0])
            while gathered < size:
                parts.append(chunks.popleft())
                gathered += len(parts[-1])
            chunks.appendleft(b"".join(parts))
            self.at = 0
        return memoryview(chunks[0])[self.at : self.at + size]

    def drop(self, size: int) -> None:
        """Forget the next `size` bytes."""
        self.size -= size
        self.at += size
        while self.chunks and self.at >= len(self.chunks[0]):
            self.at -= len(self.chunks.popleft())


@dataclass
class _Playing:
    """An utterance whose last frame was paced and which the ear has not finished."""

    number: int
    paced_bytes: int
    first_seq: int
    ear_ns: int


class Line:
    """`push`, `end` and `withdraw` speech; `tick` gives the frames that are due. Times are ns, monotonic.

    `lead_ns` must be a multiple of `grid_ns`, the period of the pacer's ticks, so that every deadline is on the grid.

    In the midst of an utterance, `run` gives the next entries of a batch, `(call, seq, frame, 0)`. Whoever takes one at
    the line's deadline, less than `patience_ns` late, has what `tick` would give; nearly every frame is taken so, which
    costs a tenth. None, or no more of them, says: ask `tick`.
    """

    __slots__ = (
        "_call",
        "_closed_through",
        "_ear_ns",
        "_finished",
        "_gap_is_audible",
        "_gap_seq",
        "_grid_ns",
        "_lead_ns",
        "_marks",
        "_numbers",
        "_paused",
        "_playing",
        "_queue",
        "_reservoir_bytes",
        "_resumed",
        "_run_frames",
        "_seq",
        "_spurt_seq",
        "_starved",
        "_waiting",
        "patience_ns",
        "reports",
        "run",
    )

    def __init__(self, *, lead_ns: int, grid_ns: int, call: int = 0) -> None:
        if lead_ns % grid_ns or lead_ns < FRAME_NS:
            raise ValueError("the lead must be a multiple of the grid, and a frame at least")
        self._call = call
        # Later than a frame, more than one is due; later than the lead less a frame, the ear may have run dry.
        self.patience_ns = min(FRAME_NS, lead_ns - FRAME_NS + 1)
        self._lead_ns = lead_ns
        self._grid_ns = grid_ns
        # Utterances with speech to pace, in order; the head may be partly paced.
        self._queue: deque[_Utterance] = deque()
        # Utterances that are wholly paced (or cut) and partly heard.
        self._playing: deque[_Playing] = deque()
        # Marks (and CLEAR) that go out with the next tick, without audio.
        self._marks: list[int] = []
        # No new speech since a tick found none to pace: nothing is due before some comes.
        self._waiting = False
        # A deadline passed without a frame in mid-utterance.
        self._starved = False
        # Held by `pause`; and let go by `resume`, with nothing paced since: what is late then was not late by accident.
        self._paused = False
        self._resumed = False
        # Utterances up to this one take no more speech: withdrawn, or paced to their end.
        self._closed_through = 0
        # The first frame since the ear was last silent.
        self._spurt_seq = 0
        # The frame behind the last silence (-1: none), and whether that was a gap: it may turn out to be longer.
        self._gap_seq = -1
        self._gap_is_audible = False
        # The utterance that the ear finished last, as far as was known then.
        self._finished: _Playing | None = None
        # See above; its numbers, and how many there were. What was taken is not in the books before `_settle`.
        self.run: Iterator[tuple[int, int, bytes, int]] | None = None
        self._numbers: Iterator[int] = iter(())
        self._run_frames = 0
        self._reservoir_bytes = 0
        self._ear_ns = 0
        self._seq = 0
        # What happened since somebody last took them; the owner clears the list.
        self.reports: list[Report] = []

    @property
    def reservoir_bytes(self) -> int:
        """Speech that is not paced yet."""
        return self._reservoir_bytes - self._taken() * FRAME_BYTES

    @property
    def ear_ns(self) -> int:
        """When the ear will have played everything paced so far."""
        return self._ear_ns + self._taken() * FRAME_NS

    @property
    def seq(self) -> int:
        """The number of the next frame."""
        return self._seq + self._taken()

    def restore(self, *, seq: int, utterance: int, paced_bytes: int, ear_ns: int) -> None:
        """Go on for a line that is gone, whose next frame was `seq`, in the midst of `utterance` (0: of none).

        Its first `paced_bytes`, whole frames, were played at `ear_ns`, and the silence since then is a gap. 0: nobody
        was told that it began, and nobody knows how long it has been silent.
        """
        self._seq = self._spurt_seq = seq
        self._ear_ns = ear_ns
        if utterance:
            self._closed_through = utterance - 1
            head = _Utterance(utterance)
            head.paced_bytes = paced_bytes
            head.first_seq = seq - paced_bytes // FRAME_BYTES
            self._queue.append(head)
            self._waiting = True

    def push(self, utterance: int, data: bytes) -> int:
        """Append speech of any length to `utterance`; its predecessors are ended by it.

        Returns how many bytes were not taken: all after a withdrawal or an end, some beyond RESERVOIR_LIMIT_BYTES.
        """
        if utterance <= self._closed_through:
            return len(data)
        queue = self._queue
        if not queue or queue[-1].number < utterance:
            for earlier in queue:
                earlier.ended = True
            queue.append(_Utterance(utterance))
        target = queue[-1]
        if target.number != utterance or target.ended:
            return len(data)
        room = RESERVOIR_LIMIT_BYTES - self.reservoir_bytes
        refused = max(0, len(data) - room)
        if refused:
            data = data[:room]
        if data:
            target.chunks.append(data)
            target.size += len(data)
            self._reservoir_bytes += len(data)
        self._waiting = False
        return refused

    def end(self, utterance: int) -> None:
        """No more speech of `utterance` will come."""
        for candidate in self._queue:
            if candidate.number == utterance:
                candidate.ended = True
                self._waiting = False

    def withdraw(self, through: int, now_ns: int, *, clear: bool = False) -> Cut:
        """Pace nothing more of any utterance up to `through`, now or later. Paced frames stay.

        With `clear`, Twilio's buffer is thrown away, too, and what it still held is not counted as heard.
        """
        self._settle()
        self._closed_through = max(self._closed_through, through)
        while self._queue and self._queue[0].number <= through:
            gone = self._queue.popleft()
            self._reservoir_bytes -= gone.size
            if gone.paced_bytes:
                self._playing.append(_Playing(gone.number, gone.paced_bytes, gone.first_seq, self._ear_ns))
                self._marks.append(gone.number)
        self._starved = False
        self._waiting = False
        self._paused = self._resumed = False
        if clear:
            self._cut_ear(now_ns)
        heard = tuple((p.number, p.paced_bytes) for p in self._playing if p.number <= through)
        return Cut(heard, max(self._ear_ns, now_ns))

    def pause(self) -> None:
        """Pace nothing before `resume` or a withdrawal. What was paced is heard, and nothing is lost."""
        self._settle()
        self._paused = True

    def resume(self) -> None:
        """Go on with the next frame; harmless when not paused."""
        if self._paused:
            self._resumed = True
            # A number is left out: whoever counts the gaps between frames that follow each other shall not count this.
            self._seq += 1
        self._paused = False
        self._waiting = False

    def _cut_ear(self, now_ns: int) -> None:
        """The ear is emptied now: take what it held from the utterances that were last in it."""
        unheard = max(0, self._ear_ns - now_ns) // BYTE_NS
        for playing in reversed(self._playing):
            # The padding of a last frame lies in front of the next utterance's audio and is lost with it.
            padding = -playing.paced_bytes % FRAME_BYTES
            lost = min(playing.paced_bytes, max(0, unheard - padding))
            unheard -= min(unheard, lost + padding)
            playing.paced_bytes -= lost
            playing.ear_ns = min(playing.ear_ns, now_ns)
        self._ear_ns = min(self._ear_ns, now_ns)
        # How late the frames were that it threw away matters only to what comes behind them.
        self._spurt_seq = self._seq
        self._marks.insert(0, CLEAR)

    def _begin_run(self) -> None:
        """Give out the next frames of the head, if it may go on undisturbed: never its last, which ends it.

        Each entry is made when it is taken: made ahead, 1,000 lines' would all be out of the caches by then.
        """
        head = self._queue[0]
        n = min((head.size - 1) // FRAME_BYTES, _RUN_FRAMES)
        if n > 0:
            frames = chain.from_iterable(_FRAME.iter_unpack(head.front(n * FRAME_BYTES)))
            self._numbers = iter(range(self._seq, self._seq + n))
            self._run_frames = n
            self.run = zip(repeat(self._call), self._numbers, frames, repeat(0))

    def _taken(self) -> int:
        """Frames taken of the run."""
        return self._run_frames - length_hint(self._numbers) if self.run is not None else 0

    def _settle(self) -> None:
        """Enter in the books what was taken of the run, and end it."""
        if self.run is None:
            return
        n = self._taken()
        self.run = None
        if n:
            head = self._queue[0]
            head.drop(n * FRAME_BYTES)
            head.paced_bytes += n * FRAME_BYTES
            self._reservoir_bytes -= n * FRAME_BYTES
            self._ear_ns += n * FRAME_NS
            self._seq += n

    def tick(self, now_ns: int) -> list[Piece]:
        """The frames and marks that are due at `now_ns`, in order."""
        self._settle()
        pieces: list[Piece] = []
        if self._marks:
            pieces = [(self._seq, b"", mark) for mark in self._marks]
            self._marks.clear()
        queue = self._queue
        while queue and not self._paused:
            head = queue[0]
            available = head.size
            if available < FRAME_BYTES and not head.ended:
                self._find_starved(head, now_ns)
                break
            if not available:
                # Its end came after its last frame had left (or it has no audio at all).
                self._complete(head)
                if head.paced_bytes:
                    pieces.append((self._seq, b"", head.number))
                continue
            if now_ns > self._ear_ns:
                if self._starved and available < REBUFFER_BYTES and not head.ended:
                    self._waiting = True
                    break
                self._anchor(now_ns, head)
                fresh = True
            else:
                fresh = False
            overdue_ns = now_ns - self._due_ns()
            if overdue_ns < 0:
                break
            n = overdue_ns // FRAME_NS + 1
            whole = available // FRAME_BYTES
            if whole < n:
                n = whole + 1 if head.ended and available % FRAME_BYTES else whole
            if not head.paced_bytes:
                head.first_seq = self._seq
                self.reports.append(Started(head.number, self._ear_ns))
            elif n > 1 and not (fresh or self._starved or self._resumed):
                self.reports.append(CaughtUp(n - 1))
            self._starved = self._resumed = False
            size = n * FRAME_BYTES
            taken = min(size, available)
            audio = bytes(head.front(taken))
            if taken < size:
                audio += SILENCE * (size - taken)
            head.drop(taken)
            head.paced_bytes += taken
            self._reservoir_bytes -= taken
            seq = self._seq
            self._seq = seq + n
            self._ear_ns += n * FRAME_NS
            if head.ended and taken == available:
                self._complete(head)
                pieces.append((seq, audio, head.number))
            else:
                pieces.append((seq, audio, 0))
        playing = self._playing
        while playing and playing[0].ear_ns <= now_ns:
            heard = self._finished = playing.popleft()
            self.reports.append(Finished(heard.number, heard.ear_ns))
        if queue and not (playing or self._starved or self._paused) and queue[0].paced_bytes:
            self._begin_run()
        return pieces

    def _due_ns(self) -> int:
        """The deadline of the next frame, on the grid. Paced then, the ear holds the lead and less than a tick more."""
        return self._ear_ns - self._ear_ns % self._grid_ns + FRAME_NS - self._lead_ns

    def _find_starved(self, head: _Utterance, now_ns: int) -> None:
        if head.paced_bytes and now_ns < self._due_ns():
            return
        self._waiting = True
        if head.paced_bytes and not self._starved:
            self._starved = True
            self.reports.append(Starved(head.number))

    def _complete(self, head: _Utterance) -> None:
        self._queue.popleft()
        self._closed_through = max(self._closed_through, head.number)
        self._starved = False
        if head.paced_bytes:
            self._playing.append(_Playing(head.number, head.paced_bytes, head.first_seq, self._ear_ns))

    def _anchor(self, now_ns: int, head: _Utterance) -> None:
        """The ear is silent: begin (again) at now. In mid-utterance that was a gap, unless it was meant."""
        self._gap_seq = -1
        if head.paced_bytes and self._ear_ns:
            self._gap_seq = self._seq
            self._gap_is_audible = not self._resumed
            self.reports.append(Shifted(head.number, now_ns - self._ear_ns, self._gap_is_audible))
        elif head.paced_bytes:
            self.reports.append(Started(head.number, now_ns - head.paced_bytes * BYTE_NS))
        self._ear_ns = now_ns
        self._spurt_seq = self._seq

    def wire_late(self, seq: int, wire_ns: int) -> None:
        """Frame `seq` really left at `wire_ns`. Where the ear had run dry by then, the rest is later by as much."""
        self._settle()
        # A socket is a queue: what was paced since the ear was silent left no earlier than what was paced before.
        seq = max(seq, self._spurt_seq)
        if seq >= self._seq:
            return
        before_ns = self._ear_ns - (self._seq - seq) * FRAME_NS
        gap_ns = wire_ns - before_ns
        if gap_ns <= 0:
            return
        self._ear_ns += gap_ns
        late: list[_Playing | _Utterance] = []
        for playing in self._playing:
            if playing.ear_ns > before_ns:
                playing.ear_ns += gap_ns
                late.append(playing)
        if self._queue and self._queue[0].paced_bytes:
            late.append(self._queue[0])
        if not late and self._finished is not None:
            late.append(self._finished)
        if not late:
            return
        first, *others = late
        continued = seq == self._gap_seq
        if not continued:
            self._gap_seq = seq
            self._gap_is_audible = seq != first.first_seq
        self.reports.append(Shifted(first.number, gap_ns, self._gap_is_audible, continued))
        self.reports += [Shifted(other.number, gap_ns, audible=False) for other in others]

    def next_due_ns(self) -> int | None:
        """When `tick` next has something to do; None: not before more speech comes. May lie in the past."""
        if self._marks:
            return 0
        due_ns: int | None = None
        if self._queue and not (self._waiting or self._paused):
            due_ns = self._due_ns() + self._taken() * FRAME_NS
        if self._playing and (due_ns is None or self._playing[0].ear_ns < due_ns):
            due_ns = self._playing[0].ear_ns
        return due_ns

    def unheard(self) -> list[tuple[int, int, int, bool, int]]:
        """`(utterance, bytes, paced bytes, ended, ear_ns)` of each that the ear has not finished: see LineState."""
        self._settle()
        found = [
            (p.number, p.paced_bytes, p.paced_bytes, True, p.ear_ns - p.paced_bytes * BYTE_NS) for p in self._playing
        ]
        for u in self._queue:
            size = u.paced_bytes + u.size
            began_ns = self._ear_ns - u.paced_bytes * BYTE_NS if u.paced_bytes and self._ear_ns else 0
            found.append((u.number, size, u.paced_bytes, u.ended, began_ns))
        return found

    def unpaced(self) -> list[bytes]:
        """The speech of each utterance of `unheard` that is not paced yet."""
        self._settle()
        return [b""] * len(self._playing) + [b"".join(u.chunks)[u.at :] for u in self._queue]

    def reservoir(self) -> Sequence[tuple[int, int]]:
        """`(utterance, bytes)` not yet paced, in order."""
        self._settle()
        return [(u.number, u.size) for u in self._queue]
