"""What the gateway sends to one aibridge worker: caller audio in 4 ms batches, and control messages, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic_ns
from typing import Any, Final, NamedTuple

from shared.channel_link import ChannelLink
from shared.liveness import HELD_S, ns
from shared.messages import CallerAudio, GatewayHello, Message
from shared.metrics import Counter

# All callers of a worker share one ZeroMQ message per 4 ms: with one a frame, the cell takes a third more CPU.
GATHER_S: Final = 0.004
# The same for a worker that is late: it reads nothing now, and finds what it missed in few batches.
GATHER_LATE_S: Final = 0.1
HELD_NS: Final = ns(HELD_S)
# Of one caller: as much as one says in HELD_S.
HELD_BYTES: Final = 64_000


class _Batch(NamedTuple):
    """Caller audio that was put on the channel together."""

    number: int  # of its last message
    at_ns: int
    audio: dict[int, bytes]  # by call
    messages: list[Any]  # the channel's own list


class Outbox:
    """Sends to one worker over `link`, without ever waiting.

    The channel repeats what was lost and keeps what is refused. Beside it, caller audio is kept by call until the
    worker acknowledges it: `take` gives it to a call that moves to another worker, and `restarted` holds it for the
    next incarnation of this one, until that has `answered`. Bound: HELD_NS and HELD_BYTES a call. What exceeds them,
    the oldest first, is counted in `dropped_audio` (bytes).
    """

    def __init__(self, link: ChannelLink, *, dropped_audio: Counter) -> None:
        self.link = link
        self._channel = link.channel()
        self._dropped_audio = dropped_audio
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_patient = False
        # When the audio that gathers began to come, ns.
        self._began_ns = 0
        # Caller audio since the last send, by call; and while the worker's successor does not know its calls.
        self._audio: dict[int, bytes] = {}
        self._is_held = False
        self._unacknowledged: deque[_Batch] = deque()
        # Bytes of each call that were kept for too long, up to which message: lost, unless that is acknowledged.
        self._outdated: dict[int, int] = {}
        self._outdated_number = 0

    def audio(self, call: int, data: bytes) -> None:
        """Send caller audio within 4 ms."""
        before = self._audio.get(call)
        self._audio[call] = data if before is None else before + data
        if self._is_held:
            self._audio[call] = self._bounded(self._audio[call])
        elif self._timer is None:
            self._began_ns = monotonic_ns()
            self._is_patient = self._channel.is_late(self._began_ns)
            self._timer = self._loop.call_later(GATHER_LATE_S if self._is_patient else GATHER_S, self._send)

    def post(self, message: Message) -> None:
        """Send a control message now, after the audio that came before it."""
        self._send(message)

    def hello(self, gateway: str, *, draining: bool) -> None:
        self.link.hello(hints=(GatewayHello(gateway, draining),))
        old_ns = monotonic_ns() - HELD_NS
        while self._unacknowledged and self._unacknowledged[0].at_ns < old_ns:
            self._outdate(self._unacknowledged.popleft())

    def answered(self) -> None:
        """The worker has answered a hello and knows its calls: forget what it has read, and send the rest at once."""
        batches, through = self._unacknowledged, self._channel.acknowledged_by_peer
        while batches and batches[0].number <= through:
            batches.popleft()
        if through >= self._outdated_number:
            self._outdated.clear()
        if self._is_held or (self._is_patient and self._timer is not None):
            self._is_held = False
            self._send()

    def restarted(self) -> None:
        """Another incarnation of the worker answers: hold all audio that its predecessor had not acknowledged."""
        self._is_held = True
        parts: dict[int, list[bytes]] = {}
        for audio in (*(batch.audio for batch in self._unacknowledged), self._audio):
            for call, data in audio.items():
                parts.setdefault(call, []).append(data)
        self._audio = {call: self._bounded(b"".join(each)) for call, each in parts.items()}
        self._unacknowledged.clear()
        self._dropped_audio.inc(sum(self._outdated.values()))
        self._outdated.clear()
        self.close()

    def take(self, call: int) -> bytes:
        """The audio of a call that the worker has not acknowledged, as far as it is kept; it is not any more."""
        parts = [batch.audio.pop(call, b"") for batch in self._unacknowledged]
        audio = self._bounded(b"".join((*parts, self._audio.pop(call, b""))))
        self._dropped_audio.inc(self._outdated.pop(call, 0))
        return audio

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, message: Message | None = None) -> None:
        audio: dict[int, bytes] = {}
        at_ns = monotonic_ns() if self._timer is None else self._began_ns
        if not self._is_held:
            self.close()
            audio, self._audio = self._audio, audio
        messages: list[Any] = [CallerAudio(call, data, at_ns) for call, data in audio.items()]
        if message is not None:
            messages.append(message)
        if not messages:
            return
        number = self._channel.last_number + len(audio)
        if not self.link.post(messages):
            self._dropped_audio.inc(sum(map(len, audio.values())))
        elif audio:
            self._unacknowledged.append(_Batch(number, at_ns, audio, messages))

    def _outdate(self, batch: _Batch) -> None:
        """Keep a batch no longer. Its numbers remain on the channel, without their audio."""
        for position, message in enumerate(batch.messages):
            if type(message) is CallerAudio:
                batch.messages[position] = CallerAudio(message.call, b"", message.at_ns)
        if batch.number > self._channel.sent_through:
            self._dropped_audio.inc(sum(map(len, batch.audio.values())))
            return
        for call, data in batch.audio.items():
            self._outdated[call] = self._outdated.get(call, 0) + len(data)
        self._outdated_number = batch.number

    def _bounded(self, audio: bytes) -> bytes:
        excess = len(audio) - HELD_BYTES
        if excess > 0:
            self._dropped_audio.inc(excess)
            return audio[excess:]
        return audio
