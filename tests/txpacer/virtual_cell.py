"""A pacer, a gateway and ears in virtual time: nothing here waits, and hours pass in seconds."""

from __future__ import annotations

from collections import deque

from shared.audio import FRAME_BYTES
from shared.messages import CLEAR, Frames, Message, PlayoutFinished, Withdrawn
from shared.metrics import Page
from simulator.ear import Ear, EarRecord
from txpacer.core.metrics import DEFINITIONS, PacerMetrics
from txpacer.core.pacer import Pacer

MS = 1_000_000
LEAD_MS = 120
T0 = 1_000_000 * MS
# As the gateway has it: what left later than this is reported.
LATE_NS = 20 * MS


class Cell:
    """One pacer and one gateway, whose clock only `run` moves. Calls are opened with `open`.

    `gateway_stops_ns`: until when the gateway takes nothing; `pacer_stops_ns`: until when the pacer does not run.
    """

    def __init__(self, lead_ms: int = LEAD_MS) -> None:
        self.metrics = PacerMetrics(Page.in_memory(DEFINITIONS))
        self.pacer = Pacer(lead_ns=lead_ms * MS, metrics=self.metrics)
        self.now_ns = T0
        self.gateway_stops_ns = 0
        self.pacer_stops_ns = 0
        # How long the gateway took nothing, all in all.
        self.stopped_ns = 0
        self.ears: dict[int, Ear] = {}
        # What each call's frames held, in the order in which they were written.
        self.wire: dict[int, bytearray] = {}
        self.write_ns: dict[int, list[int]] = {}
        self.next_seq: dict[int, int] = {}
        self.marks: dict[int, list[int]] = {}
        self.reports: list[Message] = []
        # When the pacer said that the ear was done with (call, utterance).
        self.finished_ns: dict[tuple[int, int], int] = {}
        # Sent and not read by the gateway.
        self.inbox: deque[Frames] = deque()
        self.frames = 0

    def open(self, call: int) -> None:
        self.pacer.open(call, "gateway", "bridge")
        self.ears[call] = Ear()
        self.wire[call] = bytearray()
        self.write_ns[call] = []
        self.next_seq[call] = 0
        self.marks[call] = []

    def say(self, call: int, utterance: int, audio: bytes, *, end: bool = True) -> None:
        self.pacer.speech(call, utterance, audio, self.now_ns)
        if end:
            self.pacer.end(call, utterance, self.now_ns)

    def withdraw(self, call: int, through: int) -> Withdrawn:
        self.pacer.withdraw(call, through, False, self.now_ns)
        self._take_reports()
        return next(r for r in reversed(self.reports) if isinstance(r, Withdrawn))

    def stop_gateway(self, ms: int) -> None:
        self.gateway_stops_ns = max(self.gateway_stops_ns, self.now_ns + ms * MS)
        self.stopped_ns += ms * MS

    def stop_pacer(self, ms: int) -> None:
        self.pacer_stops_ns = max(self.pacer_stops_ns, self.now_ns + ms * MS)

    def run(self, ms: int | None = None) -> None:
        """Let `ms` pass; None: until nothing is due any more."""
        until_ns = None if ms is None else self.now_ns + ms * MS
        while True:
            due_ns = self.pacer.next_due_ns()
            at_ns = None if due_ns is None else max(due_ns, self.now_ns, self.pacer_stops_ns)
            if self.inbox:
                read_ns = max(self.gateway_stops_ns, self.now_ns)
                at_ns = read_ns if at_ns is None else min(at_ns, read_ns)
            if at_ns is None or (until_ns is not None and at_ns > until_ns):
                break
            self.now_ns = at_ns
            if self.now_ns >= self.gateway_stops_ns:
                self._read()
            due_ns = self.pacer.next_due_ns()
            if due_ns is not None and due_ns <= self.now_ns and self.now_ns >= self.pacer_stops_ns:
                self.inbox.extend(frames for _, frames in self.pacer.tick(self.now_ns))
                if self.now_ns >= self.gateway_stops_ns:
                    self._read()
            self._take_reports()
        if until_ns is not None:
            self.now_ns = until_ns

    def _read(self) -> None:
        """The gateway writes and acknowledges all that it was sent."""
        now_ns = self.now_ns
        while self.inbox:
            batch = self.inbox.popleft()
            late = []
            for call, seq, audio, mark in batch.entries:
                assert seq == self.next_seq[call], "a frame was skipped or doubled"
                assert len(audio) % FRAME_BYTES == 0
                assert mark != CLEAR
                if audio:
                    self.ears[call].media(audio, now_ns)
                    self.wire[call] += audio
                    count = len(audio) // FRAME_BYTES
                    self.write_ns[call] += [now_ns] * count
                    self.next_seq[call] += count
                    self.frames += count
                    if now_ns - batch.deadline_ns > LATE_NS:
                        late.append((call, seq))
                if mark:
                    self.marks[call].append(mark)
            self.pacer.acknowledge("gateway", batch.batch, now_ns, late, now_ns)

    def _take_reports(self) -> None:
        for _, reports in self.pacer.take_reports():
            self.reports += reports
            for report in reports:
                if isinstance(report, PlayoutFinished):
                    self.finished_ns[report.call, report.utterance] = report.ear_ns

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
