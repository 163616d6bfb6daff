"""The greeting and its protection: during the first 500 ms at the ear, an interruption waits.

Without protection, a "hello?" at pick-up cuts off the first word, and the caller does not hear who answered. The
protection counts what was heard, not what was sent: it runs on the ear's clock, over all utterances of the greeting,
and a gap inside it makes it end later.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from shared.audio import BYTE_NS

from .chart import Table, becomes, stays
from .utterances import Utterance

# The protection ends when txpacer does not begin to pace the greeting within this time.
LATEST_NS: Final = 5_000_000_000


class Opening(Enum):
    """How far the greeting, or the recording notice, has come."""

    DUE = auto()
    ASKED = auto()
    MAKING = auto()  # the model makes it
    MADE = auto()  # all of it is in the line, or heard
    OVER = auto()  # heard, interrupted, failed, or not configured


class OpeningEvent(Enum):
    ASKED = auto()
    RECORDED = auto()  # a recording of it is given to the line
    BEGAN = auto()
    OTHER_BEGAN = auto()  # another response was made instead
    FAILED = auto()  # refused or failed: it is requested again
    SILENT = auto()  # it ended without a sound
    ENDED = auto()  # the model has made all of it
    LOST = auto()  # the session is gone
    LOST_IN_SPEECH = auto()  # the session is gone, and the beginning is in the line
    INTERRUPTED = auto()
    HEARD = auto()  # to its end


class OpeningAct(Enum):
    COUNT_HEARD = auto()
    COUNT_INTERRUPTED = auto()
    CANCEL_OTHER = auto()  # and answer the caller after this


GREETING_TABLE: Final[Table[Opening, OpeningEvent, OpeningAct]] = {
    (Opening.DUE, OpeningEvent.ASKED): (Opening.ASKED, ()),
    (Opening.DUE, OpeningEvent.RECORDED): (Opening.MADE, ()),
    (Opening.ASKED, OpeningEvent.BEGAN): (Opening.MAKING, ()),
    # The caller spoke first and is answered; that greets, too.
    **becomes((Opening.DUE, Opening.ASKED), OpeningEvent.OTHER_BEGAN, Opening.OVER),
    **becomes((Opening.ASKED, Opening.MAKING), OpeningEvent.FAILED, Opening.DUE),
    (Opening.MAKING, OpeningEvent.ENDED): (Opening.MADE, ()),
    (Opening.MAKING, OpeningEvent.SILENT): (Opening.OVER, ()),
    **becomes((Opening.ASKED, Opening.MAKING), OpeningEvent.LOST, Opening.DUE),
    # The next session continues it.
    (Opening.MAKING, OpeningEvent.LOST_IN_SPEECH): (Opening.MADE, ()),
    **becomes(
        (Opening.ASKED, Opening.MAKING, Opening.MADE),
        OpeningEvent.INTERRUPTED,
        Opening.OVER,
        OpeningAct.COUNT_INTERRUPTED,
    ),
    (Opening.MADE, OpeningEvent.HEARD): (Opening.OVER, (OpeningAct.COUNT_HEARD,)),
    **stays((Opening.MAKING, Opening.MADE, Opening.OVER), OpeningEvent.OTHER_BEGAN),
    **stays((Opening.DUE, Opening.MADE, Opening.OVER), OpeningEvent.LOST, OpeningEvent.LOST_IN_SPEECH),
    **stays((Opening.DUE, Opening.OVER), OpeningEvent.INTERRUPTED, OpeningEvent.FAILED),
    **stays((Opening.OVER,), OpeningEvent.ENDED, OpeningEvent.SILENT),
}


class Protection:
    """When the first words of a greeting are heard. `utterances` are the greeting's, in order. Times are ns."""

    def __init__(self, protect_ns: int) -> None:
        self.utterances: list[Utterance] = []
        self._protect_ns = protect_ns
        self._since_ns = 0

    def say(self, utterance: Utterance, now_ns: int) -> None:
        """The line gets the first audio of this utterance."""
        if not self.utterances:
            self._since_ns = now_ns
        self.utterances.append(utterance)

    def is_on(self, greeting: Opening, now_ns: int) -> bool:
        """The greeting is on its way, or less than `protect_ns` of it were heard."""
        if not self._protect_ns or greeting in (Opening.DUE, Opening.OVER):
            return False
        if not self.utterances:
            return greeting is not Opening.MADE
        end_ns = self.until_ns(greeting)
        return now_ns < (self._since_ns + LATEST_NS if end_ns is None else end_ns)

    def until_ns(self, greeting: Opening) -> int | None:
        """When the protection, or a shorter greeting, ends at the ear; None while that is not known."""
        left_ns = self._protect_ns
        end_ns: int | None = None
        for utterance in self.utterances:
            ear_start_ns = utterance.ear_start_ns
            if ear_start_ns is None:
                return None
            length_ns = utterance.spoken_bytes * BYTE_NS
            if length_ns >= left_ns or not utterance.ended:
                return ear_start_ns + left_ns
            left_ns -= length_ns
            end_ns = ear_start_ns + length_ns
        return None if greeting is Opening.MAKING else end_ns

    def is_heard(self) -> bool:
        """All of the greeting was heard to its end."""
        return all(u.heard_bytes is not None and u.heard_bytes >= u.received_bytes for u in self.utterances)
