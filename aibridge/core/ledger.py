"""What of each utterance was received, paced and heard: in bytes, never in wall time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shared.audio import BYTE_NS

# Speech that may wait to be heard: ten seconds less than the ten minutes at which txpacer refuses some, which would
# then count as heard.
UNHEARD_MAX_BYTES: Final = 4_720_000
# Utterances that are remembered, for late events of them: of the model's last responses, and txpacer's and Twilio's,
# which come within seconds.
KEEP_UTTERANCES: Final = 64


@dataclass(slots=True)
class Utterance:
    """One audio item of one response. `number` is what txpacer knows it by."""

    number: int
    response_id: str
    item_id: str
    content_index: int
    # What the model sent, and what of it was given to the line: after a cancel, late audio is not.
    received_bytes: int = 0
    spoken_bytes: int = 0
    # No more audio will come for it.
    ended: bool = False
    # What the caller heard of it in the end; None while that is open.
    heard_bytes: int | None = None
    # When the ear began to play it, moved by the gaps that came before or inside it; None: not paced yet.
    ear_start_ns: int | None = None
    # When the ear finished it by txpacer's account, and by Twilio's (the echo of its mark); None: not known.
    ear_end_ns: int | None = None
    mark_ns: int | None = None

    @property
    def cut(self) -> bool:
        """The caller heard less than the model said."""
        return self.heard_bytes is not None and self.heard_bytes < self.received_bytes

    def estimate_heard(self, now_ns: int, ahead_ns: int) -> int:
        """What the ear will have heard of it when nothing paced after `now_ns` arrives; `ahead_ns` is buffered there.

        By the ear's clock: the truth is what txpacer says, if it can be asked.
        """
        if self.ear_start_ns is None:
            return 0
        return min(self.spoken_bytes, max(0, now_ns + ahead_ns - self.ear_start_ns) // BYTE_NS)


class Ledger:
    """The utterances of a call, in the order in which they are spoken."""

    def __init__(self) -> None:
        self._utterances: dict[int, Utterance] = {}
        self._numbers: dict[tuple[str, str, int], int] = {}
        # Those whose heard part is not known yet, in order.
        self._open: dict[int, Utterance] = {}
        # The number given last; 0 before the first.
        self.last = 0
        # What was given to the line of those that are open.
        self._spoken_bytes = 0

    def receive(self, response_id: str, item_id: str, content_index: int, n_bytes: int) -> tuple[Utterance, bool]:
        """Book audio that came from the model. Returns its utterance, and whether that is new."""
        key = (response_id, item_id, content_index)
        number = self._numbers.get(key)
        new = number is None
        if number is None:
            self.last += 1
            number = self._numbers[key] = self.last
            self._utterances[number] = self._open[number] = Utterance(number, *key)
            self._forget_oldest()
        utterance = self._utterances[number]
        utterance.received_bytes += n_bytes
        return utterance, new

    def adopt(self, number: int, response_id: str, item_id: str, n_bytes: int) -> Utterance:
        """Book what a worker before this one gave the line. Numbers only grow."""
        self.last = number - 1
        utterance, _ = self.receive(response_id, item_id, 0, n_bytes)
        self.speak(utterance, n_bytes)
        return utterance

    def _forget_oldest(self) -> None:
        if len(self._utterances) > KEEP_UTTERANCES:
            oldest = next(iter(self._utterances.values()))
            if oldest.heard_bytes is not None:
                del self._utterances[oldest.number]
                del self._numbers[oldest.response_id, oldest.item_id, oldest.content_index]

    def speak(self, utterance: Utterance, n_bytes: int) -> None:
        """Book audio that is given to the line."""
        utterance.spoken_bytes += n_bytes
        self._spoken_bytes += n_bytes

    def room_bytes(self, now_ns: int) -> int:
        """How much more may be given to the line."""
        room = UNHEARD_MAX_BYTES - self._spoken_bytes
        if room < UNHEARD_MAX_BYTES // 2:  # else it does not matter
            room = UNHEARD_MAX_BYTES - self.unheard_bytes(now_ns)
        return room

    def unheard_bytes(self, now_ns: int) -> int:
        """What was given to the line and is not heard yet, by the ear's clock."""
        return self._spoken_bytes - sum(utterance.estimate_heard(now_ns, 0) for utterance in self._open.values())

    def of_item(self, response_id: str, item_id: str) -> list[Utterance]:
        return [u for u in self._utterances.values() if u.item_id == item_id and u.response_id == response_id]

    def find(self, response_id: str, item_id: str, content_index: int) -> Utterance | None:
        number = self._numbers.get((response_id, item_id, content_index))
        return None if number is None else self._utterances.get(number)

    def get(self, number: int) -> Utterance | None:
        return self._utterances.get(number)

    def open(self) -> Iterator[Utterance]:
        """The utterances whose heard part is not known yet, in order. Settle none while iterating."""
        return iter(self._open.values())

    def is_open_after(self, number: int) -> bool:
        """Whether an utterance behind `number` is not known to be heard yet."""
        return bool(self._open) and next(reversed(self._open)) > number

    def settle(self, number: int, heard_bytes: int) -> Utterance | None:
        """Say how much of an utterance was heard in the end; None when that is known already."""
        utterance = self._open.pop(number, None)
        if utterance is not None:
            utterance.heard_bytes = min(heard_bytes, utterance.spoken_bytes)
            self._spoken_bytes -= utterance.spoken_bytes
        return utterance
