"""A pacer, a gateway, media sockets and ears in virtual time: nothing here waits, and hours pass in seconds."""

from __future__ import annotations

from collections import deque

from shared.audio import FRAME_BYTES
from shared.messages import CLEAR, Frames, Message, PlayoutFinished, WireAck, Withdrawn
from shared.metrics import Page
from simulator.carrier.ear import Ear, EarRecord
from txpacer.core.metrics import DEFINITIONS, PacerMetrics
from txpacer.core.outlet import GRID_NS
from txpacer.core.pacer import Pacer

MS = 1_000_000
LEAD_MS = 120
T0 = 1_000_000 * MS
# From one process to the other.
HOP_NS = 1 * MS
# As the gateway has it: what left later than this is reported; one acknowledgement for so long; and how often it looks
# at a socket that takes nothing.
LATE_NS = 20 * MS
ACK_NS = 20 * MS
LOOK_NS = 10 * MS
NEVER_NS = 1 << 62


class Cell:
    """One pacer and one gateway, whose clock only `run` moves. Calls are opened with `open`.

    `gateway_stops_ns`: until when the gateway does nothing; `pacer_stops_ns`: until when the pacer does not run;
    `socket_stops_ns`: until when the socket of a call takes nothing.
    """

    def __init__(self, lead_ms: int = LEAD_MS) -> None:
        self.metrics = PacerMetrics(Page.in_memory(DEFINITIONS))
        self.pacer = Pacer(lead_ns=lead_ms * MS, metrics=self.metrics)
        self.now_ns = T0
        self.gateway_stops_ns = 0
        self.pacer_stops_ns = 0
        self.socket_stops_ns: dict[int, int] = {}
        # How long gateway and sockets took nothing, all in all.
        self.stopped_ns = 0
        self.ears: dict[int, Ear] = {}
        # What each call's frames held, in the order in which they were written.
        self.wire: dict[int, bytearray] = {}
        self.write_ns: dict[int, list[int]] = {}
        self.next_seq: dict[int, int] = {}
        # Numbers that a pause may have left out.
        self.pauses: dict[int, int] = {}
        self.marks: dict[int, list[int]] = {}
        self.reports: list[Message] = []
        # When the pacer said that the ear was done with (call, utterance).
        self.finished_ns: dict[tuple[int, int], int] = {}
        # Under way to the gateway, and to the pacer, with their times of arrival.
        self.inbox: deque[tuple[int, Frames]] = deque()
        self.acks: deque[tuple[int, WireAck]] = deque()
        self.frames = 0
        # The last batch that was written, and when that is said.
        self._written = 0
        self._ack_due_ns = NEVER_NS
        # What the sockets have not taken: frames, and b"" for a clear.
        self.unsent: dict[int, deque[bytes]] = {}
        self._look_due_ns = NEVER_NS
        # When each of them has something to do.
        self._pacer_ns = self._gateway_ns = NEVER_NS

    def open(self, call: int) -> None:
        self.pacer.open(call, "gateway", "bridge", self.now_ns)
        self.ears[call] = Ear()
        self.wire[call] = bytearray()
        self.write_ns[call] = []
        self.next_seq[call] = 0
        self.pauses[call] = 0
        self.marks[call] = []
        self.unsent[call] = deque()

    def say(self, call: int, utterance: int, audio: bytes, *, end: bool = True) -> None:
        self.pacer.speech(call, utterance, audio, self.now_ns)
        if end:
            self.pacer.end(call, utterance, self.now_ns)

    def withdraw(self, call: int, through: int, *, clear: bool = False) -> Withdrawn:
        self.pacer.withdraw(call, through, clear, self.now_ns)
        self._take_reports()
        return next(r for r in reversed(self.reports) if isinstance(r, Withdrawn))

    def pause(self, call: int) -> None:
        self.pacer.pause(call)

    def resume(self, call: int) -> None:
        self.pauses[call] += 1
        self.pacer.resume(call, self.now_ns)

    def stop_gateway(self, ms: int) -> None:
        self.gateway_stops_ns = max(self.gateway_stops_ns, self.now_ns + ms * MS)
        self.stopped_ns += ms * MS

    def stop_pacer(self, ms: int) -> None:
        self.pacer_stops_ns = max(self.pacer_stops_ns, self.now_ns + ms * MS)

    def stop_socket(self, call: int, ms: int) -> None:
        self.socket_stops_ns[call] = max(self.socket_stops_ns.get(call, 0), self.now_ns + ms * MS)
        self.stopped_ns += ms * MS

    def run(self, ms: int | None = None) -> None:
        """Let `ms` pass; None: until nothing is due any more."""
        until_ns = None if ms is None else self.now_ns + ms * MS
        while (at_ns := self._next_ns()) is not None and (until_ns is None or at_ns <= until_ns):
            self.now_ns = at_ns
            for call in self.socket_stops_ns:
                if self.unsent[call] and at_ns >= self.socket_stops_ns[call]:
                    self._leave(call)
            if at_ns >= self._gateway_ns:
                self._run_gateway()
            if at_ns >= self._pacer_ns:
                self._run_pacer()
        if until_ns is not None:
            self.now_ns = until_ns

    def _next_ns(self) -> int | None:
        pacer_ns = min(self.pacer.next_due_ns() or NEVER_NS, self.acks[0][0] if self.acks else NEVER_NS)
        gateway_ns = min(self._ack_due_ns, self._look_due_ns, self.inbox[0][0] if self.inbox else NEVER_NS)
        self._pacer_ns, self._gateway_ns = max(pacer_ns, self.pacer_stops_ns), max(gateway_ns, self.gateway_stops_ns)
        at_ns = min(self._pacer_ns, self._gateway_ns)
        for call in self.socket_stops_ns:
            if self.unsent[call]:
                at_ns = min(at_ns, self.socket_stops_ns[call])
        return max(at_ns, self.now_ns) if at_ns < NEVER_NS else None

    # --- the pacer's loop ---

    def _run_pacer(self) -> None:
        due_ns = self.pacer.next_due_ns()
        if due_ns is not None and self.now_ns - due_ns > GRID_NS:
            self._hear()
        if due_ns is not None and due_ns <= self.now_ns:
            self.inbox.extend((self.now_ns + HOP_NS, frames) for _, frames in self.pacer.tick(self.now_ns))
        self._hear()
        self._take_reports()

    def _hear(self) -> None:
        while self.acks and self.acks[0][0] <= self.now_ns:
            _, ack = self.acks.popleft()
            self.pacer.acknowledge("gateway", ack.batch, ack.wire_ns, ack.late, self.now_ns)

    def _take_reports(self) -> None:
        for _, reports in self.pacer.take_reports():
            self.reports += reports
            for report in reports:
                if isinstance(report, PlayoutFinished):
                    self.finished_ns[report.call, report.utterance] = report.ear_ns

    # --- the gateway ---

    def _run_gateway(self) -> None:
        """Its timers first, as in its loop; then it writes all that it was sent."""
        if self._look_due_ns <= self.now_ns:
            self._look()
        if self._ack_due_ns <= self.now_ns:
            self._acknowledge(())
        while self.inbox and self.inbox[0][0] <= self.now_ns:
            self._write(self.inbox.popleft()[1])

    def _write(self, batch: Frames) -> None:
        now_ns = self.now_ns
        late = []
        for call, seq, audio, mark in batch.entries:
            left_out = seq - self.next_seq[call]
            assert 0 <= left_out <= self.pauses[call], "a frame was skipped or doubled"
            assert len(audio) % FRAME_BYTES == 0
            self.pauses[call] -= left_out
            self.next_seq[call] = seq
            if self.unsent[call]:
                self._look_soon()
            if audio:
                self.unsent[call] += [audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES)]
                self.wire[call] += audio
                count = len(audio) // FRAME_BYTES
                self.write_ns[call] += [now_ns] * count
                self.next_seq[call] += count
                self.frames += count
                if now_ns - batch.deadline_ns > LATE_NS:
                    late.append((call, seq))
            if mark == CLEAR:
                self.unsent[call].append(b"")
            elif mark:
                self.marks[call].append(mark)
                self._look_soon()
            if now_ns >= self.socket_stops_ns.get(call, 0):
                self._leave(call)
        self._written = batch.batch
        if late:
            self._acknowledge(late)
        elif self._ack_due_ns == NEVER_NS:
            self._ack_due_ns = now_ns + ACK_NS

    def _acknowledge(self, late: list[tuple[int, int]] | tuple[()]) -> None:
        self._ack_due_ns = NEVER_NS
        self.acks.append((self.now_ns + HOP_NS, WireAck(self._written, self.now_ns, tuple(late))))

    def _look_soon(self) -> None:
        if self._look_due_ns == NEVER_NS:
            self._look_due_ns = self.now_ns + LOOK_NS

    def _look(self) -> None:
        self._look_due_ns = NEVER_NS
        stuck = [(call, self.next_seq[call] - sum(map(bool, unsent))) for call, unsent in self.unsent.items() if unsent]
        if stuck:
            self._acknowledge(stuck)
            self._look_soon()

    def _leave(self, call: int) -> None:
        """The socket takes all it was given, and the ear has it."""
        for audio in self.unsent[call]:
            if audio:
                self.ears[call].media(audio, self.now_ns)
            else:
                self.ears[call].clear(self.now_ns)
        self.unsent[call].clear()

    # --- what came of it ---

    def ear(self, call: int) -> EarRecord:
        return self.ears[call].record()

    def gap_ms(self, call: int) -> float:
        """Silence at the ear between the first and the last sample."""
        record = self.ear(call)
        played = sum(record.size_bytes) / 8
        begin, last = record.play_start_ns[0], record.play_start_ns[-1]
        return (last - begin) / MS + record.size_bytes[-1] / 8 - played

    def of(self, kind: type[Message]) -> list[Message]:
        return [report for report in self.reports if isinstance(report, kind)]
