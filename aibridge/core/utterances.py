"""The ledger: how much of each utterance was received, spoken and heard, in bytes; and the speech that is still needed.

Bytes are booked here and nowhere else. Turns of the AI (history.py) hold their utterance and read its figures.

Speech is kept until the ear has passed it: txpacer's reservoir is lost with txpacer, and a line's frames are lost with
their media socket. A new line is then filled from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from shared.audio import BYTE_NS

# Speech that may wait to be heard: ten seconds less than the ten minutes beyond which txpacer refuses speech, because
# txpacer reports refused speech as heard.
UNHEARD_MAX_BYTES: Final = 4_720_000
# Settled utterances that are kept for late events of the model, of txpacer and of Twilio, which come within seconds.
KEEP_UTTERANCES: Final = 64


@dataclass(slots=True, eq=False)
class Utterance:
    """One piece of speech of one response, or a recording. Times are ns, monotonic."""

    number: int
    response: int
    # Bytes that the model sent, and bytes that the line was given: it gets no late audio of a cancelled response.
    received_bytes: int = 0
    spoken_bytes: int = 0
    # No more audio comes for it.
    ended: bool = False
    # The bytes that the caller heard; None while that is open.
    heard_bytes: int | None = None
    # When the ear began to play it (0: not paced yet), and how long the ear waited for it since.
    began_ns: int = 0
    gap_ns: int = 0
    # When the ear finished it, or fell silent; None while it is open.
    settled_ns: int | None = None
    # When Twilio said that it was played; None: not yet.
    mark_ns: int | None = None
    # The last of its speech, from byte `kept_from` on, in the chunks that came. A list: an empty deque has 760 bytes.
    kept: list[bytes] = field(default_factory=list)
    kept_from: int = 0
    # Tones of telephone keys, not words.
    is_tones: bool = False

    @property
    def cut(self) -> bool:
        """Whether the caller heard less than the model said."""
        return self.heard_bytes is not None and self.heard_bytes < self.received_bytes

    @property
    def ear_start_ns(self) -> int | None:
        """When the ear would have begun, had there been no gaps since; None: it has not begun."""
        return self.began_ns + self.gap_ns if self.began_ns else None

    def estimate_heard(self, now_ns: int, ahead_ns: int) -> int:
        """The bytes that the ear will have heard when nothing paced after `now_ns` arrives; `ahead_ns` is its buffer.

        It is an estimate by the ear's clock; txpacer knows the exact number.
        """
        if not self.began_ns:
            return 0
        return min(self.spoken_bytes, max(0, now_ns + ahead_ns - self.began_ns - self.gap_ns) // BYTE_NS)

    def rest(self, offset: int) -> bytes:
        """The kept speech from byte `offset` on."""
        return b"".join(self.kept)[max(0, offset - self.kept_from) :]

    def kept_between(self, first: int, last: int) -> bytes:
        """The kept speech from byte `first` up to byte `last`."""
        parts: list[bytes] = []
        at = self.kept_from
        for chunk in self.kept:
            if at >= last:
                break
            if at + len(chunk) > first:
                parts.append(chunk[max(0, first - at) : last - at])
            at += len(chunk)
        return b"".join(parts)

    def forget_before(self, offset: int) -> None:
        """Drop the speech before byte `offset`. A chunk that reaches beyond it stays."""
        passed = 0
        for chunk in self.kept:
            if self.kept_from + len(chunk) > offset:
                break
            self.kept_from += len(chunk)
            passed += 1
        del self.kept[:passed]


class Utterances:
    """The utterances of a call, in the order in which they are spoken."""

    def __init__(self) -> None:
        self._utterances: dict[int, Utterance] = {}
        # The utterances whose heard part is not known yet, in order.
        self._open: dict[int, Utterance] = {}
        # The highest number; 0 before the first.
        self.last = 0
        # The bytes that the line was given of open utterances.
        self._spoken_bytes = 0

    def receive(self, response: int, number: int, n_bytes: int) -> tuple[Utterance, bool]:
        """Book audio of the model. Returns its utterance, and whether the utterance is new."""
        utterance = self._utterances.get(number)
        new = utterance is None
        if utterance is None:
            utterance = self._utterances[number] = self._open[number] = Utterance(number, response)
            self.last = max(self.last, number)
            if len(self._utterances) > KEEP_UTTERANCES:
                self._forget_oldest()
        utterance.received_bytes += n_bytes
        return utterance, new

    def adopt(self, utterance: Utterance) -> None:
        """Book an utterance of the predecessor that the line still has. Numbers rise."""
        self._utterances[utterance.number] = self._open[utterance.number] = utterance
        self._spoken_bytes += utterance.spoken_bytes
        self.last = utterance.number

    def _forget_oldest(self) -> None:
        oldest = next(iter(self._utterances.values()))
        if oldest.heard_bytes is not None:
            del self._utterances[oldest.number]

    def speak(self, utterance: Utterance, data: bytes) -> None:
        """Book audio that the line is given, and keep it."""
        utterance.spoken_bytes += len(data)
        utterance.kept.append(data)
        self._spoken_bytes += len(data)

    def room_bytes(self, now_ns: int) -> int:
        """How much more the line may be given."""
        room = UNHEARD_MAX_BYTES - self._spoken_bytes
        if room < UNHEARD_MAX_BYTES // 2:  # otherwise the ear's progress does not matter
            room = UNHEARD_MAX_BYTES - self.unheard_bytes(now_ns)
        return room

    def unheard_bytes(self, now_ns: int) -> int:
        """The bytes that the line was given and the ear has not heard, by the ear's clock."""
        return self._spoken_bytes - sum(utterance.estimate_heard(now_ns, 0) for utterance in self._open.values())

    def get(self, number: int) -> Utterance | None:
        return self._utterances.get(number)

    def open(self) -> Iterator[Utterance]:
        """The utterances whose heard part is not known yet, in order. Settle none while iterating."""
        return iter(self._open.values())

    def last_open(self) -> int:
        """The last utterance that the caller has not heard to its end; 0: all was heard."""
        return next(reversed(self._open)) if self._open else 0

    def settle(self, number: int, heard_bytes: int, at_ns: int) -> Utterance | None:
        """Book how much of an utterance was heard in the end. Returns None when that was already known."""
        utterance = self._open.pop(number, None)
        if utterance is not None:
            utterance.heard_bytes = min(heard_bytes, utterance.spoken_bytes)
            utterance.settled_ns = at_ns
            utterance.kept.clear()
            self._spoken_bytes -= utterance.spoken_bytes
        return utterance
