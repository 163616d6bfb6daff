"""The gateway's ZeroMQ links: one to txpacer, one to each aibridge worker, and the hellos that keep them known."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from shared.bus import CALLER_HWM, CONTROL_HWM, FRAMES_HWM, calls_url, dealer, draw_epoch, frames_url
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.gather import Gather
from shared.isolation import context
from shared.liveness import HELLO_S
from shared.messages import BridgeToGateway, Frames, GatewayHello, Message, PacerState, PacerToGateway, WorkerState
from shared.settings import Settings

from .core.metrics import Metrics
from .outbox import Outbox


class Links:
    """Opens every link; needs a running loop. `io_priority`: SCHED_FIFO for ZeroMQ's thread.

    txpacer: FRAMES_HWM messages each way; frames that txpacer cannot send stay in their lines. aibridge: CALLER_HWM
    messages each way; beyond that, Outbox keeps them. Each link is a channel, bound CONTROL_HWM sends.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        metrics: Metrics,
        io_priority: int | None,
        *,
        on_pacer: Callable[[Frames | PacerState], None],
        on_worker: Callable[[int, Message], None],
    ) -> None:
        self._name = name
        self._metrics = metrics
        self._on_worker = on_worker
        self.context = context(io_priority)
        self.gather = Gather()
        self._loop = asyncio.get_running_loop()
        self._hello_timer: asyncio.TimerHandle | None = None
        self._is_draining = False
        self.pacer = self._link(
            frames_url(settings.bus), FRAMES_HWM, PacerToGateway, lambda _, message: on_pacer(message), "txpacer"
        )
        self.bridges = [self._outbox(settings, worker) for worker in range(settings.aibridge_workers)]

    def start(self) -> None:
        for link in (self.pacer, *(outbox.link for outbox in self.bridges)):
            link.start()
        self._hello()

    def drain(self) -> None:
        """Tell txpacer and the workers that this gateway takes no new call."""
        self._is_draining = True
        for outbox in self.bridges:
            outbox.hello(self._name, draining=True)

    def close(self) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        for outbox in self.bridges:
            outbox.close()
        for link in (self.pacer, *(outbox.link for outbox in self.bridges)):
            link.close()
        self.context.destroy(linger=0)

    def _outbox(self, settings: Settings, worker: int) -> Outbox:
        outbox: Outbox
        link = self._link(
            calls_url(settings.bus, worker),
            CALLER_HWM,
            BridgeToGateway,
            functools.partial(self._from_worker, worker),
            "aibridge",
            lambda _: outbox.restarted(),
        )
        outbox = Outbox(link, dropped_audio=self._metrics.caller_audio_dropped_bytes)
        return outbox

    def _link(
        self,
        url: str,
        hwm: int,
        types: Any,
        on_message: Callable[[str, Any], None],
        peer: str,
        on_restart: Callable[[str], None] | None = None,
    ) -> ChannelLink:
        return ChannelLink(
            dealer(self.context, url, name=self._name, hwm=hwm),
            types=types,
            make=lambda: Channel(draw_epoch(), max_weight=CONTROL_HWM),
            on_message=on_message,
            on_restart=on_restart,
            refused=self._metrics.bus_refused[peer],
            lost=self._metrics.bus_lost[peer],
            undecodable=self._metrics.bus_undecodable[peer],
            gather=self.gather,
        )

    def _hello(self) -> None:
        self.pacer.hello(hints=(GatewayHello(self._name, self._is_draining),))
        for outbox in self.bridges:
            outbox.hello(self._name, draining=self._is_draining)
        waiting = self._metrics.bus_waiting
        waiting["txpacer"].set(self.pacer.channel().unsent_weight)
        waiting["aibridge"].set(sum(outbox.link.channel().unsent_weight for outbox in self.bridges))
        self._hello_timer = self._loop.call_later(HELLO_S, self._hello)

    def _from_worker(self, worker: int, _: str, message: Message) -> None:
        if not isinstance(message, WorkerState):
            self._on_worker(worker, message)
            return
        self._on_worker(worker, message)  # a restarted worker is told its calls before their audio
        self.bridges[worker].answered()
