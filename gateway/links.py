"""The gateway's ZeroMQ links: one to txpacer, one to each aibridge worker, and the hellos that keep them known."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final

from shared.bus import CALLER_HWM, CONTROL_HWM, FRAMES_HWM, calls_url, dealer, draw_epoch, frames_url
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.gather import Gather
from shared.isolation import context
from shared.liveness import HELLO_S
from shared.messages import (
    BridgeToGateway,
    Frames,
    GatewayHello,
    Message,
    PacerState,
    PacerToGateway,
    PathSamples,
    PathSeen,
    WireAck,
    WorkerState,
)
from shared.settings import Settings

from .core.metrics import Metrics
from .outbox import Outbox

# An acknowledgement of frames follows within this, and takes what the paths showed along.
PATH_S: Final = 0.02


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
        on_pacer: Callable[[Frames | PacerState | PathSamples], None],
        on_worker: Callable[[int, Message], None],
    ) -> None:
        self._name = name
        self._metrics = metrics
        self._on_worker = on_worker
        self.context = context(io_priority)
        self.gather = Gather()
        self._loop = asyncio.get_running_loop()
        self._hello_timer: asyncio.TimerHandle | None = None
        # What the paths to the callers showed since txpacer was last told, and when that is due: see PathSeen.
        self._echoes: list[tuple[int, int, int]] = []
        self._pings: list[tuple[int, int, int]] = []
        self._path_timer: asyncio.TimerHandle | None = None
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

    def echoed(self, call: int, seq: int, at_ns: int) -> None:
        """Tell txpacer within PATH_S that Twilio echoed a mark."""
        self._echoes.append((call, seq, at_ns))
        self._tell_path_soon()

    def pinged(self, call: int, delay_ns: int, at_ns: int) -> None:
        """Tell txpacer within PATH_S that a ping was answered."""
        self._pings.append((call, delay_ns, at_ns))
        self._tell_path_soon()

    def _tell_path_soon(self) -> None:
        if self._path_timer is None:
            self._path_timer = self._loop.call_later(PATH_S, self._tell_path)

    def _tell_path(self) -> None:
        self._path_timer = None
        if self._echoes or self._pings:
            self.pacer.send((self._take_path(),))

    def _take_path(self) -> PathSeen:
        seen = PathSeen(tuple(self._echoes), tuple(self._pings))
        self._echoes.clear()
        self._pings.clear()
        return seen

    def acknowledge(self, ack: WireAck) -> None:
        """Refused only when txpacer is gone, and then it means nothing to the next one."""
        if self._echoes or self._pings:
            self.pacer.send((ack, self._take_path()))
        else:
            self.pacer.send((ack,))

    def close(self) -> None:
        for timer in (self._hello_timer, self._path_timer):
            if timer is not None:
                timer.cancel()
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
