"""What the gateway has to say to one peer: caller audio in 4 ms batches, and control messages that must arrive."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from shared.bus import CONTROL_HWM, Link
from shared.messages import CallerAudio, Message
from shared.metrics import Counter

# All callers of a worker share one ZeroMQ message per 4 ms: with one a frame, the cell takes a third more CPU.
GATHER_S: Final = 0.004
# What is kept of each caller for a worker that is away: 8 s, and of more than that the last. One that was killed is
# missed for 3 s and then replaced.
HELD_BYTES: Final = 64_000
# How often a refused control message is tried again.
RETRY_S: Final = 0.02


class Outbox:
    """Sends to one peer in order, without ever waiting.

    From a refusal on the peer is away until `back`, and audio is held: HELD_BYTES a call, beyond which the oldest is
    counted in `dropped_audio` (bytes) and dropped. `take` gives what is held to a call that moves to another peer.
    Control messages that were refused are tried again every RETRY_S, and later ones wait behind them: bound CONTROL_HWM
    messages, beyond which the newest is counted in `lost` and dropped.
    """

    def __init__(self, link: Link, *, dropped_audio: Counter, lost: Counter) -> None:
        self.link = link
        self._dropped_audio = dropped_audio
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        # Control messages that were refused, in order.
        self._refused: deque[Message] = deque()
        # Caller audio since the last send, by call.
        self._audio: dict[int, bytes] = {}
        # Since the peer is away, likewise.
        self._held: dict[int, bytearray] = {}
        self._is_away = False
        self._timer: asyncio.TimerHandle | None = None

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

    def back(self) -> None:
        """The peer answers, and knows its calls: what it missed of them follows."""
        if self._is_away:
            self._is_away = False
            held, self._held = self._held, {}
            for call, data in held.items():
                self.audio(call, bytes(data))

    def take(self, call: int) -> bytes:
        """The audio that is held for a call; it is not any more."""
        return bytes(self._held.pop(call, b""))

    def _hold(self, call: int, data: bytes) -> None:
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
        if not self.link.send(batch):
            self._is_away = True
            for call, data in self._audio.items():
                self._hold(call, data)
            if message is not None:
                self._wait(message)
            if self._refused:
                self._timer = self._loop.call_later(RETRY_S, self._send)
        else:
            self._refused.clear()
        self._audio.clear()

    def _wait(self, message: Message) -> None:
        if len(self._refused) < CONTROL_HWM:
            self._refused.append(message)
        else:
            self._lost.inc()
