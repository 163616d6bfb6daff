"""One direction of a network path: when each packet arrives, or that it is lost.

Pure and seeded: the same packets at the same times meet the same fate.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

_MS: Final = 1_000_000


@dataclass(frozen=True)
class PathBehaviour:
    """What a path does to packets. The default does nothing."""

    # One way, for each packet.
    delay_ms: float = 0.0
    # Each packet takes up to this much longer. Packets keep their order: a queue delays, it does not overtake.
    jitter_ms: float = 0.0
    # The probability that a loss begins with a packet, and how many packets in a row each loss takes.
    loss: float = 0.0
    burst_packets: int = 1
    # The path hands over nothing for `stall_ms`, every `stall_every_ms`; what came meanwhile follows at once.
    stall_ms: float = 0.0
    stall_every_ms: float = 0.0


class Path:
    """Times are ns of one monotonic clock."""

    def __init__(self, behaviour: PathBehaviour, *, seed: int, began_ns: int = 0) -> None:
        """`began_ns`: the first stall comes one period later."""
        self.behaviour = behaviour
        self._random = random.Random(seed)
        self._began_ns = began_ns
        # How many of the next packets belong to a loss that has begun.
        self._losing = 0
        self._last_ns = 0

    def carry(self, now_ns: int) -> int | None:
        """When a packet that is sent now arrives; None: it is lost."""
        behaviour = self.behaviour
        # Both are drawn for each packet, so that changing one figure leaves the other's sequence alone.
        is_lost = self._random.random() < behaviour.loss
        jitter = self._random.random() * behaviour.jitter_ms
        if is_lost and not self._losing:
            self._losing = behaviour.burst_packets
        if self._losing:
            self._losing -= 1
            return None
        at_ns = self._after_stall(now_ns + int((behaviour.delay_ms + jitter) * _MS))
        self._last_ns = max(self._last_ns, at_ns)
        return self._last_ns

    def _after_stall(self, at_ns: int) -> int:
        """The instant itself, or the end of the stall that it falls into."""
        behaviour = self.behaviour
        period_ns = int(behaviour.stall_every_ms * _MS)
        if not period_ns:
            return at_ns
        since_ns = at_ns - self._began_ns
        into_ns = since_ns % period_ns
        if since_ns >= period_ns and into_ns < behaviour.stall_ms * _MS:
            return at_ns - into_ns + int(behaviour.stall_ms * _MS)
        return at_ns
