"""Lets the events of a simulated end with many calls gather, so that one wake-up serves many of them.

A call is a hundred messages of 20 ms a second. After the loop has served what was there, it naps for GATHER_S before it
looks again, which leaves more of the machine to the system under test. An event that finds the loop at rest is served
at once. The system itself does not nap: 30 calls took more CPU with it, and the first sample came 1 to 3 ms later.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

# A simulated end stamps what it hears up to this much later.
GATHER_S: Final = 0.001


class Gather:
    """Call `served` whenever sockets of the running loop were read."""

    def __init__(self, seconds: float = GATHER_S) -> None:
        self._seconds = seconds
        self._is_planned = False

    def served(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._after_the_others)

    def _after_the_others(self) -> None:
        """Let callbacks that these events queued run first."""
        asyncio.get_running_loop().call_soon(self._pause)

    def _pause(self) -> None:
        self._is_planned = False
        time.sleep(self._seconds)
