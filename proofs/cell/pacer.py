"""txpacer in virtual time: the real core, with messages and ticks like those of its loop (txpacer/loop.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.messages import (
    BridgeHello,
    CloseLine,
    Frames,
    GatewayHello,
    Message,
    OpenLine,
    PacerState,
    PathSeen,
    PauseLine,
    RestoreLine,
    ResumeLine,
    Speech,
    SpeechEnd,
    WireAck,
    Withdraw,
)
from shared.metrics import Page
from txpacer.core.metrics import DEFINITIONS, PacerMetrics
from txpacer.core.pacer import Pacer

from .clock import Clock, Process


class VirtualPacer(Process):
    """`to_gateway` takes a gateway's name and its frames or state, `to_worker` a worker's name and its reports."""

    # Standing still itself, it must not take for late what was acknowledged in the meantime.
    reads_first = True

    def __init__(
        self,
        clock: Clock,
        lead_ns: int,
        to_gateway: Callable[[str, Frames | PacerState], None],
        to_worker: Callable[[str, Message], None],
        metrics: PacerMetrics | None = None,
    ) -> None:
        super().__init__(clock)
        self.metrics = metrics or PacerMetrics(Page.in_memory(DEFINITIONS))
        self.epoch = 0
        self._lead_ns = lead_ns
        self._to_gateway = to_gateway
        self._to_worker = to_worker
        self._armed_ns: int | None = None
        self.started()

    def started(self) -> None:
        self.core = Pacer(lead_ns=self._lead_ns, metrics=self.metrics)
        self.epoch += 1
        self._armed_ns = None

    def from_gateway(self, gateway: str, message: Message) -> None:
        match message:
            case PathSeen(echoes, pings):
                self.core.path_seen(echoes, pings, self.now_ns)
            case WireAck(batch, wire_ns, late):
                self.core.acknowledge(gateway, batch, wire_ns, late, self.now_ns)
            case GatewayHello():
                self.core.hello(gateway, self.now_ns)
                self._to_gateway(gateway, PacerState(self.epoch, len(self.core)))
            case CloseLine(call):
                self.core.close(call)
        self.arm()

    def from_worker(self, worker: str, message: Any) -> None:
        core, now_ns = self.core, self.now_ns
        if isinstance(message, BridgeHello):
            self._to_worker(worker, PacerState(self.epoch, len(core)))
            return
        if not isinstance(message, OpenLine | RestoreLine) and not core.belongs_to(message.call, worker):
            return  # of a stalled worker that has resumed
        match message:
            case Speech(call, utterance, data):
                core.speech(call, utterance, data, now_ns)
            case SpeechEnd(call, utterance):
                core.end(call, utterance, now_ns)
            case Withdraw(call, through, clear):
                core.withdraw(call, through, clear, now_ns)
            case PauseLine(call):
                core.pause(call)
            case ResumeLine(call):
                core.resume(call, now_ns)
            case CloseLine(call):
                core.close(call)
            case OpenLine(call, gateway, handover, ask, lead_ms):
                core.open(call, gateway, worker, now_ns, handover=handover, ask=ask, lead_ms=lead_ms)
            case RestoreLine(call, gateway, epoch, seq, utterance, paced_bytes, ear_ns, handover, ask, lead_ms):
                if epoch == self.epoch:
                    core.restore(
                        call,
                        gateway,
                        worker,
                        now_ns,
                        seq=seq,
                        utterance=utterance,
                        paced_bytes=paced_bytes,
                        ear_ns=ear_ns,
                        handover=handover,
                        ask=ask,
                        lead_ms=lead_ms,
                    )
        self.take_reports()
        self.arm()

    def _serve(self) -> None:
        """Send the due batches, and the reports."""
        core = self.core
        due_ns = core.next_due_ns()
        while due_ns is not None and due_ns <= self.now_ns:
            for gateway, frames in core.tick(self.now_ns):
                self._to_gateway(gateway, frames)
            due_ns = core.next_due_ns()
        self.take_reports()
        self.arm()

    def take_reports(self) -> None:
        """Send the reports."""
        for worker, reports in self.core.take_reports():
            for report in reports:
                self._to_worker(worker, report)

    def arm(self) -> None:
        """Tick when something is due."""
        due_ns = self.core.next_due_ns()
        if due_ns is not None and (self._armed_ns is None or due_ns < self._armed_ns):
            self._armed_ns = due_ns
            self.at(due_ns, lambda: self._tick(due_ns))

    def _tick(self, due_ns: int) -> None:
        if self._armed_ns == due_ns:
            self._armed_ns = None
            self._serve()
