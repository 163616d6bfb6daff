"""Greeting protection: for the first 500 ms of greeting at the ear an interruption waits.

Without it, a "hello?" at pick-up cuts the first word off, and the caller hears nothing that would tell who answered.
What counts is what was heard, not what was sent: the protection runs on the ear's clock, over all audio items of the
greeting, and a gap inside it makes it end later.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from shared.audio import BYTE_NS

from .ledger import Utterance

# A greeting that txpacer does not begin to pace within this time protects nothing any more.
LATEST_NS: Final = 5_000_000_000


class Stage(Enum):
    NONE = auto()  # the caller speaks first
    DUE = auto()  # to be asked for as soon as there is a session
    ASKED = auto()
    MAKING = auto()  # the server is making it, or the recording is being said
    MADE = auto()
    OVER = auto()  # heard, interrupted or failed


class Greeting:
    """`utterances` are its audio items, in order. Times are ns, monotonic."""

    def __init__(self, *, is_due: bool, protect_ns: int) -> None:
        self.stage = Stage.DUE if is_due else Stage.NONE
        self.utterances: list[Utterance] = []
        self._protect_ns = protect_ns
        self._since_ns = 0

    def say(self, utterance: Utterance, now_ns: int) -> None:
        """Audio of it goes to the line, for the first time of this item."""
        if not self.utterances:
            self._since_ns = now_ns
        self.utterances.append(utterance)

    def is_protected(self, now_ns: int) -> bool:
        """It is on its way, or is being heard and has not been for `protect_ns`."""
        if not self._protect_ns or self.stage in (Stage.NONE, Stage.DUE, Stage.OVER):
            return False
        if not self.utterances:
            return self.stage is not Stage.MADE
        end_ns = self.protected_until_ns()
        return now_ns < (self._since_ns + LATEST_NS if end_ns is None else end_ns)

    def protected_until_ns(self) -> int | None:
        """When the protection ends at the ear, or the greeting if it is shorter; None while that is not known."""
        left_ns = self._protect_ns
        end_ns: int | None = None
        for utterance in self.utterances:
            if utterance.ear_start_ns is None:
                return None
            length_ns = utterance.spoken_bytes * BYTE_NS
            if length_ns >= left_ns or not utterance.ended:
                return utterance.ear_start_ns + left_ns
            left_ns -= length_ns
            end_ns = utterance.ear_start_ns + length_ns
        return None if self.stage is Stage.MAKING else end_ns

    def is_heard(self) -> bool:
        """All of it was heard to its end."""
        return self.stage is Stage.MADE and all(
            u.heard_bytes is not None and u.heard_bytes >= u.received_bytes for u in self.utterances
        )
