"""The recording notice: it plays whole and first, whoever speaks first, and barge-in waits for its end.

Many countries' laws ask for it. So a response of the model's own that gets ahead of it is cancelled before a byte of it
is spoken, and what the caller said is answered after the notice. A notice that did not come whole is said again.
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
    # While it is heard, the answer to the caller is made and waits in the line.
    **stays((Opening.MAKING, Opening.MADE, Opening.OVER), OpeningEvent.OTHER_BEGAN),
    **stays((Opening.DUE, Opening.MADE, Opening.OVER), OpeningEvent.LOST),
    **stays((Opening.DUE,), OpeningEvent.FAILED),
}


def is_protected(notice: Opening) -> bool:
    """Barge-in waits."""
    return notice is not Opening.OVER


def is_in_line(notice: Opening) -> bool:
    """What follows the notice may be asked for."""
    return notice in (Opening.MADE, Opening.OVER)


def is_heard(utterances: list[Utterance]) -> bool:
    """The ear has played all of it."""
    return all(utterance.heard_bytes is not None for utterance in utterances)
