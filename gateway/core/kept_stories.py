"""What callbook still has to be given for STATE_URL: of each call, the newest message.

Bound: one message for each live call, and ENDED_MAX ends. A callbook that is slow, frozen or gone gets the newest when
it takes it; nothing else waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from shared.messages import CallClosed, KeepStory
from shared.plan import CallOrder, Conference, Dial

from .commands import KeepStory as LiveStory

# A restarted callbook is told again which calls ended lately: the time for which the store keeps that.
ENDED_NS: Final = 60_000_000_000
ENDED_MAX: Final = 10_000


class KeptStories:
    def __init__(self) -> None:
        self._waiting: dict[str, KeepStory | CallClosed] = {}
        # By CallSid, oldest first: when it ended, ns.
        self._ended: OrderedDict[str, tuple[CallClosed, int]] = OrderedDict()
        # The incarnation of callbook that has been given everything; 0: none.
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def changed(self, call_id: str, story: bytes, since_ms: int) -> None:
        self._ended.pop(call_id, None)
        self._waiting[call_id] = KeepStory(call_id, story, since_ms)

    def closed(self, call_id: str, order: CallOrder, story: bytes, since_ms: int, now_ns: int) -> None:
        comes_back = isinstance(order, Dial | Conference)
        closed = CallClosed(call_id, order, story if comes_back else b"", since_ms)
        self._waiting[call_id] = closed
        self._ended.pop(call_id, None)
        if not comes_back:  # it may live in another cell when callbook restarts
            self._ended[call_id] = closed, now_ns
        self._forget(now_ns)

    def met(self, epoch: int, stories: Iterable[LiveStory], now_ns: int) -> None:
        """callbook answered. An incarnation that has lost everything gets all live calls and the last ends again."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        self._forget(now_ns)
        again: dict[str, KeepStory | CallClosed] = {call_id: closed for call_id, (closed, _) in self._ended.items()}
        again |= {live.call_sid: KeepStory(*live) for live in stories}
        self._waiting = again | self._waiting

    def next(self) -> KeepStory | CallClosed | None:
        """The message that has waited longest."""
        return next(iter(self._waiting.values()), None)

    def given(self, message: KeepStory | CallClosed) -> None:
        """The link took this message."""
        if self._waiting.get(message.call_id) is message:
            del self._waiting[message.call_id]

    def _forget(self, now_ns: int) -> None:
        while self._ended:
            call_id, (_, at_ns) = next(iter(self._ended.items()))
            if now_ns - at_ns < ENDED_NS and len(self._ended) <= ENDED_MAX:
                return
            del self._ended[call_id]
