"""txpacer's frames onto the media sockets. Nothing here waits, and nothing is logged per frame.

Writing is synchronous, into a socket's buffer, whatever that socket's state: one that is slow or dead costs the others
a memory copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic_ns
from typing import Final

from shared.audio import FRAME_BYTES, SILENCE
from shared.clock import unix_ms
from shared.messages import CLEAR, FirstFrameSent, Frames, WireAck

from .call import Call
from .core.chronicle import Chronicle
from .core.limits import Lateness
from .core.pulse import Pulse
from .metrics import Metrics
from .outbox import Outbox

# Beyond one frame of lateness txpacer has to know, so that its idea of the ear stays true.
LATE_NS: Final = 20_000_000
STALL_NS: Final = 300_000_000
SLOW_SEND_NS: Final = 50_000_000
# An acknowledgement is for all batches before it, and one for each would cost as much as the batch. txpacer waits for
# one no longer than the lead (120 ms); what left late is said at once.
ACK_S: Final = 0.02
# How often a socket is looked at that takes nothing. Within a frame: txpacer holds a frame for heard a frame after it
# was told that it has not left.
LOOK_S: Final = 0.01
_SECOND_S: Final = 1.0


class Wire:
    """Writes each batch of frames to the sockets of its calls, and acknowledges it."""

    def __init__(
        self, calls: dict[int, Call], pacer: Outbox, metrics: Metrics, chronicle: Chronicle, lateness: Lateness
    ) -> None:
        self._calls = calls
        self._pacer = pacer
        self._metrics = metrics
        self._chronicle = chronicle
        self._lateness = lateness
        self._pulse = Pulse()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        # The last batch that was written, and when that will be said.
        self._written = 0
        self._ack_timer: asyncio.TimerHandle | None = None
        # Calls whose sockets may not have taken what was written, and when they are looked at.
        self._watched: set[Call] = set()
        self._look_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Bring the gauges up to date once a second."""
        largest, rate = self._pulse.second()
        self._metrics.largest_gap.set(largest)
        self._metrics.frame_rate.set(rate)
        self._timer = self._loop.call_later(_SECOND_S, self.start)

    def close(self) -> None:
        for timer in (self._timer, self._ack_timer, self._look_timer):
            if timer is not None:
                timer.cancel()

    def write(self, frames: Frames) -> None:
        metrics = self._metrics
        late: list[tuple[int, int]] = []
        sent = 0
        wire_ns = monotonic_ns()
        for number, seq, audio, mark in frames.entries:
            call = self._calls.get(number)
            if call is None:
                metrics.frames_unknown_call.inc(len(audio) // FRAME_BYTES)
                continue
            if audio:
                count = len(audio) // FRAME_BYTES
                sent += count
                wire_ns = self._write_audio(call, seq, audio, count, frames.deadline_ns, wire_ns)
                if wire_ns - frames.deadline_ns > LATE_NS:
                    late.append((number, seq))
                    call.late_frames += count
            if mark == CLEAR:
                call.connection.send_now(call.outbound.clear)
                call.cleared()
            elif mark:
                call.connection.send_now(call.outbound.mark(call.generation, mark))
                call.next_seq = -1
                call.marks.append((mark, call.frames_since_mark))
                call.frames_since_mark = 0
                # No write follows that would notice if the last frames did not leave.
                self._watch(call)
        if sent:
            metrics.frames_sent.inc(sent)
            self._lateness.observe(sent, wire_ns - frames.deadline_ns, wire_ns)
        metrics.wire_late.inc(len(late))
        self._written = frames.batch
        if late:
            self._acknowledge(late)
        elif self._ack_timer is None:
            self._ack_timer = self._loop.call_later(ACK_S, self._acknowledge)

    def _acknowledge(self, late: Sequence[tuple[int, int]] = ()) -> None:
        """All batches so far. Refused only when txpacer is gone, and then it means nothing to the next one."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        self._pacer.hint(WireAck(self._written, monotonic_ns(), tuple(late)))

    def _watch(self, call: Call) -> None:
        self._watched.add(call)
        if self._look_timer is None:
            self._look_timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Tell txpacer which frame of each stuck socket has not left: its ear has nothing of that and what follows.

        Said again for as long as it is so, because the line paces nothing meanwhile, and no write says it.
        """
        self._look_timer = None
        now_ns = monotonic_ns()
        stuck: list[tuple[int, int]] = []
        for call in list(self._watched):
            unsent_bytes = call.connection.transport.get_write_buffer_size()
            if not unsent_bytes or call.ended:
                call.stuck_since_ns = 0
                self._watched.discard(call)
                continue
            if not call.stuck_since_ns:
                call.stuck_since_ns = now_ns
            self._watch(call)
            # All frames are equally long on this socket; marks among them, a third of one, are rounded away.
            frame_bytes = len(call.connection.frame(call.outbound.media(SILENCE * FRAME_BYTES)))
            unsent = (unsent_bytes + frame_bytes // 2) // frame_bytes
            if unsent:
                stuck.append((call.number, call.seq - unsent))
        if stuck:
            self._acknowledge(stuck)

    def _write_audio(self, call: Call, seq: int, audio: bytes, count: int, deadline_ns: int, begun_ns: int) -> int:
        """When `count` frames were written, which was begun at `begun_ns`."""
        metrics = self._metrics
        connection = call.connection
        if not connection.transport.get_write_buffer_size():
            call.stuck_since_ns = 0
        else:
            if not call.stuck_since_ns:
                call.stuck_since_ns = begun_ns
            elif begun_ns - call.stuck_since_ns > SLOW_SEND_NS:
                metrics.slow_sends.inc()
            self._watch(call)
        if count == 1:
            connection.send_now(call.outbound.media(audio))
        else:
            frames = (audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES))
            connection.send_all(map(call.outbound.media, frames))
        wire_ns = monotonic_ns()
        call.frames += count
        metrics.frame_lateness.observe(max(0, wire_ns - deadline_ns) / 1e9, count)
        if seq == call.next_seq:
            gap_ns = wire_ns - call.last_wire_ns
            metrics.wire_gap.observe(gap_ns / 1e9)
            self._pulse.gap(gap_ns, count)
            if gap_ns > call.largest_gap_ns:
                call.largest_gap_ns = gap_ns
            if gap_ns > STALL_NS:
                call.stalls += 1
                metrics.tx_stall.inc()
                metrics.tx_stall_seconds.inc(gap_ns / 1e9)
        elif call.last_wire_ns == 0:
            call.bridge.post(FirstFrameSent(call.number, wire_ns))
            self._chronicle.first_frame(call.call_sid, unix_ms(wire_ns))
        call.next_seq = call.seq = seq + count
        call.frames_since_mark += count
        call.last_wire_ns = wire_ns
        return wire_ns
