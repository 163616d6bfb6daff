"""txpacer in virtual time: the real core, with messages and ticks like those of its loop (txpacer/loop.py)."""

from __future__ import annotations

from collections.abc import Callable

from shared.messages import Frames, Message, PacerState
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
        self.epoch += 1
        self.core = Pacer(lead_ns=self._lead_ns, metrics=self.metrics, epoch=self.epoch)
        self._armed_ns = None

    def from_gateway(self, gateway: str, message: Message) -> None:
        state = self.core.from_gateway(gateway, message, self.now_ns)
        if state is not None:
            self._to_gateway(gateway, state)
        self.arm()

    def from_worker(self, worker: str, message: Message) -> None:
        state = self.core.from_bridge(worker, message, self.now_ns)
        if state is not None:
            self._to_worker(worker, state)
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
