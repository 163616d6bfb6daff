"""What waits to be written to the store of stories, and what is known of the store: one line per change of its state.

Bound: one entry a call, CALLS_MAX calls; beyond that the call that has waited longest is dropped, counted. A failed
write is not repeated: the next story of the call is newer, and when the store is back the gateways tell all of them.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from shared.messages import CallClosed, KeepStory

# More than the gateways of a cell have calls.
CALLS_MAX: Final = 2_000
# Messages of one round trip: some 5 kB each.
BATCH_MAX: Final = 64
# The gateway keeps no larger one (gateway/core/handover.py); the envelope is small.
STORY_MAX_BYTES: Final = 262_144 + 1_024  # bytes


class StoreState(Enum):
    """How the store took the last write."""

    UP = "up"
    SLOW = "slow"  # no answer in time: frozen, or far too busy
    GONE = "gone"  # refuses connections, or breaks them
    FULL = "full"  # out of memory
    REFUSED = "refused"  # wrong password, read-only, or not a store


class StoryQueue:
    def __init__(self) -> None:
        # By CallSid: the gateway that sent the message, and the message.
        self._waiting: dict[str, tuple[str, KeepStory | CallClosed]] = {}
        self.dropped = 0
        self.state = StoreState.UP

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, peer: str, message: KeepStory | CallClosed) -> None:
        """Only the newest message of a call waits."""
        if message.call_id not in self._waiting and len(self._waiting) >= CALLS_MAX:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        self._waiting[message.call_id] = peer, message

    def take(self) -> list[tuple[str, KeepStory | CallClosed]]:
        """The messages of the next round trip, the longest waiting first."""
        taken = list(self._waiting.values())[:BATCH_MAX]
        for _, message in taken:
            del self._waiting[message.call_id]
        return taken

    def turned(self, state: StoreState) -> bool:
        """A write ended so. Returns whether that is news."""
        is_news, self.state = state is not self.state, state
        return is_news
