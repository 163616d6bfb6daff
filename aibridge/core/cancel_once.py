"""The model's work for this conversation: one response at a time, cancelled at most once.

A cancel is sent only while the model makes the response. A finished response is often heard for further seconds, and
the model would refuse its cancel. A requested response has no number yet: it is cancelled when it begins.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from .chart import Table, becomes, stays

# From the cancel to the end of the response; a model takes less than 100 ms.
CANCELLED_NS: Final = 5_000_000_000


class Making(Enum):
    IDLE = auto()
    REQUESTED = auto()  # asked for, not begun
    UNWANTED = auto()  # asked for, and to be cancelled when it begins
    ACTIVE = auto()
    CANCELLING = auto()  # cancelled, not ended


class MakingEvent(Enum):
    ASKED = auto()
    REFUSED = auto()  # the requested response does not come
    BEGAN = auto()  # ours, or the model's own answer to the caller
    INTERRUPTED = auto()
    CANCEL_REFUSED = auto()  # the cancel crossed the end of the response
    ENDED = auto()
    LOST = auto()  # the session is gone


class MakingAct(Enum):
    CANCEL = auto()


MAKING_TABLE: Final[Table[Making, MakingEvent, MakingAct]] = {
    (Making.IDLE, MakingEvent.ASKED): (Making.REQUESTED, ()),
    # The model answers most turns unasked.
    (Making.IDLE, MakingEvent.BEGAN): (Making.ACTIVE, ()),
    (Making.REQUESTED, MakingEvent.BEGAN): (Making.ACTIVE, ()),
    (Making.UNWANTED, MakingEvent.BEGAN): (Making.CANCELLING, (MakingAct.CANCEL,)),
    **becomes((Making.REQUESTED, Making.UNWANTED), MakingEvent.REFUSED, Making.IDLE),
    (Making.REQUESTED, MakingEvent.INTERRUPTED): (Making.UNWANTED, ()),
    (Making.ACTIVE, MakingEvent.INTERRUPTED): (Making.CANCELLING, (MakingAct.CANCEL,)),
    **becomes((Making.ACTIVE, Making.CANCELLING), MakingEvent.ENDED, Making.IDLE),
    **becomes(Making, MakingEvent.LOST, Making.IDLE),
    # The request crossed the model's own response, which won.
    **stays((Making.IDLE, Making.ACTIVE, Making.CANCELLING), MakingEvent.REFUSED),
    **stays((Making.IDLE, Making.UNWANTED, Making.CANCELLING), MakingEvent.INTERRUPTED),
    **stays(Making, MakingEvent.CANCEL_REFUSED),
}
