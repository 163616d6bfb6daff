"""What the gateway has to say to one peer: caller audio in 4 ms batches, and control messages that must arrive."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, TypeAlias

from shared.bus import CONTROL_HWM, Link
from shared.messages import CallerAudio, GatewayHello, Message
from shared.metrics import Counter

# All callers of a worker share one ZeroMQ message per 4 ms: with one a frame, the cell takes a third more CPU.
GATHER_S: Final = 0.004
# What is kept of each caller for a worker that has not confirmed it: 8 s, and of more than that the last. One that is
# killed or stopped is missed for 3 s and then replaced, by a sweep once a second.
HELD_BYTES: Final = 64_000
# The same for all callers, of what ZeroMQ has taken, in hellos of 100 ms.
UNCONFIRMED_HELLOS: Final = 80
# How often a refused control message is tried again.
RETRY_S: Final = 0.02


# Caller audio that is sent at once, by call.
_Batch: TypeAlias = dict[int, bytes]


class Outbox:
    """Sends to one peer in order, without ever waiting.

    ZeroMQ takes seconds of audio for a peer that is stopped, and forgets it with one that is killed. So audio is kept
    until the peer has answered a hello that was sent behind it, HELD_BYTES a call; `take` gives it to a call that moves
    to another peer, and `answered` to the next incarnation of this one.

    From a refusal on the peer is away until `back`, and audio is held, within the same bound; what exceeds it is
    counted in `dropped_audio` (bytes), the oldest first. Control messages that were refused are tried again every
    RETRY_S, and later ones wait behind them: bound CONTROL_HWM messages, beyond which the newest is counted in `lost`
    and dropped.
    """

    def __init__(self, link: Link, *, dropped_audio: Counter, lost: Counter) -> None:
        self.link = link
        self._dropped_audio = dropped_audio
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        # Control messages that were refused, in order.
        self._refused: deque[Message] = deque()
        # Caller audio since the last send, by call.
        self._audio: _Batch = {}
        # Since the peer is away, likewise.
        self._held: dict[int, bytearray] = {}
        self._is_away = False
        self._timer: asyncio.TimerHandle | None = None
        # Of the incarnation of the peer that answered last.
        self._epoch: int | None = None
        # Hellos so far, and what was sent since the last one.
        self._hellos = 0
        self._sent: list[_Batch] = []
        # What was sent between two hellos, oldest first, with the number of the second one, which confirms it.
        self._unconfirmed: deque[tuple[int, list[_Batch]]] = deque()
        # Bytes of each call that grew too old to be kept, up to which hello: lost, unless that is answered after all.
        self._outdated: dict[int, int] = {}
        self._outdated_hello = 0

    def audio(self, call: int, data: bytes) -> None:
        """Send caller audio within 4 ms."""
        if self._is_away:
            self._hold(call, data)
            return
        before = self._audio.get(call)
        self._audio[call] = data if before is None else before + data
        if self._timer is None:
            self._timer = self._loop.call_later(GATHER_S, self._send)

    def post(self, message: Message) -> None:
        """Send a control message now, behind the audio that came before it."""
        if self._is_away and self._refused:
            # To encode all of them again, for a peer that just refused them, would take longer with each.
            self._wait(message)
        else:
            self._send(message)

    def hint(self, message: Message) -> None:
        """Send a message that is worthless a moment later: a refusal is final."""
        self.link.send((message,))

    def hello(self, gateway: str, *, draining: bool) -> None:
        """Ask the peer what it has read: everything before this, once it answers (`confirm`)."""
        self._hellos += 1
        if self._unconfirmed:
            # It is late. Joined, what a sleeping peer misses is found in 80 places, not 2,000.
            _join(self._unconfirmed[-1][1])
        self._unconfirmed.append((self._hellos, self._sent))
        self._sent = []
        if len(self._unconfirmed) > UNCONFIRMED_HELLOS:
            self._outdated_hello, batches = self._unconfirmed.popleft()
            for batch in batches:
                for call, data in batch.items():
                    self._outdated[call] = self._outdated.get(call, 0) + len(data)
        if not self.link.send((GatewayHello(gateway, draining, self._hellos),)):
            # So that its next incarnation is sent no audio before it answers: `answered` would send that again.
            self._go_away()

    def confirm(self, hello: int) -> None:
        """The peer has read whatever was sent before this hello; answers come in the order of hellos."""
        while self._unconfirmed and self._unconfirmed[0][0] <= hello:
            self._unconfirmed.popleft()
        if hello >= self._outdated_hello:
            self._outdated.clear()

    def answered(self, epoch: int) -> None:
        """The peer named its incarnation. If that is a new one, hold all audio that was not confirmed, until `back`."""
        before, self._epoch = self._epoch, epoch
        if before is None or before == epoch:
            return
        self._go_away()
        held, self._held = self._held, {}
        for batches in (*(batches for _, batches in self._unconfirmed), self._sent):
            for batch in batches:
                for call, data in batch.items():
                    self._hold(call, data)
        for call, later in held.items():
            self._hold(call, later)
        self._dropped_audio.inc(sum(self._outdated.values()))
        self._outdated.clear()
        self._unconfirmed.clear()
        self._sent = []

    def back(self) -> None:
        """The peer answers, and knows its calls: what it missed of them follows."""
        if self._is_away:
            self._is_away = False
            held, self._held = self._held, {}
            for call, data in held.items():
                self.audio(call, bytes(data))

    def take(self, call: int) -> bytes:
        """The audio of a call that the peer has not confirmed, as far as it is kept; it is not any more."""
        parts = [batch.pop(call, b"") for _, batches in self._unconfirmed for batch in batches]
        parts += [batch.pop(call, b"") for batch in self._sent]
        parts += [bytes(self._held.pop(call, b"")), self._audio.pop(call, b"")]
        audio = b"".join(parts)
        dropped = self._outdated.pop(call, 0) + max(0, len(audio) - HELD_BYTES)
        if dropped:
            self._dropped_audio.inc(dropped)
        return audio[-HELD_BYTES:]

    def _go_away(self) -> None:
        self._is_away = True
        for call, data in self._audio.items():
            self._hold(call, data)
        self._audio = {}

    def _hold(self, call: int, data: bytes | bytearray) -> None:
        held = self._held.setdefault(call, bytearray())
        held += data
        excess = len(held) - HELD_BYTES
        if excess > 0:
            del held[:excess]
            self._dropped_audio.inc(excess)

    @property
    def waiting(self) -> int:
        """Control messages that the peer refused so far."""
        return len(self._refused)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, message: Message | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch: list[Message] = [*self._refused]
        batch.extend(CallerAudio(call, data) for call, data in self._audio.items())
        if message is not None:
            batch.append(message)
        if batch and not self.link.send(batch):
            self._go_away()
            if message is not None:
                self._wait(message)
            if self._refused:
                self._timer = self._loop.call_later(RETRY_S, self._send)
        else:
            self._refused.clear()
            if self._audio:
                self._sent.append(self._audio)
                self._audio = {}

    def _wait(self, message: Message) -> None:
        if len(self._refused) < CONTROL_HWM:
            self._refused.append(message)
        else:
            self._lost.inc()


def _join(batches: list[_Batch]) -> None:
    """Make one of them, in place."""
    parts: dict[int, list[bytes]] = {}
    for batch in batches:
        for call, data in batch.items():
            parts.setdefault(call, []).append(data)
    batches[:] = [{call: b"".join(each) for call, each in parts.items()}] if parts else []
