"""A worker's messages to txpacer. All leave at once, except the later deltas of an utterance, which gather for 10 ms.

The model makes speech several times faster than it is heard, in deltas. One message per delta would wake txpacer more
often than its ticks do. The first delta of an utterance waits for nothing, because a caller waits for it; other
messages wait for the rest of the loop's turn.
"""

from __future__ import annotations

import asyncio
from typing import Final

from shared.channel_link import ChannelLink
from shared.messages import BridgeHello, CloseLine, Message, Speech
from shared.metrics import Gauge

# Shorter than any delta is long (20 ms at least), and a twelfth of the lead.
SPEECH_GATHER_S: Final = 0.01


class SpeechLink:
    """`say` never waits. Messages that come before the next send go out together, in order.

    `kept_bytes` shows the bytes that txpacer has not accepted yet, because it is stopped or restarting.
    """

    def __init__(self, link: ChannelLink, kept_bytes: Gauge) -> None:
        self._link = link
        self._kept_bytes = kept_bytes
        self._said: list[Message] = []
        # By call, the utterance whose first delta was sent.
        self._begun: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_urgent = False

    def start(self) -> None:
        self._link.start()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._link.close()

    def forget(self, call: int) -> None:
        """Another worker owns this call: send nothing more about it."""
        self._begun.pop(call, None)

    def hello(self, bridge: str) -> None:
        self._link.hello(hints=(BridgeHello(bridge),))

    def say(self, message: Message) -> None:
        self._said.append(message)
        if isinstance(message, Speech):
            if self._begun.get(message.call) == message.utterance:
                if self._timer is None and not self._is_urgent:
                    self._timer = asyncio.get_running_loop().call_later(SPEECH_GATHER_S, self._send)
                return
            self._begun[message.call] = message.utterance
            self._send()
            return
        elif isinstance(message, CloseLine):
            self._begun.pop(message.call, None)
        if not self._is_urgent:
            self._is_urgent = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_urgent = False
        if self._said:
            weight = sum(len(message.data) for message in self._said if type(message) is Speech)
            if not self._link.post(self._said, weight=weight):
                # The speech is lost, and nothing else.
                others = [message for message in self._said if type(message) is not Speech]
                if others:
                    self._link.post(others, weight=0)
            self._said = []
        self._kept_bytes.set(self._link.channel().unsent_weight)
