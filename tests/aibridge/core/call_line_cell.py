"""One call of a worker, with the real pacer and an ear that plays all frames; line, socket and worker can be lost."""

from __future__ import annotations

import random

from aibridge.core.call import Call
from aibridge.core.rules import Rules
from aibridge.models.port import ModelEvent, ResponseBegan, ResponseEnded
from aibridge.models.port import Speech as ModelSpeech
from aibridge.models.port import SpeechEnded as ModelSpeechEnded
from shared.audio import FRAME_BYTES, SILENCE
from shared.messages import CallMemory, CloseLine, LineLost, LineState, Message, PlayoutShifted
from shared.metrics import Page
from txpacer.core.metrics import DEFINITIONS as PACER_DEFINITIONS
from txpacer.core.metrics import PacerMetrics
from txpacer.core.pacer import Pacer

from ..bench import ScriptedEar
from .fake_shell import MS, FakeModel, FakeShell, make_call

# 10 s.
SPEECH = random.Random(3).randbytes(80_000)


class Cell(FakeShell):
    """One call, one pacer at a time, and a gateway that writes all frames. Messages to txpacer wait for `deliver`."""

    def __init__(self, rules: Rules | None = None) -> None:
        super().__init__()
        self.rules = rules or Rules()
        self.number = 1
        self.epoch = 1
        self.memory = b""
        self.metrics = PacerMetrics(Page.in_memory(PACER_DEFINITIONS))
        self.pacer = Pacer(lead_ns=120 * MS, metrics=self.metrics, epoch=self.epoch)
        # Of this media socket: what was written to it, and what the gateway counts.
        self.wire = b""
        self.marks: list[tuple[int, int]] = []
        self.frames = self.seq = 0
        self.model = FakeModel()
        self.near_ear = ScriptedEar()
        self.call = self.worker()
        self.call.start(self.model)
        self.sent = 0
        # All gaps that the line has reported.
        self.gaps_ns = 0

    def worker(self) -> Call:
        call = make_call(self, call=self.number, rules=self.rules)
        call.conversation.near_ear = self.near_ear
        return call

    def to_gateway(self, gateway: str, message: Message) -> None:
        if isinstance(message, CallMemory):
            self.memory = message.memory

    # --- the model ---

    def event(self, event: ModelEvent) -> None:
        self.call.model_event(self.model, event)

    def says(self, n_bytes: int) -> None:
        """The next part of SPEECH."""
        if not self.sent:
            self.event(ResponseBegan(1))
        data = SPEECH[self.sent : self.sent + n_bytes]
        self.sent += len(data)
        self.event(ModelSpeech(1, 1, data))

    def ends(self) -> None:
        self.event(ModelSpeechEnded(1))
        self.event(ResponseEnded(1))

    # --- txpacer and the gateway ---

    def deliver(self) -> None:
        messages, self.said[:] = list(self.said), []
        for message in messages:
            self.pacer.from_bridge("bridge", message, self.now_ns)
        self.report()

    def report(self) -> None:
        for _, reports in self.pacer.take_reports():
            for report in reports:
                if report.call != self.number:
                    continue
                if isinstance(report, LineState):
                    self.call.line_state(report)
                else:
                    if isinstance(report, PlayoutShifted):
                        self.gaps_ns += report.gap_ns
                    self.call.playout(report)

    def run(self, ms: int, *, deliver: bool = True) -> None:
        """Let time pass, in ticks of 10 ms; caller audio comes all the time."""
        for _ in range(ms // 10):
            if deliver:
                self.deliver()
            for _, batch in self.pacer.tick(self.now_ns):
                for call, seq, audio, mark in batch.entries:
                    if call != self.number:
                        continue
                    self.wire += audio
                    self.frames += len(audio) // FRAME_BYTES
                    self.seq = seq + len(audio) // FRAME_BYTES
                    if mark > 0:
                        self.marks.append((mark, self.frames))
                        self.frames = 0
                self.pacer.acknowledge("gw", batch.batch, self.now_ns, (), self.now_ns)
            self.report()
            self.now_ns += 10 * MS
            self.call.caller_audio(SILENCE * 80, self.now_ns)
            if self.call.due_ns is not None and self.call.due_ns <= self.now_ns:
                self.call.advance()
            if self.now_ns % (100 * MS) == 0:
                self.call.forget_heard(self.now_ns)

    def pacer_dies(self, *, is_noticed: bool = True) -> None:
        self.said.clear()
        self.epoch += 1
        self.pacer = Pacer(lead_ns=120 * MS, metrics=self.metrics, epoch=self.epoch)
        if is_noticed:
            self.gateway_notices()

    def gateway_notices(self) -> None:
        self.call.line_lost(LineLost(self.number, self.epoch, tuple(self.marks), self.frames, self.seq, 1))

    def socket_dies(self, *, epoch: int | None = None) -> None:
        """The media socket is lost and replaced. `epoch`: of the txpacer that the worker knows."""
        self.said.append(CloseLine(self.number))
        self.number += 1
        self.wire, self.marks, self.frames, self.seq = b"", [], 0, 0
        self.call.move(self.number, "gw", epoch=epoch or self.epoch)
        self.call.tell_memory()

    def worker_dies(self, *, remembers: bool = True) -> None:
        """The worker dies and another takes over. `remembers`: it left its memory just before."""
        if remembers:
            self.call.tell_memory()
        self.said.clear()
        self.call = self.worker()
        self.call.resume(self.model, self.memory, 1, former="worker")

    @property
    def heard_bytes(self) -> int | None:
        return self.call.conversation.history.turns[0].heard_bytes


def padded(speech: bytes) -> bytes:
    return speech + SILENCE * (-len(speech) % FRAME_BYTES)


def talking(ms: int = 3_000) -> Cell:
    """A call in the middle of ten seconds of speech. The model has made all of it."""
    cell = Cell()
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(ms)
    return cell
