"""All lines of a cell on one grid of ticks: which frames go to which gateway, and when.

A wheel of buckets, one per tick, holds each line at most once, at its next deadline; a tick looks only at the lines of
the buckets that have come up. Calls spread over the ticks by the phase of their first frame.

Flow control. A gateway acknowledges each batch when it has written it. While one has been unacknowledged for longer
than the lead, nothing more is paced for that gateway: the speech stays in the lines, where a barge-in can withdraw it,
and when the gateway is back, its acknowledgements tell first what left late, so that lead and ear are true again before
the next frame is paced. A held line loses nothing.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.audio import FRAME_BYTES, FRAME_NS
from shared.messages import (
    Frames,
    LineState,
    Message,
    PlayoutFinished,
    PlayoutShifted,
    PlayoutStarted,
    Withdrawn,
)

from .line import CaughtUp, Finished, Line, Report, Shifted, Started, Starved
from .metrics import PacerMetrics

# The slot of lines that are due at once, before any bucket; of those in none; and of those that wait for their gateway.
_IMMEDIATE = 0
_NONE = -1
_HELD = -2
# The period of ticks. 20 ms must be a multiple of it. 10 ms measured cheaper than 5, and 5 than 2; none worse at the
# ear.
GRID_NS = 10_000_000
_FRAME_SLOTS = FRAME_NS // GRID_NS
# A gateway that has not acknowledged a batch for so long, and says hello, may never have got it.
LOST_NS = 2_000_000_000
# A gateway says hello ten times a second. Silent for so long and without calls, it is gone.
GONE_NS = 10_000_000_000


@dataclass
class _Outlet:
    """One gateway: what is under way to it, and the lines that wait for it."""

    name: str
    next_batch: int = 1
    # (batch, when it was sent) of what is not acknowledged.
    unacked: deque[tuple[int, int]] = field(default_factory=deque)
    # When it last said something; and the batch that its last hello found unacknowledged for LOST_NS (0: none).
    heard_ns: int = 0
    missed: int = 0
    # Lines that were due while the gateway was stalled.
    held: list[_Entry] = field(default_factory=list)
    # A batch that the socket refused; it goes first when there is room again.
    refused: Frames | None = None


class _Entry:
    """A line and where it belongs."""

    __slots__ = ("bridge", "call", "ear_gap_ns", "handover", "held_ns", "line", "outlet", "slot")

    def __init__(self, call: int, line: Line, outlet: _Outlet, bridge: str) -> None:
        self.call = call
        self.line = line
        self.outlet = outlet
        self.bridge = bridge
        # How often the call had changed hands when `bridge` got it.
        self.handover = 0
        # The bucket it is registered in, or _NONE, or _HELD; other registrations of it are stale.
        self.slot = _NONE
        # In _HELD: its deadline, which passed.
        self.held_ns = 0
        # Gaps at the ear so far.
        self.ear_gap_ns = 0


@dataclass
class _Due:
    """What goes to one gateway at one tick; `deadline_ns` is the earliest of theirs."""

    deadline_ns: int
    entries: list[tuple[int, int, bytes, int]] = field(default_factory=list)


class Pacer:
    """Lines, ticks and acknowledgements; no clock, no socket. Times are ns of one monotonic clock.

    `lead_ns` must be a multiple of GRID_NS.
    """

    def __init__(self, *, lead_ns: int, metrics: PacerMetrics) -> None:
        self._lead_ns = lead_ns
        self._patience_ns = Line(lead_ns=lead_ns, grid_ns=GRID_NS).patience_ns
        self._metrics = metrics
        self._entries: dict[int, _Entry] = {}
        self._outlets: dict[str, _Outlet] = {}
        # Bucket number (time // GRID_NS) -> lines, and the numbers as a heap.
        self._wheel: dict[int, list[_Entry]] = {}
        self._slots: list[int] = []
        # Lines that became due between two ticks (speech arrived in silence), and since when.
        self._immediate: list[_Entry] = []
        self._immediate_ns = 0
        # Speech that is not paced yet, of all lines.
        self.reservoir_bytes = 0
        # Gaps that may still turn out to be longer, ns, and as they were at the last `measure`.
        self._gaps: dict[_Entry, int] = {}
        self._gaps_before: dict[_Entry, int] = {}
        # Reports by aibridge name, until they are taken.
        self._reports: dict[str, list[Message]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    # --- what aibridge asks ---

    def open(self, call: int, gateway: str, bridge: str, *, handover: int = 0, ask: int = 0) -> None:
        """A call started, or is in the hands of another worker: frames and word go to those named last.

        Opening it again does no harm, and is answered again.
        """
        entry = self._entries.get(call)
        if entry is None:
            entry = self._new(call, gateway, bridge)
        elif handover < entry.handover:
            self._metrics.foreign.inc()
            return
        else:
            entry.outlet, entry.bridge = self._outlet(gateway), bridge
        entry.handover = handover
        line = entry.line
        speech = tuple(line.unpaced()) if handover else ()
        self._report(entry, LineState(call, tuple(line.unheard()), ask, speech))

    def _new(self, call: int, gateway: str, bridge: str) -> _Entry:
        line = Line(lead_ns=self._lead_ns, grid_ns=GRID_NS, call=call)
        entry = self._entries[call] = _Entry(call, line, self._outlet(gateway), bridge)
        return entry

    def belongs_to(self, call: int, bridge: str) -> bool:
        """Whether `bridge` has the word in this call: the one that opened its line last, or anyone if there is none."""
        entry = self._entries.get(call)
        return entry is None or entry.bridge == bridge

    def restore(
        self,
        call: int,
        gateway: str,
        bridge: str,
        *,
        seq: int,
        utterance: int,
        paced_bytes: int,
        ear_ns: int,
        handover: int = 0,
        ask: int = 0,
    ) -> None:
        """A call whose line, or media socket, is gone: its line begins anew where the ear stopped.

        Unless the line is here already: this was said twice, or it was opened before its loss was known. That of a
        worker that had the call before, and only slept, knows nothing of where the ear is.
        """
        entry = self._entries.get(call)
        if entry is None or handover > entry.handover:
            self.close(call)
            line = self._new(call, gateway, bridge).line
            line.restore(seq=seq, utterance=utterance, paced_bytes=paced_bytes, ear_ns=ear_ns)
            self._metrics.restored.inc()
        self.open(call, gateway, bridge, handover=handover, ask=ask)

    def speech(self, call: int, utterance: int, data: bytes, now_ns: int) -> None:
        entry = self._entries.get(call)
        if entry is None:
            self._metrics.refused_bytes.inc(len(data))
            return
        refused = entry.line.push(utterance, data)
        if refused:
            self._metrics.refused_bytes.inc(refused)
        self.reservoir_bytes += len(data) - refused
        if entry.line.run is None:  # else its next deadline is what it was
            self._schedule(entry, now_ns)

    def end(self, call: int, utterance: int, now_ns: int) -> None:
        entry = self._entries.get(call)
        if entry is not None:
            entry.line.end(utterance)
            self._schedule(entry, now_ns)

    def withdraw(self, call: int, through: int, clear: bool, now_ns: int) -> None:
        entry = self._entries.get(call)
        if entry is not None:
            self.reservoir_bytes -= entry.line.reservoir_bytes
            cut = entry.line.withdraw(through, now_ns, clear=clear)
            self.reservoir_bytes += entry.line.reservoir_bytes
            self._report(entry, Withdrawn(call, through, cut.heard_bytes, cut.silent_ns))
            self._metrics.withdrawn.inc()
            self._schedule(entry, now_ns)

    def pause(self, call: int) -> None:
        entry = self._entries.get(call)
        if entry is not None:
            entry.line.pause()

    def resume(self, call: int, now_ns: int) -> None:
        entry = self._entries.get(call)
        if entry is not None:
            entry.line.resume()
            self._schedule(entry, now_ns)

    def close(self, call: int) -> None:
        """The call is over: its speech goes with it. Closing it again is harmless."""
        entry = self._entries.pop(call, None)
        if entry is not None:
            self.reservoir_bytes -= entry.line.reservoir_bytes
            self._end_gap(entry)
            self._metrics.call_ear_gap.observe(entry.ear_gap_ns / 1e9)
            entry.slot = _NONE

    # --- what the gateway says ---

    def hello(self, gateway: str, now_ns: int) -> None:
        """A gateway is there. What two of these found unacknowledged for LOST_NS it never got: its connection is new.

        One does not tell: a gateway that stood still says hello first, and then reads what waits for it.
        """
        outlet = self._outlet(gateway)
        outlet.heard_ns = now_ns
        batch, sent_ns = outlet.unacked[0] if outlet.unacked else (0, now_ns)
        if now_ns - sent_ns <= LOST_NS:
            outlet.missed = 0
        elif outlet.missed != batch:
            outlet.missed = batch
        else:
            self._metrics.lost_batches.inc(len(outlet.unacked))
            outlet.unacked.clear()
            self._release(outlet, now_ns)

    def acknowledge(self, gateway: str, batch: int, wire_ns: int, late: Sequence[tuple[int, int]], now_ns: int) -> None:
        outlet = self._outlets.get(gateway)
        if outlet is None:
            return
        outlet.heard_ns = now_ns
        while outlet.unacked and outlet.unacked[0][0] <= batch:
            outlet.unacked.popleft()
        for call, seq in late:
            entry = self._entries.get(call)
            if entry is not None:
                entry.line.wire_late(seq, wire_ns)
                self._collect(entry)
                self._schedule(entry, now_ns)
        self._release(outlet, now_ns)

    def refused(self, gateway: str, frames: Frames) -> None:
        """The socket would not take `frames`: keep them for `retry`, and pace nothing for that gateway meanwhile."""
        self._outlets[gateway].refused = frames

    def retry(self) -> list[tuple[str, Frames]]:
        """Batches that were refused. Each is given out once; refuse it again if the socket does."""
        found = []
        for outlet in self._outlets.values():
            if outlet.refused is not None:
                found.append((outlet.name, outlet.refused))
                outlet.refused = None
        return found

    # --- time ---

    def next_due_ns(self) -> int | None:
        """When `tick` next has something to do; None: nothing is scheduled. May lie in the past."""
        if self._immediate:
            return self._immediate_ns
        while self._slots:
            slot = self._slots[0]
            if any(entry.slot == slot for entry in self._wheel[slot]):
                return slot * GRID_NS
            del self._wheel[heapq.heappop(self._slots)]
        return None

    def tick(self, now_ns: int) -> list[tuple[str, Frames]]:
        """Batches to send now, one per gateway that has something due."""
        due: dict[str, _Due] = {}
        if self._immediate:
            entries, self._immediate = self._immediate, []
            self._run(entries, _IMMEDIATE, self._immediate_ns, now_ns, due)
        current = now_ns // GRID_NS
        while self._slots and self._slots[0] <= current:
            slot = heapq.heappop(self._slots)
            self._run(self._wheel.pop(slot), slot, slot * GRID_NS, now_ns, due)
        return [(name, self._batch(name, batch, now_ns)) for name, batch in due.items() if batch.entries]

    def _run(self, entries: list[_Entry], slot: int, deadline_ns: int, now_ns: int, due: dict[str, _Due]) -> None:
        """Tick the lines of one bucket."""
        frames = speech_bytes = 0
        # Lines in the midst of an utterance are due again 20 ms later; they move on together.
        following = slot + _FRAME_SLOTS
        moved: list[_Entry] = []
        outlet: _Outlet | None = None
        is_open = False
        out: list[tuple[int, int, bytes, int]] = []
        # Whether lines are here at their deadlines: see Line.
        may_run = slot != _IMMEDIATE and now_ns - deadline_ns < self._patience_ns
        for entry in entries:
            if entry.slot != slot:
                continue
            if entry.outlet is not outlet:
                outlet = entry.outlet
                is_open = self._is_open(outlet, now_ns)
                batch = due.get(outlet.name)
                if batch is None:
                    batch = due[outlet.name] = _Due(deadline_ns)
                elif deadline_ns < batch.deadline_ns:
                    batch.deadline_ns = deadline_ns
                out = batch.entries
            if not is_open:
                entry.slot = _HELD
                entry.held_ns = deadline_ns
                outlet.held.append(entry)
                self._metrics.held.inc()
                continue
            line = entry.line
            if may_run and line.run is not None and (taken := next(line.run, None)) is not None:
                out.append(taken)
                entry.slot = following
                moved.append(entry)
                continue
            entry.slot = _NONE
            speech_bytes += line.reservoir_bytes
            for seq, audio, mark in line.tick(now_ns):
                out.append((entry.call, seq, audio, mark))
                frames += len(audio) // FRAME_BYTES
            speech_bytes -= line.reservoir_bytes
            if line.reports:
                self._collect(entry)
            self._schedule(entry, now_ns)
        if moved:
            self._put(following, moved)
            frames += len(moved)
            speech_bytes += len(moved) * FRAME_BYTES
        if frames:
            self.reservoir_bytes -= speech_bytes
            self._metrics.frames.inc(frames)
            self._metrics.lateness.observe((now_ns - deadline_ns) / 1e9, frames)

    def take_reports(self) -> list[tuple[str, list[Message]]]:
        """What the aibridges shall know, by name; given out once."""
        if not self._reports:
            return []
        taken = list(self._reports.items())
        self._reports = {}
        return taken

    def measure(self, now_ns: int) -> None:
        """Bring the gauges up to date and forget gateways that are gone; for once a second."""
        metrics = self._metrics
        metrics.lines.set(len(self._entries))
        metrics.reservoir_bytes.set(self.reservoir_bytes)
        for entry, gap_ns in self._gaps_before.items():
            if self._gaps.get(entry) == gap_ns:
                self._end_gap(entry)
        self._gaps_before = self._gaps.copy()
        outlets = self._outlets.values()
        for outlet in outlets:
            if outlet.held:
                outlet.held = [entry for entry in outlet.held if entry.slot == _HELD]
        silent = [outlet for outlet in outlets if now_ns - outlet.heard_ns > GONE_NS]
        if silent:
            in_use = {entry.outlet.name for entry in self._entries.values()}
            for outlet in silent:
                if outlet.name not in in_use:
                    metrics.lost_batches.inc(len(outlet.unacked))
                    del self._outlets[outlet.name]
        metrics.held_lines.set(sum(len(outlet.held) for outlet in outlets))
        metrics.unacknowledged.set(sum(len(outlet.unacked) for outlet in outlets))

    # --- inside ---

    def _outlet(self, gateway: str) -> _Outlet:
        outlet = self._outlets.get(gateway)
        if outlet is None:
            outlet = self._outlets[gateway] = _Outlet(gateway)
        return outlet

    def _batch(self, gateway: str, due: _Due, now_ns: int) -> Frames:
        outlet = self._outlets[gateway]
        number = outlet.next_batch
        outlet.next_batch += 1
        outlet.unacked.append((number, now_ns))
        return Frames(number, due.deadline_ns, tuple(due.entries))

    def _is_open(self, outlet: _Outlet, now_ns: int) -> bool:
        """False while a gateway has not acknowledged for longer than the lead."""
        return outlet.refused is None and not (outlet.unacked and now_ns - outlet.unacked[0][1] > self._lead_ns)

    def _release(self, outlet: _Outlet, now_ns: int) -> None:
        if outlet.held and self._is_open(outlet, now_ns):
            held, outlet.held = outlet.held, []
            for entry in held:
                if entry.slot != _HELD:
                    continue
                entry.slot = _NONE
                due_ns = entry.line.next_due_ns()
                if due_ns is not None and due_ns <= now_ns:
                    # As late as it is, whoever held it up.
                    entry.slot = max(due_ns, entry.held_ns) // GRID_NS
                    self._put(entry.slot, [entry])
                else:
                    self._schedule(entry, now_ns)

    def _schedule(self, entry: _Entry, now_ns: int) -> None:
        """Register a line in the bucket of its next deadline, unless it is in that one, an earlier one, or held."""
        if entry.slot == _HELD:
            return
        due_ns = entry.line.next_due_ns()
        if due_ns is None:
            return
        if due_ns <= now_ns:
            # In a bucket that has come up, too: it is late since then, and not only since now.
            if 0 <= entry.slot <= now_ns // GRID_NS:
                return
            entry.slot = _IMMEDIATE
            if not self._immediate:
                self._immediate_ns = now_ns
            self._immediate.append(entry)
            return
        # Rounded up: deadlines are on the grid, and what is not (the end of an utterance) may be a tick late.
        slot = -(-due_ns // GRID_NS)
        if 0 <= entry.slot <= slot:
            return
        entry.slot = slot
        self._put(slot, [entry])

    def _put(self, slot: int, entries: list[_Entry]) -> None:
        bucket = self._wheel.get(slot)
        if bucket is None:
            self._wheel[slot] = entries
            heapq.heappush(self._slots, slot)
        else:
            bucket += entries

    def _collect(self, entry: _Entry) -> None:
        call = entry.call
        for report in entry.line.reports:
            self._count(entry, report)
            if isinstance(report, Started):
                self._report(entry, PlayoutStarted(call, report.utterance, report.ear_ns))
            elif isinstance(report, Shifted):
                self._report(
                    entry, PlayoutShifted(call, report.utterance, report.gap_ns, report.audible, report.continued)
                )
            elif isinstance(report, Finished):
                self._report(entry, PlayoutFinished(call, report.utterance, report.ear_ns))
        entry.line.reports.clear()

    def _count(self, entry: _Entry, report: Report) -> None:
        metrics = self._metrics
        if isinstance(report, Shifted) and report.audible:
            entry.ear_gap_ns += report.gap_ns
            if not report.continued:
                self._end_gap(entry)
                metrics.reanchored.inc()
            self._gaps[entry] = self._gaps.get(entry, 0) + report.gap_ns
        elif isinstance(report, Starved):
            metrics.starved.inc()
        elif isinstance(report, CaughtUp):
            metrics.caught_up.inc()

    def _end_gap(self, entry: _Entry) -> None:
        gap_ns = self._gaps.pop(entry, 0)
        if gap_ns:
            self._metrics.ear_gap.observe(gap_ns / 1e9)

    def _report(self, entry: _Entry, message: Message) -> None:
        self._reports.setdefault(entry.bridge, []).append(message)


assert FRAME_NS % GRID_NS == 0
