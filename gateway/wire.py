"""txpacer's frames onto the media sockets. Nothing here waits, and nothing is logged per frame.

Writing is synchronous, into a socket's buffer, whatever that socket's state: a slow or dead one costs the others a
memory copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic_ns
from typing import Final

from shared.audio import FRAME_BYTES, SILENCE
from shared.channel_link import ChannelLink
from shared.messages import CLEAR, Frames, WireAck

from .core.calls import Calls
from .core.metrics import Metrics
from .media import MediaSocket, MediaSockets

# Beyond one frame of lateness txpacer has to know, so that its idea of the ear stays true.
LATE_NS: Final = 20_000_000
# An acknowledgement is for all batches before it; one for each would cost as much as the batch. txpacer waits for one
# no longer than the lead (120 ms). Frames that left late are reported at once.
ACK_S: Final = 0.02
# A socket that takes nothing is looked at this often. Less than a frame: txpacer counts a frame as heard one frame
# after it should have left, unless it is told that it has not.
LOOK_S: Final = 0.01


class Wire:
    """Writes each batch of frames to the sockets of its calls, and acknowledges it."""

    def __init__(self, calls: Calls, media: MediaSockets, pacer: ChannelLink, metrics: Metrics) -> None:
        self._calls = calls
        self._media = media
        self._sockets = media.sockets
        self._pacer = pacer
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        # The last batch that was written, and when that will be acknowledged.
        self._written = 0
        self._ack_timer: asyncio.TimerHandle | None = None
        # Sockets that may not have taken what was written, and when they are looked at.
        self._watched: set[MediaSocket] = set()
        self._look_timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        for timer in (self._ack_timer, self._look_timer):
            if timer is not None:
                timer.cancel()

    def write(self, batch: Frames) -> None:
        metrics = self._metrics
        deadline_ns = batch.deadline_ns
        late: list[tuple[int, int]] = []
        sent = 0
        wire_ns = monotonic_ns()
        for number, seq, audio, mark in batch.entries:
            socket = self._sockets.get(number)
            if socket is None:
                metrics.frames_unknown_call.inc(len(audio) // FRAME_BYTES)
                continue
            if audio:
                count = len(audio) // FRAME_BYTES
                sent += count
                wire_ns = self._write_audio(socket, seq, audio, count, deadline_ns, wire_ns)
                if wire_ns - deadline_ns > LATE_NS:
                    late.append((number, seq))
                    socket.frames.late_frames += count
            if mark:
                self._write_mark(socket, mark)
        if sent:
            metrics.frames_sent.inc(sent)
            self._calls.offers.lateness.observe(sent, wire_ns - deadline_ns, wire_ns)
        metrics.wire_late.inc(len(late))
        self._written = batch.batch
        if late:
            self._acknowledge(late)
        elif self._ack_timer is None:
            self._ack_timer = self._loop.call_later(ACK_S, self._acknowledge)

    def _write_audio(
        self, socket: MediaSocket, seq: int, audio: bytes, count: int, deadline_ns: int, begun_ns: int
    ) -> int:
        """When `count` frames were written, which was begun at `begun_ns`."""
        connection, frames = socket.connection, socket.frames
        unsent_bytes = connection.transport.get_write_buffer_size()
        if unsent_bytes or frames.stuck_since_ns:
            frames.backlog(unsent_bytes, begun_ns)
            if unsent_bytes:
                if frames.is_slow(begun_ns):
                    self._metrics.slow_sends.inc()
                self._watch(socket)
        if count == 1:
            connection.send_now(socket.outbound.media(audio))
        else:
            each = (audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES))
            connection.send_all(map(socket.outbound.media, each))
        wire_ns = monotonic_ns()
        if frames.written(seq, count, deadline_ns, wire_ns):
            self._media.carry_out(self._calls.first_frame(socket.call, wire_ns))
        return wire_ns

    def _write_mark(self, socket: MediaSocket, mark: int) -> None:
        heard, frames = socket.call.heard, socket.frames
        frames.utterance_ended()
        if mark == CLEAR:
            socket.connection.send_now(socket.outbound.clear)
            heard.clear_sent()
        else:
            socket.connection.send_now(socket.outbound.mark(heard.generation, mark))
            heard.mark_sent(mark, frames.frames)
            # No write follows that would notice if the last frames did not leave.
            self._watch(socket)

    def _acknowledge(self, late: Sequence[tuple[int, int]] = ()) -> None:
        """All batches so far. Refused only when txpacer is gone, and then it means nothing to the next one."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        self._pacer.send((WireAck(self._written, monotonic_ns(), tuple(late)),))

    def _watch(self, socket: MediaSocket) -> None:
        self._watched.add(socket)
        if self._look_timer is None:
            self._look_timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Tell txpacer which frame of each stuck socket has not left: the ear has nothing from that frame on.

        Repeated while it is so, because the line paces nothing meanwhile, so that no write tells it.
        """
        self._look_timer = None
        now_ns = monotonic_ns()
        stuck: list[tuple[int, int]] = []
        for socket in list(self._watched):
            number, connection, frames = socket.call.number, socket.connection, socket.frames
            unsent_bytes = connection.transport.get_write_buffer_size() if number in self._sockets else 0
            frames.backlog(unsent_bytes, now_ns)
            if not unsent_bytes:
                self._watched.discard(socket)
                continue
            self._watch(socket)
            # All frames are equally long on this socket; marks among them, a third of one, are rounded away.
            frame_bytes = len(connection.frame(socket.outbound.media(SILENCE * FRAME_BYTES)))
            unsent = (unsent_bytes + frame_bytes // 2) // frame_bytes
            if unsent:
                stuck.append((number, frames.seq - unsent))
        if stuck:
            self._acknowledge(stuck)
