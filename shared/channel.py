"""One end of a channel between two processes: numbers, acknowledges, repeats and bounds their messages.

Pure: the shell (shared/channel_link.py, txpacer/loop.py) owns sockets and timers, and passes the time in.

Every batch begins with a `Header`. It numbers the messages that follow, acknowledges the other end's messages (so no
message exists only to acknowledge), and names both ends by their epochs, drawn at each start. From this follows:

- Each numbered message is handled once and in order by the incarnation of the peer that it was meant for, or by none.
- A lost batch leaves a gap. The receiver drops what follows the gap and asks for it `again`; a header without messages
  (the hello of the shell) shows the loss of the last batch.
- A frozen peer is sent nothing twice: the receiver asks, no timer repeats.
- A peer that restarts drops what was meant for its predecessor. `receive` reports the restart, and with `is_lasting`
  the channel repeats what the predecessor had not acknowledged; without, it forgets that, because the owner begins
  again with other messages.

Bound: `max_weight`, the sum of the weights given to `put`, and ENTRIES_MAX. `drops` names what an overflow costs: the
newest batch, or the oldest ones; `dropped` counts them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from .liveness import ASK_AGAIN_S, LATE_S, ns
from .messages import Header, Message

_ASK_AGAIN_NS: Final = ns(ASK_AGAIN_S)
_LATE_NS: Final = ns(LATE_S)
# Messages that were put and are unacknowledged, whatever their weight.
ENTRIES_MAX: Final = 20_000
# Messages of one send. The rest of a backlog follows with the next one.
BATCH_MAX: Final = 256


class _Entry(NamedTuple):
    """Messages that were put together. They are sent, acknowledged and dropped together."""

    first: int
    messages: Sequence[Any]
    weight: int


class Channel:
    """`epoch` names this incarnation and is never 0. `window` bounds the messages that are sent and unacknowledged."""

    def __init__(
        self,
        epoch: int,
        *,
        max_weight: int,
        drops: Literal["newest", "oldest"] = "newest",
        is_lasting: bool = False,
        acknowledges_at_once: bool = True,
        batch_max: int = BATCH_MAX,
        window: int = 1 << 62,
    ) -> None:
        self.epoch = epoch
        self.heard_ns = 0
        # 0: the peer was never heard. The predecessor's last messages may be read after the successor's first ones.
        self.peer_epoch = 0
        self._previous_peer_epoch = -1
        self.dropped = 0
        self._max_weight = max_weight
        self._drops_oldest = drops == "oldest"
        self._is_lasting = is_lasting
        self._acknowledges_at_once = acknowledges_at_once
        self._batch_max = batch_max
        self._window = window
        # What the peer has not acknowledged, in order, and how many of those entries were sent.
        self._entries: deque[_Entry] = deque()
        self._sent = 0
        self._next = 1
        self.weight = 0
        # The last acknowledgement of something, or the first unacknowledged send; and the last repetition.
        self._progress_ns = 0
        self._repeated_ns = -_ASK_AGAIN_NS
        # The peer's messages: through which number they were taken, and acknowledged.
        self.taken = 0
        self._acknowledged = 0
        self._misses = False
        # The number of the first message that `receive` returned last.
        self.first_returned = 0
        # Whether the peer has to learn something before the next hello.
        self.owes_answer = False

    # --- what this end sends ---

    def put(self, messages: Sequence[Any], *, weight: int = 1) -> bool:
        """Number `messages` and keep them until the peer acknowledges them. False: the channel is full (`drops`)."""
        while self.weight + weight > self._max_weight or len(self._entries) >= ENTRIES_MAX:
            self.dropped += 1
            if not self._drops_oldest or weight > self._max_weight:
                return False
            self._forget_first()
        self._entries.append(_Entry(self._next, messages, weight))
        self._next += len(messages)
        self.weight += weight
        return True

    def batch(self) -> list[Any] | None:
        """What to send next, header first; None: nothing. Call `sent` when the socket took it."""
        if self._sent == len(self._entries):
            return None
        oldest = self._entries[0].first
        first = self._entries[self._sent].first
        if self._sent + 1 == len(self._entries):  # nearly always
            messages = self._entries[self._sent].messages
            if first + len(messages) - oldest > self._window and self._sent:
                return None
            return [self._header(first, len(messages)), *messages]
        batch: list[Any] = []
        for position in range(self._sent, len(self._entries)):
            entry = self._entries[position]
            if batch and len(batch) + len(entry.messages) > self._batch_max:
                break
            if position and entry.first + len(entry.messages) - oldest > self._window:
                break
            batch.extend(entry.messages)
        return [self._header(first, len(batch)), *batch] if batch else None

    def sent(self, batch: Sequence[Any], now_ns: int) -> None:
        """The socket took this `batch`."""
        if not self._sent:
            self._progress_ns = now_ns
        end = batch[0].first + batch[0].count
        while self._sent < len(self._entries) and self._entries[self._sent].first < end:
            self._sent += 1
        self.owes_answer = False

    def hello(self) -> Header:
        """A header without messages: shows the peer what it should have, and acknowledges."""
        self.owes_answer = False
        entries, sent = self._entries, self._sent
        return self._header(entries[sent].first if sent < len(entries) else self._next, 0)

    def is_late(self, now_ns: int) -> bool:
        """The peer has acknowledged nothing for LATE_S, although it should."""
        return self._sent > 0 and now_ns - self._progress_ns > _LATE_NS

    @property
    def waiting(self) -> int:
        """Messages that the peer has not acknowledged."""
        return self._next - self._entries[0].first if self._entries else 0

    @property
    def has_unsent(self) -> bool:
        return self._sent < len(self._entries)

    @property
    def unsent_weight(self) -> int:
        """What the peer has not taken yet."""
        return sum(self._entries[position].weight for position in range(self._sent, len(self._entries)))

    @property
    def acknowledged_by_peer(self) -> int:
        """The number of the last message that the peer acknowledged, or that is given up."""
        return self._entries[0].first - 1 if self._entries else self._next - 1

    @property
    def last_number(self) -> int:
        return self._next - 1

    @property
    def sent_through(self) -> int:
        """The number of the last message that was sent."""
        return self._entries[self._sent].first - 1 if self._sent < len(self._entries) else self._next - 1

    def _header(self, first: int, count: int) -> Header:
        oldest = self._entries[0].first if self._entries else self._next
        return Header(self.epoch, self.peer_epoch, oldest, first, count, self._acknowledged, self._misses)

    def _forget_first(self) -> None:
        self.weight -= self._entries.popleft().weight
        if self._sent:
            self._sent -= 1

    # --- what the peer sends ---

    def receive(self, batch: Sequence[Any], now_ns: int) -> tuple[Sequence[Message], bool]:
        """The messages of `batch` that are to be handled now, and whether the peer is another incarnation than before.

        A batch without a header is handled as it is. So is what follows the numbered messages (hints).
        """
        self.heard_ns = now_ns
        header = batch[0] if batch else None
        if type(header) is not Header:
            return batch, False
        restarted = False
        if header.count >= len(batch) or header.epoch == self._previous_peer_epoch:
            return (), False
        if header.epoch != self.peer_epoch:
            restarted = self.peer_epoch != 0
            self._meet(header)
        if header.to == self.epoch:
            self._heed(header, now_ns)
        numbered = 1 + header.count
        hints = batch[numbered:]
        if header.to and header.to != self.epoch:
            self.owes_answer = True
            return hints, restarted
        self.taken = max(self.taken, header.oldest - 1)
        missing = header.first - self.taken - 1
        if missing > 0:
            self.owes_answer |= not self._misses
            self._misses = True
            return hints, restarted
        self._misses = False
        new = batch[1 - missing :] if -missing < header.count else hints
        self.first_returned = header.first - missing
        self.taken = max(self.taken, header.first + header.count - 1)
        if self._acknowledges_at_once:
            self._acknowledged = self.taken
        return new, restarted

    def acknowledge(self, through: int) -> None:
        """The peer's messages up to this number are done with (only without `acknowledges_at_once`)."""
        if through > self._acknowledged:
            self._acknowledged = through
            self.owes_answer = True

    def _meet(self, header: Header) -> None:
        if self.peer_epoch:
            if not self._is_lasting:
                self._entries.clear()
                self.weight = 0
            self._sent = 0
        self._previous_peer_epoch, self.peer_epoch = self.peer_epoch or -1, header.epoch
        self.taken = self._acknowledged = 0
        self._misses = False
        self.owes_answer = True

    def _heed(self, header: Header, now_ns: int) -> None:
        entries = self._entries
        while entries and entries[0].first + len(entries[0].messages) - 1 <= header.through:
            self._forget_first()
            self._progress_ns = now_ns
        # Later headers still ask for what is already on its way again.
        if header.again and self._sent and now_ns - self._repeated_ns >= _ASK_AGAIN_NS:
            self._sent = 0
            self._repeated_ns = now_ns
