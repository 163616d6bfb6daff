"""Writes txpacer's frames to the media sockets. It never waits, and logs nothing per frame.

A write goes synchronously into a socket's buffer, whatever the socket's state: a slow or dead socket costs the others a
memory copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic_ns
from typing import Final

from shared.audio import FRAME_BYTES, SILENCE
from shared.messages import CLEAR, PROGRESS, Frames, WireAck

from .core.calls import Calls
from .core.metrics import Metrics
from .links import Links
from .media import MediaSocket, MediaSockets

# txpacer has to know of frames later than one frame, so that its ear position stays correct.
LATE_NS: Final = 20_000_000
# One acknowledgement covers all batches before it; one per batch would cost as much as the batch. txpacer waits for it
# no longer than the lead (120 ms). Late frames are reported at once.
ACK_S: Final = 0.02
# On a path that may lose a TCP segment, a burst of up to this many frames, the longest lead, leaves as one message: the
# beginning of an answer, or a debt. If one of its segments is lost, the answer begins late; as several messages it
# would begin in time, and have a gap after the first segment.
BURST_FRAMES: Final = 50
# A socket that accepts no data is examined this often. Less than a frame: txpacer counts a frame as heard one frame
# after its deadline, unless the gateway reports that it has not left.
LOOK_S: Final = 0.01


class Wire:
    """Writes each batch of frames to the sockets of its calls, and acknowledges it."""

    def __init__(self, calls: Calls, media: MediaSockets, links: Links, metrics: Metrics) -> None:
        self._calls = calls
        self._media = media
        self._sockets = media.sockets
        self._links = links
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        # The last batch that was written, and the timer of its acknowledgement.
        self._written = 0
        self._ack_timer: asyncio.TimerHandle | None = None
        # Sockets that may not have accepted all that was written, and the timer that examines them.
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
                self._write_mark(socket, mark, seq + len(audio) // FRAME_BYTES)
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
        """Write `count` frames; the batch began at `begun_ns`. Returns when they were written."""
        connection, frames = socket.connection, socket.frames
        unsent_bytes = connection.transport.get_write_buffer_size()
        if unsent_bytes or frames.stuck_since_ns:
            frames.backlog(unsent_bytes, begun_ns)
            if unsent_bytes:
                if frames.is_slow(begun_ns):
                    self._metrics.slow_sends.inc()
                self._watch(socket)
        if count == 1 or (socket.path.is_far and count <= BURST_FRAMES and not unsent_bytes):
            connection.send_now(socket.outbound.media(audio))
        else:
            each = (audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES))
            connection.send_all(map(socket.outbound.media, each))
        wire_ns = monotonic_ns()
        if socket.copy is not None:
            socket.copy.ai(audio)
        # A burst fills the ear: whether it arrived in time decides from when on a later delay is heard.
        if count > 1 or wire_ns >= socket.path.next_ns:
            socket.probe(wire_ns)
        if frames.written(seq, count, deadline_ns, wire_ns):
            self._media.carry_out(self._calls.first_frame(socket.call, wire_ns))
        return wire_ns

    def _write_mark(self, socket: MediaSocket, mark: int, seq: int) -> None:
        heard, frames = socket.call.heard, socket.frames
        if mark == PROGRESS:
            socket.connection.send_now(socket.outbound.mark(heard.generation, 0, seq))
            return
        frames.utterance_ended()
        if mark == CLEAR:
            socket.connection.send_now(socket.outbound.clear)
            heard.clear_sent()
            if socket.copy is not None:
                socket.copy.flushed()
            socket.path.cleared()
        else:
            socket.connection.send_now(socket.outbound.mark(heard.generation, mark, seq))
            heard.mark_sent(mark, frames.frames)
            # After the end of an utterance, no other ping tells why its mark is late.
            socket.probe(monotonic_ns())
            # No further write follows that would notice that the last frames did not leave.
            self._watch(socket)

    def _acknowledge(self, late: Sequence[tuple[int, int]] = (), *, stuck: bool = False) -> None:
        """Acknowledge all batches so far. A refused send is not repeated: txpacer is gone, and its batches with it."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        self._links.acknowledge(WireAck(self._written, monotonic_ns(), tuple(late), stuck))

    def _watch(self, socket: MediaSocket) -> None:
        self._watched.add(socket)
        if self._look_timer is None:
            self._look_timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Tell txpacer which frame of each stuck socket has not left: the ear has nothing from that frame on.

        Repeat it while the socket is stuck: the line paces nothing, so no write reports it.
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
            # All frames on this socket have the same length; marks between them, a third as long, are rounded away.
            frame_bytes = len(connection.frame(socket.outbound.media(SILENCE * FRAME_BYTES)))
            unsent = (unsent_bytes + frame_bytes // 2) // frame_bytes
            if unsent:
                stuck.append((number, frames.seq - unsent))
        if stuck:
            self._acknowledge(stuck, stuck=True)
