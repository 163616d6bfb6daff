"""The recording notice: it plays first and whole, whoever speaks first, and barge-in waits for its end.

Many countries' laws ask for it. A response of the model's own that gets ahead of the notice is cancelled before a byte
of it is spoken, and the caller is answered after the notice. A notice that broke off is repeated.
"""

from __future__ import annotations

from typing import Final

from .chart import Table, becomes, stays
from .greeting_protection import Opening, OpeningAct, OpeningEvent
from .utterances import Utterance

NOTICE_TABLE: Final[Table[Opening, OpeningEvent, OpeningAct]] = {
    (Opening.DUE, OpeningEvent.ASKED): (Opening.ASKED, ()),
    (Opening.DUE, OpeningEvent.RECORDED): (Opening.MADE, ()),
    (Opening.ASKED, OpeningEvent.BEGAN): (Opening.MAKING, ()),
    **becomes((Opening.DUE, Opening.ASKED), OpeningEvent.OTHER_BEGAN, Opening.DUE, OpeningAct.CANCEL_OTHER),
    **becomes((Opening.ASKED, Opening.MAKING), OpeningEvent.FAILED, Opening.DUE),
    (Opening.MAKING, OpeningEvent.ENDED): (Opening.MADE, ()),
    **becomes((Opening.ASKED, Opening.MAKING), OpeningEvent.LOST, Opening.DUE),
    (Opening.MADE, OpeningEvent.HEARD): (Opening.OVER, ()),
    # The answer to the caller may be made meanwhile; it waits in the line.
    **stays((Opening.MAKING, Opening.MADE, Opening.OVER), OpeningEvent.OTHER_BEGAN),
    **stays((Opening.DUE, Opening.MADE, Opening.OVER), OpeningEvent.LOST),
    **stays((Opening.DUE,), OpeningEvent.FAILED),
}


def is_protected(notice: Opening) -> bool:
    """Barge-in waits."""
    return notice is not Opening.OVER


def is_in_line(notice: Opening) -> bool:
    """The responses that follow the notice may be requested."""
    return notice in (Opening.MADE, Opening.OVER)


def is_heard(utterances: list[Utterance]) -> bool:
    """The ear has played all of it."""
    return all(utterance.heard_bytes is not None for utterance in utterances)
