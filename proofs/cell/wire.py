"""The writing half of a gateway in virtual time: frames to media sockets, and acknowledgements to txpacer.

It does what gateway/wire.py does with sockets: an acknowledgement follows 20 ms after its first batch, a late frame is
reported at once, and a socket that accepts no data is examined every 10 ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from shared.audio import FRAME_BYTES
from shared.messages import CLEAR, PROGRESS, Frames, WireAck

from .clock import MS, Process

# As in gateway/wire.py.
LATE_NS: Final = 20 * MS
ACK_MS: Final = 20
LOOK_MS: Final = 10


class Socket(Protocol):
    """A media socket. It keeps unread messages in order."""

    @property
    def unsent_frames(self) -> int:
        """The number of frames that have not left."""

    @property
    def next_seq(self) -> int:
        """The number of the next frame."""

    def audio(self, seq: int, audio: bytes, deadline_ns: int) -> None: ...
    def clear(self) -> None: ...
    def progress(self, seq: int) -> None: ...
    def mark(self, utterance: int, seq: int) -> None: ...


class Wire:
    """Writes the batches of one gateway, `process`, to `sockets`; `acknowledge` sends to txpacer."""

    def __init__(self, process: Process, sockets: Mapping[int, Socket], acknowledge: Callable[[WireAck], None]) -> None:
        # Batches under way to the gateway, with the time of their arrival.
        self.inbox: deque[tuple[int, Frames]] = deque()
        self._process = process
        self._sockets = sockets
        self._send = acknowledge
        self._written = 0
        # Counts acknowledgements: a planned acknowledgement is void when another was sent before it.
        self._acks = 0
        self._ack_is_due = False
        self._look_is_due = False

    def send(self, frames: Frames, hop_ms: float) -> None:
        """txpacer sends a batch."""
        self.inbox.append((self._process.now_ns + int(hop_ms * MS), frames))
        self._process.clock.after(hop_ms, lambda: self._process.deliver(self._read))

    def _read(self) -> None:
        while self.inbox and self.inbox[0][0] <= self._process.now_ns:
            self._write(self.inbox.popleft()[1])

    def _write(self, batch: Frames) -> None:
        late = []
        for number, seq, audio, mark in batch.entries:
            socket = self._sockets.get(number)
            if socket is None:
                continue
            if socket.unsent_frames:
                self._look_soon()
            if audio:
                socket.audio(seq, audio, batch.deadline_ns)
                if self._process.now_ns - batch.deadline_ns > LATE_NS:
                    late.append((number, seq))
            if mark == CLEAR:
                socket.clear()
            elif mark == PROGRESS:
                socket.progress(seq + len(audio) // FRAME_BYTES)
            elif mark:
                socket.mark(mark, seq + len(audio) // FRAME_BYTES)
                # No further write follows that would notice that the last frames did not leave.
                self._look_soon()
        self._written = batch.batch
        if late:
            self._acknowledge(late)
        elif not self._ack_is_due:
            self._ack_is_due = True
            acks = self._acks
            self._process.after(ACK_MS, lambda: self._ack_due(acks))

    def _ack_due(self, acks: int) -> None:
        if acks == self._acks:
            self._acknowledge(())

    def _acknowledge(self, late: Sequence[tuple[int, int]], *, stuck: bool = False) -> None:
        self._acks += 1
        self._ack_is_due = False
        self._send(WireAck(self._written, self._process.now_ns, tuple(late), stuck))

    def _look_soon(self) -> None:
        if not self._look_is_due:
            self._look_is_due = True
            self._process.after(LOOK_MS, self._look)

    def _look(self) -> None:
        self._look_is_due = False
        stuck = [
            (number, socket.next_seq - socket.unsent_frames)
            for number, socket in self._sockets.items()
            if socket.unsent_frames
        ]
        if stuck:
            self._acknowledge(stuck, stuck=True)
            self._look_soon()


def frames_of(audio: bytes) -> list[bytes]:
    return [audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES)]
