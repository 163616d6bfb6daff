"""The process around the pacer: two sockets, one clock and one loop.

No asyncio, no thread that holds the GIL, no logger and no allocation that grows: `select` wakes the loop at the next
deadline, to the microsecond, or when a message arrives. Everything else is arithmetic.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from typing import Any, Final

import zmq

from shared import bus
from shared.channel import Channel
from shared.isolation import context
from shared.liveness import FORGET_S, ns
from shared.messages import (
    BridgeToPacer,
    Frames,
    GatewayToPacer,
    Header,
    Message,
    PacerState,
    UndecodableError,
    decode,
    encode,
    encode_into,
)
from shared.settings import Settings

from .core.metrics import PacerMetrics
from .core.outlet import GRID_NS
from .core.pacer import Pacer

# Messages read from one socket before the other socket's turn.
DRAIN_LIMIT: Final = 100
# How often the gauges are updated; when nothing is due, the loop wakes for that.
MEASURE_NS: Final = 1_000_000_000


# Unacknowledged reports of an aibridge worker. Its calls have another worker long before it misses this many.
REPORTS_MAX: Final = 10_000


class Loop:
    """Owns the sockets. `run` returns after SIGTERM or SIGINT.

    `io_priority`: SCHED_FIFO priority of ZeroMQ's thread; None: the ordinary scheduler.
    """

    def __init__(self, settings: Settings, metrics: PacerMetrics, io_priority: int | None = None) -> None:
        self._metrics = metrics
        least_ms, most_ms = settings.lead_bounds_ms
        self._pacer = Pacer(
            lead_ns=settings.lead_ms * 1_000_000,
            min_ns=least_ms * 1_000_000,
            max_ns=most_ms * 1_000_000,
            metrics=metrics,
            # A new epoch tells the other processes that all lines are lost.
            epoch=bus.draw_epoch(),
        )
        self._faults = bus.Faults(metrics.undecodable)
        # To each aibridge and gateway, by name.
        self._channels: dict[str, Channel] = {}
        self._context = context(io_priority)
        self._measured_ns = 0
        # The batch that is being sent; ZeroMQ copies it.
        self._buffer = bytearray()
        self._speech = bus.router(self._context, bus.speech_url(settings.bus), hwm=bus.SPEECH_HWM)
        self._frames = bus.router(self._context, bus.frames_url(settings.bus), hwm=bus.FRAMES_HWM)
        self._stop_reader, self._stop_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        # select() is restarted after a signal handler; a byte in a pipe wakes it.
        signal.set_wakeup_fd(self._stop_writer)
        waited = (self._speech.FD, self._frames.FD, self._stop_reader)
        try:
            while not self._stopping:
                self._tick()
                due_ns = self._pacer.next_due_ns()
                more = self._drain(self._frames, GatewayToPacer, self._pacer.from_gateway, due_ns)
                more |= self._drain(self._speech, BridgeToPacer, self._pacer.from_bridge, due_ns)
                if more:  # the next turn carries out what the messages ask, and sends the reports
                    continue
                due_ns = self._pacer.next_due_ns()
                now_ns = time.monotonic_ns()
                if now_ns - self._measured_ns >= MEASURE_NS:
                    self._measured_ns = now_ns
                    for gateway, samples in self._pacer.measure(now_ns):
                        # A gateway that refuses them misses a second of a diagram.
                        self._try(self._frames, gateway, encode((samples,)))
                    self._forget_silent_peers(now_ns)
                wake_ns = self._measured_ns + MEASURE_NS
                if due_ns is not None and due_ns < wake_ns:
                    wake_ns = due_ns
                if wake_ns > now_ns:
                    select.select(waited, (), (), (wake_ns - now_ns) / 1e9)
        finally:
            signal.set_wakeup_fd(-1)
            self._speech.close(linger=0)
            self._frames.close(linger=0)
            self._context.term()

    def _forget_silent_peers(self, now_ns: int) -> None:
        for peer in [peer for peer, channel in self._channels.items() if now_ns - channel.heard_ns > ns(FORGET_S)]:
            del self._channels[peer]

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _tick(self) -> None:
        pacer = self._pacer
        for gateway, frames in pacer.retry():
            self._send_frames(gateway, frames)
        due_ns = pacer.next_due_ns()
        late_ns = -1 if due_ns is None else time.monotonic_ns() - due_ns
        if late_ns > GRID_NS:
            # This process was frozen. Read the gateways' acknowledgements first, or the gateways would seem stalled.
            self._drain(self._frames, GatewayToPacer, self._pacer.from_gateway, None)
        if late_ns >= 0:
            for gateway, frames in pacer.tick(time.monotonic_ns()):
                self._send_frames(gateway, frames)
        for bridge, reports in pacer.take_reports():
            self._report(bridge, reports)

    def _send_frames(self, gateway: str, frames: Frames) -> None:
        encode_into(self._buffer, (frames,))
        if not self._try(self._frames, gateway, self._buffer):
            self._pacer.refused(gateway, frames)

    def _report(self, bridge: str, reports: list[Message]) -> None:
        channel = self._channel(bridge)
        # A bridge that refused a report takes the rest after its next hello.
        is_refusing = channel.has_unsent
        if not channel.put(reports, weight=len(reports)):
            self._metrics.dropped.inc()
        if not is_refusing:
            self._flush(self._speech, bridge, channel)

    def _channel(self, peer: str) -> Channel:
        known = self._channels.get(peer)
        if known is None:
            known = self._channels[peer] = Channel(bus.draw_epoch(), max_weight=REPORTS_MAX)
        return known

    def _accept(self, sock: zmq.Socket[Any], peer: str, batch: Sequence[Message], now_ns: int) -> Sequence[Message]:
        """The messages of a channel's batch that are to be handled."""
        channel = self._channel(peer)
        messages, _ = channel.receive(batch, now_ns)
        if channel.has_unsent:
            self._flush(sock, peer, channel)
        if channel.owes_answer:
            self._try(sock, peer, encode((channel.hello(),)))
        return messages

    def _flush(self, sock: zmq.Socket[Any], peer: str, channel: Channel) -> None:
        """Send what was not sent. What the peer refuses follows its next hello."""
        now_ns = time.monotonic_ns()
        while batch := channel.batch():
            if not self._try(sock, peer, encode(batch)):
                return
            channel.sent(batch, now_ns)

    def _answer(self, sock: zmq.Socket[Any], peer: str, state: PacerState) -> None:
        """Answer a hello. A peer that has sent no header yet understands none."""
        channel = self._channels.get(peer)
        if not self._try(sock, peer, encode((state,) if channel is None else (channel.hello(), state))):
            self._metrics.dropped.inc()

    def _try(self, sock: zmq.Socket[Any], peer: str, data: bytes | bytearray) -> bool:
        try:
            sock.send(peer.encode(), bus.NOBLOCK_MORE)
            sock.send(data, bus.NOBLOCK)
        except zmq.ZMQError as exc:
            if exc.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        return True

    def _drain(self, sock: zmq.Socket[Any], types: Any, handle: Any, due_ns: int | None) -> bool:
        """Read what has arrived, up to DRAIN_LIMIT messages or until a frame is due; True when something had.

        The sockets' FDs are edge-triggered, and a send may consume the edge. So the loop asks both sockets for their
        events after the last send, each time before it sleeps. Asking is cheaper than a read that raises.
        """
        if not int(sock.getsockopt(zmq.EVENTS)) & bus.POLLIN:
            return False
        for _ in range(DRAIN_LIMIT):
            try:
                peer, data = bus.receive(sock)
                messages = decode(data, types)
                name = peer.decode()
            except zmq.Again:
                break
            except (ValueError, UndecodableError):
                self._metrics.undecodable.inc()
                continue
            now_ns = time.monotonic_ns()
            if messages and type(messages[0]) is Header:
                messages = self._accept(sock, name, messages, now_ns)
            for message in messages:
                try:
                    answer = handle(name, message, now_ns)
                except Exception as exc:
                    self._faults.note(message, exc)
                else:
                    if answer is not None:
                        self._answer(sock, name, answer)
            if due_ns is not None and now_ns >= due_ns:
                break
            if not int(sock.getsockopt(zmq.EVENTS)) & bus.POLLIN:
                break
        return True
