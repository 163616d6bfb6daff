"""One call's outbound audio as a pure function of time: speech in, frames out at their deadlines (see ear.py)."""

from __future__ import annotations

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS, SILENCE
from shared.messages import CLEAR, PROGRESS

from .clears import Clear, Clears, Settled
from .ear import Ear
from .far_ear import FarEar
from .lead import Lead
from .reports import CaughtUp, Cut, Report, Started, Starved
from .utterance import Utterance

# A line whose ear ran dry inside an utterance starts again with this much: with one frame it would run dry at once.
# 60 ms is about one delta of the model.
REBUFFER_BYTES = 3 * FRAME_BYTES
# Ten minutes of mu-law, as much as Twilio itself buffers (its error 31931). No answer is longer.
RESERVOIR_LIMIT_BYTES = 4_800_000

# A mark follows the first frames after silence, and then every half second: an echo tells within that time how far the
# ear is, and two marks a second cost less than one percent.
MARK_FRAMES = 25

# One entry of a batch: call, number of the first frame, whole frames, mark after them (0 and others: see Frames).
Entry = tuple[int, int, bytes, int]


class Line:
    """`push`, `end` and `withdraw` speech; `tick` and `frame` give the frames that are due. Times are ns, monotonic."""

    __slots__ = (
        "_clears",
        "_closed_through",
        "_ear",
        "_far",
        "_mark_seq",
        "_marks",
        "_pause_ends_ns",
        "_paused",
        "_queue",
        "_resumed",
        "_starved",
        "_waiting",
        "call",
        "lead",
        "place",
        "reports",
        "seq",
        "steady",
    )

    def __init__(self, lead: Lead, *, grid_ns: int, call: int = 0) -> None:
        self.call = call
        # What the lead should be. The line follows it by one step of the grid with each frame.
        self.lead = lead
        # The number of the next frame.
        self.seq = 0
        # What happened since the owner last took them; the owner clears the list.
        self.reports: list[Report] = []
        # The owner's note of where it keeps the line until its deadline: see outlet.py.
        self.place: dict[Line, int] | None = None
        # The utterance that `frame` may take from: it plays, and nothing else is to be done at the next deadline.
        self.steady: Utterance | None = None
        self._ear = Ear(lead_ns=lead.target_ns, grid_ns=grid_ns)
        self._far = FarEar()
        # Withdrawals that wait for Twilio.
        self._clears = Clears()
        # The first frame that a mark must follow.
        self._mark_seq = 0
        # Utterances with speech to pace, in order; the head may be partly paced. A list: an empty deque has 760 bytes.
        self._queue: list[Utterance] = []
        # Marks (and CLEAR) that go out with the next tick, without audio.
        self._marks: list[int] = []
        # A tick found no speech to pace, and none has come since: nothing is due.
        self._waiting = False
        # A deadline passed without a frame inside an utterance.
        self._starved = False
        # `pause` holds the line. `resume` released it, and nothing was paced since: the silence was meant.
        self._paused = False
        self._resumed = False
        # When a pause ends by itself; 0: never.
        self._pause_ends_ns = 0
        # Utterances up to this one take no more speech: they are withdrawn, or paced to their end.
        self._closed_through = 0

    @property
    def reservoir_bytes(self) -> int:
        """Speech that is not paced yet."""
        size = 0
        for utterance in self._queue:
            size += utterance.size
        return size

    @property
    def ear_ns(self) -> int:
        """When the ear has played everything paced so far."""
        return self._ear.end_ns(self.seq)

    def restore(self, *, seq: int, utterance: int, paced_bytes: int, ear_ns: int) -> None:
        """Continue a lost line, whose next frame was `seq`, inside `utterance` (0: none).

        The ear had played its first `paced_bytes`, whole frames, at `ear_ns`; the silence since then is a gap.
        0: no one was told that the utterance began, and the length of the silence is unknown.
        """
        self.seq = seq
        self._ear.restore(seq, ear_ns)
        if utterance:
            self._closed_through = utterance - 1
            first_seq = seq - paced_bytes // FRAME_BYTES
            self._queue.append(Utterance(utterance, paced_bytes=paced_bytes, first_seq=first_seq))
            self._waiting = True

    # --- what aibridge asks ---

    def push(self, utterance: int, data: bytes) -> int:
        """Append speech of any length to `utterance`, which ends the utterances before it.

        Returns how many bytes were refused: all after a withdrawal or an end, some beyond RESERVOIR_LIMIT_BYTES.
        """
        if utterance <= self._closed_through:
            return len(data)
        queue = self._queue
        if not queue or queue[-1].number < utterance:
            for earlier in queue:
                earlier.ended = True
            queue.append(Utterance(utterance))
        target = queue[-1]
        if target.number != utterance or target.ended:
            return len(data)
        refused = max(0, self.reservoir_bytes + len(data) - RESERVOIR_LIMIT_BYTES)
        if refused:
            data = data[:-refused]
        if data:
            target.push(data)
        self._waiting = False
        return refused

    def end(self, utterance: int) -> None:
        """No more speech of `utterance` will come."""
        for candidate in self._queue:
            if candidate.number == utterance:
                candidate.ended = True
                self._waiting = False

    def withdraw(self, through: int, now_ns: int, *, clear: bool = False) -> None:
        """Pace nothing more of any utterance up to `through`, now or later. Paced frames stay. A Cut answers.

        With `clear`, Twilio's buffer is emptied, too. What it still held does not count as heard, and the answer waits
        for Twilio's echo.
        """
        self._closed_through = max(self._closed_through, through)
        while self._queue and self._queue[0].number <= through:
            gone = self._queue.pop(0)
            if gone.paced_bytes:
                self._ear.complete(self.seq, gone)
                self._marks.append(gone.number)
                self._far.mark(self.seq, self.ear_ns)
        self.steady = None
        was_paused = self._paused
        self._starved = self._waiting = self._paused = self._resumed = False
        if clear:
            self._clear(through, now_ns, was_paused=was_paused)
        else:
            self.settle()
            heard = tuple((p.number, p.paced_bytes) for p in self._ear.playing if p.number <= through)
            # The ear of a paused line may have been silent for a while.
            silent_ns = self.ear_ns if was_paused and heard else max(self.ear_ns, now_ns)
            self.reports.append(Cut(through, heard, silent_ns))

    def _clear(self, through: int, now_ns: int, *, was_paused: bool) -> None:
        """Send `clear`, with a mark before it. What the ear holds is kept apart until the echo comes."""
        cut, end_seq, is_waiting = self._ear, self.seq, bool(self._clears)
        if CLEAR not in self._marks:
            self._marks[:0] = (PROGRESS, CLEAR)
            # A number that no frame has makes the name of the mark unique.
            self.seq += 1
        self._ear = Ear(lead_ns=cut.lead_ns, grid_ns=cut.grid_ns)
        self._ear.restore(self.seq, min(cut.end_ns(end_seq), now_ns))
        spurt = self._far.cleared(self.seq, now_ns)
        self._clears.add(
            Clear(cut, spurt, was_paused, end_seq=end_seq, mark_seq=self.seq, through=through, asked_ns=now_ns)
        )
        if self._far.way_ns is None or not (is_waiting or cut.playing):
            self.settle()

    def settle(self) -> None:
        """Answer the withdrawals that wait for Twilio with what is known."""
        if self._clears:
            self._answer(self._clears.all())

    def _answer(self, settled: list[Settled]) -> None:
        self.reports += [cut for cut, _ in settled]
        # They precede all that the ear has begun since.
        for _, heard in reversed(settled):
            self._ear.playing[:0] = heard
        self.steady = None

    def pause(self, until_ns: int = 0) -> None:
        """Pace nothing until `resume` or a withdrawal. The caller hears what was paced; no speech is lost.

        `until_ns`: then the line resumes by itself; 0: it does not.
        """
        self.steady = None
        self._paused = True
        self._pause_ends_ns = until_ns

    def resume(self) -> None:
        """Continue with the next frame; harmless when the line is not paused."""
        if self._paused:
            self._resumed = True
            # Whoever measures gaps between consecutive frames must not measure this silence: leave a number out.
            self.seq += 1
            self._ear.skip_number()
        self._paused = False
        self._waiting = False

    def wire_late(self, seq: int, wire_ns: int) -> None:
        """Frame `seq` left the machine late, at `wire_ns`: correct ear and deadlines."""
        self.steady = None
        if self._clears:
            self._clears.wire_late(seq, wire_ns)
        before_ns = self.ear_ns
        self.reports += self._ear.wire_late(seq, wire_ns, self.seq, self._head())
        self._far.moved(seq, self.ear_ns - before_ns)

    def _head(self) -> Utterance | None:
        return self._queue[0] if self._queue else None

    # --- what the path shows ---

    def echoed(self, seq: int, at_ns: int) -> None:
        """Twilio echoed the mark before frame `seq`: if its ear lags, correct ear and deadlines."""
        if self._clears and (settled := self._clears.echoed(seq, at_ns, self._far)):
            self._answer(settled)
            return
        lag = self._far.echo(seq, at_ns, is_last=seq == self.seq)
        if lag is None:
            return
        self.steady = None
        if lag.audible:
            self.lead.delayed(self._ear.lead_ns + lag.lag_ns, at_ns)
        self.reports += self._ear.far_late(seq, lag.lag_ns, self._head(), audible=lag.audible, continued=lag.continued)
        self._far.moved(seq, lag.lag_ns)

    def pinged(self, round_trip_ns: int, now_ns: int) -> int:
        """A ping among the frames was answered. Returns how much longer than the least of its path that took."""
        if not self._far.has_pinged:
            self.lead.expect_losses(round_trip_ns, now_ns)
        delay_ns = self._far.ping(round_trip_ns, now_ns, self._ear.lead_ns)
        self.lead.round_trip_ns = round_trip_ns - delay_ns
        self.lead.delayed(delay_ns, now_ns)
        if self.lead.target_ns != self._ear.lead_ns:
            self.steady = None  # the next tick moves the lead
        return delay_ns

    @property
    def odd_echoes(self) -> tuple[int, int]:
        """Marks that were never echoed, and echoes of no known mark, so far."""
        return self._far.missing, self._far.strange

    @property
    def lead_ns(self) -> int:
        """How far ahead of real time the line paces now."""
        return self._ear.lead_ns

    # --- time ---

    def frame(self) -> Entry | None:
        """The frame that is due, if the line has nothing else to do than to emit it; None: ask `tick`.

        To be called at the line's deadline, less than 20 ms late. Nearly every frame leaves this way, at a seventh of
        the cost of a `tick`. The last frame of an utterance never does.
        """
        head = self.steady
        if head is None or head.size <= FRAME_BYTES or self.seq >= self._mark_seq:
            return None
        end = head.at + FRAME_BYTES
        if end <= len(head.chunk):
            audio = head.chunk[head.at : end]
            head.at = end
            head.size -= FRAME_BYTES
        else:
            audio = head.take(FRAME_BYTES)
        seq = self.seq
        self.seq = seq + 1
        return (self.call, seq, audio, 0)

    def tick(self, now_ns: int) -> list[Entry]:
        """The frames and marks that are due at `now_ns`, in order."""
        entries: list[Entry] = [(self.call, self.seq, b"", mark) for mark in self._marks]
        self._marks.clear()
        if self._clears:
            self._clears.sent(now_ns)
            self._answer(self._clears.overdue(now_ns))
        self.steady = None
        queue, ear = self._queue, self._ear
        self._follow_lead()
        if self._paused and 0 < self._pause_ends_ns <= now_ns:
            self.resume()
        while queue and not self._paused:
            head = queue[0]
            available = head.size
            if available < FRAME_BYTES and not head.ended:
                self._find_starved(head, now_ns)
                break
            if not available:
                # The end came after the last frame had left, or the utterance has no audio at all.
                self._complete(head)
                if head.paced_bytes:
                    entries.append((self.call, self.seq, b"", head.number))
                    self._far.mark(self.seq, self.ear_ns)
                continue
            is_silent = now_ns > ear.end_ns(self.seq)
            if is_silent:
                if self._starved and available < REBUFFER_BYTES and not head.ended:
                    self._waiting = True
                    break
                self._far.begin(self.seq, now_ns)
                self._mark_seq = self.seq
                report = ear.begin(self.seq, now_ns, head, meant=self._resumed)
                if report is not None:
                    self.reports.append(report)
            overdue_ns = now_ns - ear.due_ns(self.seq)
            if overdue_ns < 0:
                break
            count = overdue_ns // FRAME_NS + 1
            whole = available // FRAME_BYTES
            if whole < count:
                count = whole + 1 if head.ended and available % FRAME_BYTES else whole
            if not head.paced_bytes:
                head.first_seq = self.seq
                self.reports.append(Started(head.number, self.ear_ns, self.ear_ns - now_ns))
            elif count > 1 and not (is_silent or self._starved or self._resumed):
                self.reports.append(CaughtUp(count - 1))
            self._starved = self._resumed = False
            size = count * FRAME_BYTES
            audio = head.take(min(size, available))
            seq = self.seq
            self.seq = seq + count
            if head.ended and not head.size:
                self._complete(head)
                entries.append((self.call, seq, audio + SILENCE * (size - len(audio)), head.number))
                self._far.mark(self.seq, self.ear_ns)
            else:
                self.steady = head
                entries.append((self.call, seq, audio, self._progress()))
        self._far.paced(now_ns, self.ear_ns, ear.lead_ns)
        self.reports += ear.finish(now_ns)
        if ear.playing or self._starved or self._clears or ear.lead_ns != self.lead.target_ns:
            self.steady = None
        return entries

    def _progress(self) -> int:
        """PROGRESS when a mark is due after the frames so far, else 0."""
        if self.seq <= self._mark_seq:
            return 0
        self._mark_seq = self.seq + MARK_FRAMES - 1
        self._far.mark(self.seq, self.ear_ns)
        return PROGRESS

    def _follow_lead(self) -> None:
        """Move the lead by one step: the next frame is paced a tick early, or a tick late."""
        ear, target_ns = self._ear, self.lead.target_ns
        if ear.lead_ns < target_ns:
            ear.lead_ns += self.lead.step_ns
        elif ear.lead_ns > target_ns:
            ear.lead_ns -= self.lead.step_ns

    def _find_starved(self, head: Utterance, now_ns: int) -> None:
        if head.paced_bytes and now_ns < self._ear.due_ns(self.seq):
            return
        self._waiting = True
        if head.paced_bytes and not self._starved:
            self._starved = True
            self.reports.append(Starved(head.number))

    def _complete(self, head: Utterance) -> None:
        self._queue.pop(0)
        self.steady = None
        self._closed_through = max(self._closed_through, head.number)
        self._starved = False
        if head.paced_bytes:
            self._ear.complete(self.seq, head)

    def next_due_ns(self) -> int | None:
        """When `tick` next has something to do; None: not before more speech comes. May lie in the past."""
        if self._marks:
            return 0
        due_ns: int | None = None
        if self._queue and not (self._waiting or self._paused):
            due_ns = self._ear.due_ns(self.seq)
        if self._paused and self._pause_ends_ns:
            due_ns = self._pause_ends_ns
        playing = self._ear.playing
        if playing and (due_ns is None or playing[0].ear_ns < due_ns):
            due_ns = playing[0].ear_ns
        if self._clears and (overdue_ns := self._clears.next_due_ns()) is not None:
            due_ns = overdue_ns if due_ns is None else min(due_ns, overdue_ns)
        return due_ns

    # --- what a successor asks ---

    def unheard(self) -> list[tuple[int, int, int, bool, int]]:
        """`(utterance, bytes, paced bytes, ended, ear_ns)` of each that the ear has not finished: see LineState."""
        found = [(p.number, p.paced_bytes, p.paced_bytes, True, p.began_ns) for p in self._ear.playing]
        for u in self._queue:
            paced_bytes = u.paced_bytes
            began_ns = self.ear_ns - paced_bytes * BYTE_NS if paced_bytes and self.ear_ns else 0
            found.append((u.number, u.pushed_bytes, paced_bytes, u.ended, began_ns))
        return found

    def unpaced(self) -> list[bytes]:
        """The speech of each utterance of `unheard` that is not paced yet."""
        return [b""] * len(self._ear.playing) + [u.unpaced() for u in self._queue]
