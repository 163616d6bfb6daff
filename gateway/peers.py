"""The gateway's ZeroMQ links: one to txpacer, one to each aibridge worker, and the hellos that keep them known."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

from shared.bus import CALLER_HWM, FRAMES_HWM, Link, calls_url, dealer, frames_url
from shared.gather import Gather
from shared.isolation import context
from shared.messages import (
    BridgeToGateway,
    CallAdopted,
    CallMemory,
    CallNote,
    CallOver,
    CallTaken,
    EndCall,
    Frames,
    GatewayHello,
    PacerState,
    PacerToGateway,
    RefuseCall,
    WorkerState,
)
from shared.settings import Settings

from .core.cell import Cell
from .metrics import Metrics
from .outbox import Outbox

# A restarted peer is known after so long; until then its calls are silent.
HELLO_S: Final = 0.1


class Peers:
    """Opens every link; needs a running loop.

    txpacer: FRAMES_HWM messages each way; what it cannot send it keeps in the line. aibridge: CALLER_HWM each way, two
    seconds of caller audio; see Outbox for what happens beyond. `io_priority`: SCHED_FIFO for ZeroMQ's thread.
    """

    def __init__(
        self, settings: Settings, name: str, cell: Cell, metrics: Metrics, io_priority: int | None = None
    ) -> None:
        self._name = name
        self._cell = cell
        self._metrics = metrics
        self.context = context(io_priority)
        self._loop = asyncio.get_running_loop()
        self.gather = Gather()
        self._hello_timer: asyncio.TimerHandle | None = None
        self._is_draining = False
        # Set by whoever holds the calls, before `start`.
        self.on_frames: Callable[[Frames], None]
        # Whether a call is here, and another worker's than this one.
        self.is_anothers: Callable[[int, int], bool]
        self.on_end_call: Callable[[EndCall], None]
        self.on_refuse_call: Callable[[RefuseCall], None]
        # A call began at another gateway, or was ended by its worker.
        self.on_taken: Callable[[CallTaken], None]
        self.on_over: Callable[[CallOver], None]
        # Another txpacer answers than before; its epoch.
        self.on_pacer_restarted: Callable[[int], None]
        # Another incarnation of a worker answers than before; and what workers want remembered.
        self.on_worker_restarted: Callable[[int], None]
        self.on_memory: Callable[[int, bytes], None]
        # For whoever follows calls; nobody, unless set.
        self.on_note: Callable[[int, bytes], None] = _nobody

        self.pacer = self._outbox(frames_url(settings.bus), FRAMES_HWM, PacerToGateway, self._from_pacer, "txpacer")
        self.bridges = [
            self._outbox(
                calls_url(settings.bus, worker),
                CALLER_HWM,
                BridgeToGateway,
                functools.partial(self._from_bridge, worker),
                "aibridge",
            )
            for worker in range(settings.aibridge_workers)
        ]

    def start(self) -> None:
        for outbox in (self.pacer, *self.bridges):
            outbox.link.start()
        self._hello()

    def drain(self) -> None:
        """Let the others know that no new call shall come here."""
        self._is_draining = True
        for outbox in self.bridges:
            outbox.hello(self._name, draining=True)

    def close(self) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        for outbox in (self.pacer, *self.bridges):
            outbox.close()
            outbox.link.close()
        self.context.destroy(linger=0)

    def _outbox(self, url: str, hwm: int, types: Any, on_message: Callable[[str, Any], None], peer: str) -> Outbox:
        link = Link(
            dealer(self.context, url, name=self._name, hwm=hwm),
            types=types,
            on_message=on_message,
            dropped=self._metrics.bus_refused[peer],
            undecodable=self._metrics.bus_undecodable[peer],
            gather=self.gather,
        )
        return Outbox(link, dropped_audio=self._metrics.caller_audio_dropped_bytes, lost=self._metrics.bus_lost[peer])

    def _hello(self) -> None:
        now_ns = monotonic_ns()
        self.pacer.hint(GatewayHello(self._name, self._is_draining))
        for outbox in self.bridges:
            outbox.hello(self._name, draining=self._is_draining)
        self._metrics.pacer_up.set(self._cell.pacer_is_there(now_ns))
        self._metrics.bus_waiting["txpacer"].set(self.pacer.waiting)
        self._metrics.bus_waiting["aibridge"].set(sum(outbox.waiting for outbox in self.bridges))
        self._metrics.workers_ready.set(self._cell.ready_workers(now_ns))
        self._hello_timer = self._loop.call_later(HELLO_S, self._hello)

    def _from_pacer(self, _: str, message: Frames | PacerState) -> None:
        if isinstance(message, Frames):
            self.on_frames(message)
        elif self._cell.pacer_answered(message.epoch, monotonic_ns()):
            self._metrics.pacer_restarts.inc()
            self.on_pacer_restarted(message.epoch)

    def _from_bridge(
        self,
        worker: int,
        _: str,
        message: WorkerState | EndCall | RefuseCall | CallNote | CallMemory | CallAdopted | CallTaken | CallOver,
    ) -> None:
        if isinstance(message, EndCall | RefuseCall | CallNote | CallMemory):
            if self.is_anothers(message.call, worker):
                # It slept, and the call went on without it.
                self._metrics.bus_foreign.inc()
            elif isinstance(message, EndCall):
                self.on_end_call(message)
            elif isinstance(message, RefuseCall):
                self.on_refuse_call(message)
            elif isinstance(message, CallNote):
                self.on_note(message.call, message.note)
            else:
                self.on_memory(message.call, message.memory)
        elif isinstance(message, CallAdopted):
            self._cell.adopted(message.call_sid, worker)
        elif isinstance(message, CallTaken):
            self.on_taken(message)
        elif isinstance(message, CallOver):
            self.on_over(message)
        else:
            bridge = self.bridges[worker]
            if self._cell.worker_answered(
                worker,
                ready=message.ready,
                calls=message.calls,
                now_ns=monotonic_ns(),
                epoch=message.epoch,
                other_gateways=message.others,
            ):
                self._metrics.worker_restarts.inc()
                bridge.restarted()
                self.on_worker_restarted(worker)
            bridge.confirm(message.hello)
            bridge.back()


def _nobody(call: int, note: bytes) -> None:
    """Follows no call."""
