"""One gateway: its lines by the phase of their deadlines, and the batches that it has not acknowledged.

Phases. A frame lasts two ticks of the grid, so a line in mid-utterance is due at every even tick, or at every odd one.
Each phase keeps its lines in one dict, and a tick walks the dicts that have come up. A line that is due once and then
not for a while (the ear finishes an utterance) waits in the phase of that tick, and is passed over until then.

Flow control. The gateway acknowledges every batch after writing it. If a batch stays unacknowledged for longer than the
lead, the outlet holds all lines. Their speech stays in the reservoirs, where a barge-in can still withdraw it. When the
gateway recovers, its acknowledgements report the late frames first, so lead and ear position are correct before pacing
resumes. Holding a line loses no audio.
"""

from __future__ import annotations

from collections import deque

from shared.audio import FRAME_BYTES, FRAME_NS
from shared.messages import Frames

from .line import Entry, Line
from .metrics import PacerMetrics

# The period of ticks; 20 ms must be a multiple of it. 10 ms measured cheaper than 5, and 5 than 2. None was worse at
# the ear.
GRID_NS = 10_000_000
_PHASES = FRAME_NS // GRID_NS
# A gateway that says hello and has not acknowledged a batch for this long may never have got it.
LOST_NS = 2_000_000_000


class _Phase:
    """Lines, and the tick (time // GRID_NS) at which they are walked next."""

    __slots__ = ("lines", "tick")

    def __init__(self) -> None:
        self.tick = 0
        # The values mean nothing.
        self.lines: dict[Line, int] = {}


class Outlet:
    """`place` a line whose deadline may have changed; `tick` gives the batch that is due. Times are ns, monotonic."""

    def __init__(self, name: str, *, lead_ns: int, metrics: PacerMetrics) -> None:
        self.name = name
        # When the gateway last said something.
        self.heard_ns = 0
        # Lines that became due between two ticks, and lines that were held: since when each is due.
        self._overdue: dict[Line, int] = {}
        self._phases = [_Phase() for _ in range(_PHASES)]
        # Lines that were due while the gateway did not acknowledge, and their deadlines.
        self._held: dict[Line, int] = {}
        self._next_batch = 1
        # (batch, when it was sent) of what is not acknowledged.
        self._unacked: deque[tuple[int, int]] = deque()
        # The batch that the last hello found unacknowledged for LOST_NS (0: none).
        self._missed = 0
        # A batch that the socket refused. It goes first when there is room again.
        self.refused: Frames | None = None
        self._lead_ns = lead_ns
        self._metrics = metrics

    @property
    def held_lines(self) -> int:
        return len(self._held)

    @property
    def unacknowledged(self) -> int:
        return len(self._unacked)

    # --- deadlines ---

    def place(self, line: Line, now_ns: int) -> None:
        """Keep `line` until its next deadline, or not at all if it has none. A held line stays held."""
        at = line.place
        if at is self._held:
            return
        due_ns = line.next_due_ns()
        if due_ns is None:
            self.remove(line)
        elif due_ns > now_ns:
            # Rounded up: a frame's deadline is on the grid; the end of an utterance is not, and may be a tick late.
            tick = -(-due_ns // GRID_NS)
            phase = self._phases[tick % _PHASES]
            phase.tick = min(phase.tick, tick) if phase.lines else tick
            self._move(line, phase.lines, due_ns)
        elif at is not self._overdue and not self._is_up(at, now_ns):
            self._move(line, self._overdue, now_ns)

    def remove(self, line: Line) -> None:
        if line.place is not None:
            del line.place[line]
            line.place = None

    def _move(self, line: Line, to: dict[Line, int], since_ns: int) -> None:
        if line.place is not to:
            self.remove(line)
            to[line] = since_ns
            line.place = to

    def _is_up(self, at: dict[Line, int] | None, now_ns: int) -> bool:
        """Whether the lines kept in `at` are walked by a tick at `now_ns`: they are late since that deadline."""
        return any(phase.lines is at and phase.tick * GRID_NS <= now_ns for phase in self._phases)

    def next_due_ns(self) -> int | None:
        """When `tick` next has something to do; None: nothing is kept. May lie in the past."""
        for since_ns in self._overdue.values():
            return since_ns
        first: int | None = None
        for phase in self._phases:
            if phase.lines and (first is None or phase.tick < first):
                first = phase.tick
        return None if first is None else first * GRID_NS

    def tick(self, now_ns: int) -> tuple[Frames | None, list[Line]]:
        """The batch that is due, and the lines that may have something to report."""
        entries: list[Entry] = []
        deadline_ns = now_ns
        current = now_ns // GRID_NS
        is_open = self._is_open(now_ns)
        asked = list(self._overdue.items())
        for phase in self._phases:
            if phase.tick > current or not phase.lines:
                continue
            due_ns = phase.tick * GRID_NS
            if phase.tick == current and is_open:
                # On time, and before any line changes its phase: take the frame of each line that has one ready.
                before = len(entries)
                for line in phase.lines:
                    entry = line.frame()
                    if entry is None:
                        asked.append((line, due_ns))
                    else:
                        entries.append(entry)
                self._count(len(entries) - before, now_ns - due_ns)
                deadline_ns = due_ns
            else:
                asked += [(line, due_ns) for line in phase.lines]
            phase.tick = current + 1 + (phase.tick - current - 1) % _PHASES
        for line, since_ns in asked:
            line_ns = line.next_due_ns()
            if line_ns is not None and line_ns <= now_ns:
                since_ns = max(since_ns, line_ns)
                if not is_open:
                    self._move(line, self._held, since_ns)
                    self._metrics.held.inc()
                    continue
                if found := line.tick(now_ns):
                    entries += found
                    deadline_ns = min(deadline_ns, since_ns)
                    self._count(sum(len(audio) for _, _, audio, _ in found) // FRAME_BYTES, now_ns - since_ns)
                self.remove(line)
            self.place(line, now_ns)
        frames = self._batch(deadline_ns, entries, now_ns) if entries else None
        return frames, [line for line, _ in asked]

    def _count(self, frames: int, late_ns: int) -> None:
        if frames:
            self._metrics.frames.inc(frames)
            self._metrics.lateness.observe(late_ns / 1e9, frames)

    def _batch(self, deadline_ns: int, entries: list[Entry], now_ns: int) -> Frames:
        number = self._next_batch
        self._next_batch += 1
        self._unacked.append((number, now_ns))
        return Frames(number, deadline_ns, tuple(entries))

    # --- what the gateway says ---

    def hello(self, now_ns: int) -> None:
        """The gateway is there. Batches that two hellos find unacknowledged for LOST_NS are lost.

        One hello proves nothing: a gateway that stood still says hello first, and reads what waits for it afterwards.
        """
        self.heard_ns = now_ns
        batch, sent_ns = self._unacked[0] if self._unacked else (0, now_ns)
        if now_ns - sent_ns <= LOST_NS:
            self._missed = 0
        elif self._missed != batch:
            self._missed = batch
        else:
            self.lose_batches()
            self.release(now_ns)

    def acknowledge(self, batch: int, now_ns: int) -> None:
        """The gateway wrote `batch` and those before it. `release` follows, once the late frames are known."""
        self.heard_ns = now_ns
        while self._unacked and self._unacked[0][0] <= batch:
            self._unacked.popleft()

    def release(self, now_ns: int) -> None:
        """Let the held lines continue, if the gateway acknowledges again. They are late since they were held."""
        if self._held and self._is_open(now_ns):
            held, self._held = self._held, {}
            for line, since_ns in held.items():
                line.place = None
                due_ns = line.next_due_ns()
                if due_ns is not None and due_ns <= now_ns:
                    self._move(line, self._overdue, max(due_ns, since_ns))
                else:
                    self.place(line, now_ns)

    def lose_batches(self) -> None:
        """The batches in flight will not be acknowledged."""
        self._metrics.lost_batches.inc(len(self._unacked))
        self._unacked.clear()

    def _is_open(self, now_ns: int) -> bool:
        """False while the gateway has not acknowledged for longer than the lead."""
        return self.refused is None and not (self._unacked and now_ns - self._unacked[0][1] > self._lead_ns)


assert FRAME_NS % GRID_NS == 0
