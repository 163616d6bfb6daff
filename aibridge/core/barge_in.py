"""What the caller's speech does to the AI's: what the AI is doing, and what a barge-in then consists of."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, Literal

BargeIn = Literal["withdraw", "drain", "clear"]


class Situation(Enum):
    """What the AI is doing when the caller starts to speak."""

    SILENT = auto()  # nothing is heard, waits, or is being made
    PROTECTED = auto()  # the greeting, before its first 500 ms were heard
    REQUESTED = auto()  # asked for, not begun: there is no id yet that could be cancelled
    ACTIVE = auto()  # the server is making it (heard already or not)
    CANCELLING = auto()  # it is being cancelled already; of the one before, something may still wait in the line
    GENERATED = auto()  # the server is done, the caller still hears it


class Act(Enum):
    """What a barge-in consists of."""

    REMEMBER = auto()  # look again when protection ends
    CANCEL = auto()
    CANCEL_WHEN_CREATED = auto()
    WITHDRAW = auto()


BARGE_IN_TABLE: Final[dict[Situation, tuple[Act, ...]]] = {
    Situation.SILENT: (),
    Situation.PROTECTED: (Act.REMEMBER,),
    Situation.REQUESTED: (Act.CANCEL_WHEN_CREATED, Act.WITHDRAW),
    Situation.ACTIVE: (Act.CANCEL, Act.WITHDRAW),
    Situation.CANCELLING: (Act.WITHDRAW,),
    Situation.GENERATED: (Act.WITHDRAW,),
}
# BARGE_IN=drain: what was said is said; only what is not made yet can still be stopped.
DRAIN_TABLE: Final[dict[Situation, tuple[Act, ...]]] = {
    situation: tuple(act for act in acts if act is not Act.WITHDRAW) for situation, acts in BARGE_IN_TABLE.items()
}
