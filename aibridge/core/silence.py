"""A caller who says nothing, and a call that lasts too long: the AI asks, says goodbye, and ends the call.

Silence is counted from what was heard: it begins when the ear has played the last of the AI's speech and nobody speaks,
no tool runs and nothing is owed. The model is asked to speak to the caller a few times; then it says goodbye. After a
goodbye of the AI, silence ends the call sooner and without a question: models say goodbye and do not call `end_call`. A
caller who speaks keeps the call, unless it has lasted too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from .chart import Table, becomes, stays

_S: Final = 1_000_000_000
# A goodbye that is not over this long after the end of the longest call is cut off.
GRACE_NS: Final = 20 * _S
# This long before its end, the model learns that a call may not last longer. Half of a short call's length at most.
WARNING_NS: Final = 60 * _S
# A greeting that is not recognised this long after the beginning of the call is none: people talk of voicemail, too.
VOICEMAIL_NS: Final = 60 * _S
WARNING: Final = "This call may last {seconds} more seconds. Bring it to an end, and say goodbye before that."


@dataclass(frozen=True)
class Patience:
    """How long a caller may be silent, and a call may last. Times in ns; 0: without limit."""

    silence_ns: int = 0
    # How often the AI asks for the caller before it says goodbye.
    nudges: int = 1
    length_ns: int = 0
    # How long both may be silent after a goodbye of the AI.
    goodbye_ns: int = 0
    # Words of a goodbye beside those that phrases.py knows.
    goodbyes: tuple[str, ...] = ()
    # End the call when its caller is a voicemail greeting.
    ends_voicemail: bool = False

    @property
    def warning_ns(self) -> int:
        """The age at which the model is told of the end; 0: never."""
        return max(self.length_ns - WARNING_NS, self.length_ns // 2) if self.length_ns else 0


class Silence(Enum):
    WAITING = auto()
    ENDING = auto()  # the goodbye is owed, or said


class SilenceEvent(Enum):
    SILENT = auto()  # long enough for a question
    SILENT_TO_THE_LAST = auto()  # the caller has answered no question
    SILENT_AFTER_GOODBYE = auto()  # the AI has said goodbye, and the caller nothing that had to be answered
    TOO_LONG = auto()  # the call has reached its longest
    CALLER_SPEAKS = auto()


class SilenceAct(Enum):
    NUDGE = auto()
    SAY_FAREWELL = auto()
    END_CALL = auto()
    FORGIVE = auto()  # count from the start


SILENCE_TABLE: Final[Table[Silence, SilenceEvent, SilenceAct]] = {
    (Silence.WAITING, SilenceEvent.SILENT): (Silence.WAITING, (SilenceAct.NUDGE,)),
    (Silence.WAITING, SilenceEvent.SILENT_TO_THE_LAST): (Silence.ENDING, (SilenceAct.SAY_FAREWELL,)),
    **becomes(Silence, SilenceEvent.SILENT_AFTER_GOODBYE, Silence.ENDING, SilenceAct.END_CALL),
    **becomes(Silence, SilenceEvent.TOO_LONG, Silence.ENDING, SilenceAct.SAY_FAREWELL),
    **becomes(Silence, SilenceEvent.CALLER_SPEAKS, Silence.WAITING, SilenceAct.FORGIVE),
    **stays((Silence.ENDING,), SilenceEvent.SILENT, SilenceEvent.SILENT_TO_THE_LAST),
}
