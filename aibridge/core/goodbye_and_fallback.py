"""How a conversation ends: with an order, after everything before it was heard; or with the fallback.

The model's order to hang up, or to connect the caller to somebody else, waits until the caller has heard what was said
before it and is silent. A caller who interrupts that keeps the call, and the model learns it. The fallback does not
wait for the caller: the model is gone for good.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from .chart import Table, becomes, stays


class Goodbye(Enum):
    NONE = auto()
    PENDING = auto()  # the order waits until the caller has heard everything
    OVER = auto()  # the call was handed on; nothing happens any more


class GoodbyeEvent(Enum):
    ORDERED = auto()
    SPOKEN_OVER = auto()  # the caller interrupts
    HEARD = auto()  # everything was heard, nobody speaks, and nothing is owed
    MODEL_GONE = auto()  # for good


class GoodbyeAct(Enum):
    END_CALL = auto()
    SAY_FALLBACK = auto()
    CALL_OFF = auto()  # the model learns that its order is not carried out


GOODBYE_TABLE: Final[Table[Goodbye, GoodbyeEvent, GoodbyeAct]] = {
    **becomes((Goodbye.NONE, Goodbye.PENDING), GoodbyeEvent.ORDERED, Goodbye.PENDING),
    (Goodbye.PENDING, GoodbyeEvent.SPOKEN_OVER): (Goodbye.NONE, (GoodbyeAct.CALL_OFF,)),
    (Goodbye.PENDING, GoodbyeEvent.HEARD): (Goodbye.OVER, (GoodbyeAct.END_CALL,)),
    **becomes(
        (Goodbye.NONE, Goodbye.PENDING),
        GoodbyeEvent.MODEL_GONE,
        Goodbye.OVER,
        GoodbyeAct.SAY_FALLBACK,
        GoodbyeAct.END_CALL,
    ),
    **stays((Goodbye.NONE,), GoodbyeEvent.SPOKEN_OVER),
    **stays((Goodbye.OVER,), GoodbyeEvent.MODEL_GONE),
}
