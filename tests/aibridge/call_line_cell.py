"""One call of a worker, with the real pacer and an ear that plays all frames; line, socket and worker can be lost."""

from __future__ import annotations

import random
from typing import Any

from aibridge.call import Call
from aibridge.core.conversation import Conversation
from aibridge.core.metrics import ConversationMetrics
from aibridge.core.rules import Rules, Script
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import (
    ModelCommand,
    ModelEvent,
    ResponseBegan,
    ResponseEnded,
    SessionReady,
    Tell,
    Untell,
)
from aibridge.models.port import Speech as ModelSpeech
from aibridge.models.port import SpeechEnded as ModelSpeechEnded
from shared.audio import FRAME_BYTES, SILENCE
from shared.messages import (
    CallMemory,
    CloseLine,
    LineLost,
    LineState,
    OpenLine,
    PauseLine,
    PlayoutShifted,
    RestoreLine,
    ResumeLine,
    Speech,
    SpeechEnd,
    Withdraw,
)
from shared.metrics import Page
from txpacer.core.metrics import DEFINITIONS as PACER_DEFINITIONS
from txpacer.core.metrics import PacerMetrics
from txpacer.core.pacer import Pacer

MS = 1_000_000
T0 = 1_000_000 * MS
# 10 s.
SPEECH = random.Random(3).randbytes(80_000)


class FakeModel:
    """A session that is ready and accepts everything."""

    ready = SessionReady()

    def __init__(self) -> None:
        # The words that it was told and that were not taken back, by number.
        self.told: dict[int, str] = {}

    def tell(self, command: ModelCommand) -> None:
        if isinstance(command, Tell):
            self.told[command.number] = command.text
        elif isinstance(command, Untell):
            del self.told[command.number]

    def hear(self, audio: bytes) -> None:
        pass

    def close(self) -> None:
        pass


class Cell:
    """One call, one pacer at a time, and a gateway that writes all frames. Messages to txpacer wait for `deliver`."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.now_ns = T0
        self.number = 1
        self.epoch = 1
        self.pipe: list[Any] = []
        self.memory = b""
        self.metrics = PacerMetrics(Page.in_memory(PACER_DEFINITIONS))
        self.pacer = Pacer(lead_ns=120 * MS, metrics=self.metrics)
        # Of this media socket: what was written to it, and what the gateway counts.
        self.wire = b""
        self.marks: list[tuple[int, int]] = []
        self.frames = self.seq = 0
        self.model = FakeModel()
        self.call = self.worker()
        self.call.start(self.model)
        self.sent = 0
        # All gaps that the line has reported.
        self.gaps_ns = 0

    def worker(self) -> Call:
        conversation = Conversation(
            script=Script(),
            rules=self.rules,
            metrics=ConversationMetrics(Page.in_memory(DEFINITIONS)),
            rng=random.Random(1),
        )
        return Call(
            call=self.number,
            call_sid="CA1",
            gateway="gateway",
            conversation=conversation,
            to_pacer=self.pipe.append,
            to_gateway=self.from_call,
            dial=lambda _: self.model,
            on_due=lambda _: None,
            clock=lambda: self.now_ns,
        )

    def from_call(self, message: Any) -> None:
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
        messages, self.pipe[:] = list(self.pipe), []
        pacer, now_ns = self.pacer, self.now_ns
        for message in messages:
            match message:
                case OpenLine(call, gateway, handover, ask):
                    pacer.open(call, gateway, "bridge", now_ns, handover=handover, ask=ask)
                case RestoreLine(call, gateway, epoch, seq, utterance, paced_bytes, ear_ns, handover, ask):
                    if epoch == self.epoch:
                        pacer.restore(
                            call,
                            gateway,
                            "bridge",
                            now_ns,
                            seq=seq,
                            utterance=utterance,
                            paced_bytes=paced_bytes,
                            ear_ns=ear_ns,
                            handover=handover,
                            ask=ask,
                        )
                case Speech(call, utterance, data):
                    pacer.speech(call, utterance, data, now_ns)
                case SpeechEnd(call, utterance):
                    pacer.end(call, utterance, now_ns)
                case Withdraw(call, through, clear):
                    pacer.withdraw(call, through, clear, now_ns)
                case PauseLine(call):
                    pacer.pause(call)
                case ResumeLine(call):
                    pacer.resume(call, now_ns)
                case CloseLine(call):
                    pacer.close(call)
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
                    if mark:
                        self.marks.append((mark, self.frames))
                        self.frames = 0
                self.pacer.acknowledge("gateway", batch.batch, self.now_ns, (), self.now_ns)
            self.report()
            self.now_ns += 10 * MS
            self.call.caller_audio(SILENCE * 80, self.now_ns)
            if self.now_ns % (100 * MS) == 0:
                self.call.forget_heard(self.now_ns)

    def pacer_dies(self, *, is_noticed: bool = True) -> None:
        self.pipe.clear()
        self.epoch += 1
        self.pacer = Pacer(lead_ns=120 * MS, metrics=self.metrics)
        if is_noticed:
            self.gateway_notices()

    def gateway_notices(self) -> None:
        self.call.line_lost(LineLost(self.number, self.epoch, tuple(self.marks), self.frames, self.seq, 1))

    def socket_dies(self, *, epoch: int | None = None) -> None:
        """The media socket is lost and replaced. `epoch`: of the txpacer that the worker knows."""
        self.pipe.append(CloseLine(self.number))
        self.number += 1
        self.wire, self.marks, self.frames, self.seq = b"", [], 0, 0
        self.call.move(self.number, "gateway", self.from_call, epoch=epoch or self.epoch)
        self.call.tell_memory()

    def worker_dies(self, *, remembers: bool = True) -> None:
        """The worker dies and another takes over. `remembers`: it left its memory just before."""
        if remembers:
            self.call.tell_memory()
        self.pipe.clear()
        self.call = self.worker()
        self.call.resume(self.model, self.memory, 1)

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
