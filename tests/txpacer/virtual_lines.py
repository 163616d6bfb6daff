"""txpacer alone in virtual time: lines, the wire of one gateway, media sockets and ears. Hours pass in seconds."""

from __future__ import annotations

from collections import deque
from typing import Final

from proofs.cell.clock import MS, START_NS, Clock, Process
from proofs.cell.pacer import VirtualPacer
from proofs.cell.wire import Wire, frames_of
from shared.audio import FRAME_BYTES
from shared.messages import Frames, Message, PacerState, PlayoutFinished, WireAck, Withdrawn
from shared.metrics import Page
from simulator.carrier.ear import Ear, EarRecord
from txpacer.core.metrics import DEFINITIONS, PacerMetrics

LEAD_MS: Final = 120
T0: Final = START_NS
# From one process to the other.
HOP_MS: Final = 1
HOP_NS: Final = HOP_MS * MS


class _Socket:
    """The media socket of one call, and the ear at its other end."""

    def __init__(self, lines: Lines, call: int) -> None:
        self.ear = Ear()
        self.unsent: deque[bytes] = deque()
        self.stops_ns = 0
        self.next_seq = 0
        self._lines = lines
        self._call = call

    @property
    def unsent_frames(self) -> int:
        return sum(map(bool, self.unsent))

    def audio(self, seq: int, audio: bytes, deadline_ns: int) -> None:
        lines, call = self._lines, self._call
        left_out = seq - self.next_seq
        assert 0 <= left_out <= lines.pauses[call], "a frame was skipped or doubled"
        assert len(audio) % FRAME_BYTES == 0
        lines.pauses[call] -= left_out
        frames = frames_of(audio)
        self.next_seq = seq + len(frames)
        lines.next_seq[call] = self.next_seq
        lines.wire[call] += audio
        lines.write_ns[call] += [lines.now_ns] * len(frames)
        lines.frames += len(frames)
        self.unsent += frames
        self._leave()

    def clear(self) -> None:
        self.unsent.append(b"")
        self._leave()

    def progress(self, seq: int) -> None:
        """Nobody echoes marks here."""

    def mark(self, utterance: int, seq: int) -> None:
        self._lines.marks[self._call].append(utterance)

    def stop(self, ms: int) -> None:
        """It takes nothing for this long."""
        self.stops_ns = max(self.stops_ns, self._lines.now_ns + ms * MS)
        self._lines.clock.after(ms, self._leave)

    def _leave(self) -> None:
        """The ear has all that it was given, if the socket takes anything."""
        now_ns = self._lines.now_ns
        if now_ns < self.stops_ns:
            return
        for audio in self.unsent:
            if audio:
                self.ear.media(audio, now_ns)
            else:
                self.ear.clear(now_ns)
        self.unsent.clear()


class Lines:
    """One pacer and one gateway, whose clock only `run` moves. Calls are opened with `open`."""

    def __init__(self, lead_ms: int = LEAD_MS) -> None:
        self.clock = Clock()
        self.metrics = PacerMetrics(Page.in_memory(DEFINITIONS))
        self._gateway = Process(self.clock)
        self._process = VirtualPacer(self.clock, lead_ms * MS, self._to_gateway, self._to_bridge, metrics=self.metrics)
        self._sockets: dict[int, _Socket] = {}
        self._wire = Wire(self._gateway, self._sockets, self._acknowledge)
        self.pacer = self._process.core
        # Batches under way to the gateway, with the time of their arrival.
        self.inbox = self._wire.inbox
        # How long gateway and sockets took nothing, all in all.
        self.stopped_ns = 0
        # What each call's frames held, in the order in which they were written.
        self.wire: dict[int, bytearray] = {}
        self.write_ns: dict[int, list[int]] = {}
        self.next_seq: dict[int, int] = {}
        # Numbers that a pause or a `clear` may have left out.
        self.pauses: dict[int, int] = {}
        self.marks: dict[int, list[int]] = {}
        self.reports: list[Message] = []
        # When the pacer said that the ear was done with (call, utterance).
        self.finished_ns: dict[tuple[int, int], int] = {}
        self.frames = 0

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns

    @property
    def unsent(self) -> dict[int, deque[bytes]]:
        """What the sockets have not taken: frames, and b"" for a clear."""
        return {call: socket.unsent for call, socket in self._sockets.items()}

    @property
    def socket_stops_ns(self) -> dict[int, int]:
        return {call: socket.stops_ns for call, socket in self._sockets.items()}

    def open(self, call: int) -> None:
        self.pacer.open(call, "gateway", "bridge", self.now_ns)
        self._sockets[call] = _Socket(self, call)
        self.wire[call] = bytearray()
        self.write_ns[call] = []
        self.next_seq[call] = 0
        self.pauses[call] = 0
        self.marks[call] = []

    def say(self, call: int, utterance: int, audio: bytes, *, end: bool = True) -> None:
        self.pacer.speech(call, utterance, audio, self.now_ns)
        if end:
            self.pacer.end(call, utterance, self.now_ns)

    def withdraw(self, call: int, through: int, *, clear: bool = False) -> Withdrawn:
        self.pauses[call] += clear
        self.pacer.withdraw(call, through, clear, self.now_ns)
        self._process.take_reports()
        return next(report for report in reversed(self.reports) if isinstance(report, Withdrawn))

    def pause(self, call: int) -> None:
        self.pacer.pause(call)

    def resume(self, call: int) -> None:
        self.pauses[call] += 1
        self.pacer.resume(call, self.now_ns)

    def stop_gateway(self, ms: int) -> None:
        self._gateway.stop(ms)
        self.stopped_ns += ms * MS

    def stop_pacer(self, ms: int) -> None:
        self._process.stop(ms)

    def stop_socket(self, call: int, ms: int) -> None:
        self._sockets[call].stop(ms)
        self.stopped_ns += ms * MS

    def run(self, ms: int | None = None) -> None:
        """Let `ms` pass; None: until nothing is due any more."""
        self._process.arm()
        if ms is not None:
            self.clock.run(self.now_ns + ms * MS)
            return
        while self.clock.next_ns() is not None:
            self.clock.step()

    # --- messages on their way ---

    def _to_gateway(self, _: str, message: Frames | PacerState) -> None:
        if isinstance(message, Frames):
            self._wire.send(message, HOP_MS)

    def _to_bridge(self, _: str, report: Message) -> None:
        self.reports.append(report)
        if isinstance(report, PlayoutFinished):
            self.finished_ns[report.call, report.utterance] = report.ear_ns

    def _acknowledge(self, ack: WireAck) -> None:
        self.clock.after(HOP_MS, lambda: self._process.deliver(lambda: self._process.from_gateway("gateway", ack)))

    # --- what came of it ---

    def ear(self, call: int) -> EarRecord:
        return self._sockets[call].ear.record()

    def gap_ms(self, call: int) -> float:
        """Silence at the ear between the first and the last sample."""
        record = self.ear(call)
        played = sum(record.size_bytes) / 8
        begin, last = record.play_start_ns[0], record.play_start_ns[-1]
        return (last - begin) / MS + record.size_bytes[-1] / 8 - played

    def of(self, kind: type[Message]) -> list[Message]:
        return [report for report in self.reports if isinstance(report, kind)]
