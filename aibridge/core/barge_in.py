"""Who has the floor: what the caller's speech does to the AI's, with greeting protection and confirmation.

The model reports the beginning of the caller's speech at once, and its end half a second late. At the end of a
protection and at the confirmation of an interruption, it matters whether the caller speaks *now*: there the caller's
own audio decides (caller_audio.py).

What the model takes for the caller's speech may be the AI's own voice, which comes back from a loudspeaker. The near
ear (near_ear/) knows it, and nothing happens. When it then hears the caller through the echo, that interrupts the AI.

INTERRUPT reaches the other regions: the response is cancelled (cancel_once.py), the line is withdrawn (playout.py), the
greeting and the goodbye end.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, Literal

from .chart import Table, becomes, stays

BargeIn = Literal["withdraw", "drain", "clear"]


class Floor(Enum):
    QUIET = auto()  # the caller is silent
    SPEAKING = auto()  # the caller speaks; nothing of the AI waits for a decision
    WAITING = auto()  # the caller speaks over protected words; the decision falls at their end
    ECHOING = auto()  # the caller is silent; the model takes the AI's echo for their speech
    CONFIRMING = auto()  # the caller speaks over the AI, the line is paused: an interruption if the speech lasts


class FloorEvent(Enum):
    SPEAKS_ALONE = auto()  # the caller begins, and there is nothing to interrupt
    SPEAKS_OVER_PROTECTED = auto()  # over the recording notice, or the first words of the greeting
    SPEAKS_OVER_AI = auto()  # over a response that is asked for, made or heard
    MAY_SPEAK_OVER_AI = auto()  # the same under BARGE_IN_CONFIRM_MS
    SPEAKS_OVER_DRAIN = auto()  # over speech that BARGE_IN=drain plays to its end
    SPEAKS_BRIEFLY = auto()  # over the AI, and it is over already: a sign of listening, no interruption
    ECHOES = auto()  # it is the AI's echo
    FALLS_SILENT = auto()
    PROTECTION_ENDS = auto()  # the caller still speaks, and there is something to interrupt
    PROTECTION_ENDS_IN_SILENCE = auto()  # the caller is silent again, or there is nothing to interrupt
    SPEECH_LASTS = auto()
    SPEECH_LASTS_ALONE = auto()  # the AI has finished meanwhile
    SPEECH_DOES_NOT_LAST = auto()
    SESSION_LOST = auto()  # no session reports the caller's speech until the next one is ready


class FloorAct(Enum):
    INTERRUPT = auto()
    INTERRUPT_LATE = auto()  # the same after a protection
    PAUSE_LINE = auto()
    RESUME_LINE = auto()
    KEEP_CALL = auto()  # undo a goodbye
    COUNT_PROTECTED = auto()
    COUNT_FALSE_ALARM = auto()
    COUNT_ECHO = auto()


_AT_REST: Final = (Floor.QUIET, Floor.SPEAKING, Floor.ECHOING)
_NOT_CONFIRMING: Final = (*_AT_REST, Floor.WAITING)

FLOOR_TABLE: Final[Table[Floor, FloorEvent, FloorAct]] = {
    **becomes(_NOT_CONFIRMING, FloorEvent.SPEAKS_ALONE, Floor.SPEAKING),
    **becomes(_AT_REST, FloorEvent.SPEAKS_OVER_PROTECTED, Floor.WAITING, FloorAct.COUNT_PROTECTED),
    **becomes(_NOT_CONFIRMING, FloorEvent.SPEAKS_OVER_AI, Floor.SPEAKING, FloorAct.INTERRUPT),
    **becomes(_NOT_CONFIRMING, FloorEvent.MAY_SPEAK_OVER_AI, Floor.CONFIRMING, FloorAct.PAUSE_LINE),
    **becomes(_NOT_CONFIRMING, FloorEvent.SPEAKS_OVER_DRAIN, Floor.SPEAKING, FloorAct.KEEP_CALL),
    **becomes(_NOT_CONFIRMING, FloorEvent.SPEAKS_BRIEFLY, Floor.SPEAKING, FloorAct.COUNT_FALSE_ALARM),
    (Floor.QUIET, FloorEvent.ECHOES): (Floor.ECHOING, (FloorAct.COUNT_ECHO,)),
    **becomes((Floor.SPEAKING, Floor.WAITING, Floor.ECHOING), FloorEvent.FALLS_SILENT, Floor.QUIET),
    (Floor.CONFIRMING, FloorEvent.FALLS_SILENT): (
        Floor.QUIET,
        (FloorAct.COUNT_FALSE_ALARM, FloorAct.RESUME_LINE),
    ),
    (Floor.WAITING, FloorEvent.PROTECTION_ENDS): (Floor.SPEAKING, (FloorAct.INTERRUPT_LATE,)),
    (Floor.WAITING, FloorEvent.PROTECTION_ENDS_IN_SILENCE): (Floor.SPEAKING, ()),
    # A withdrawal ends the pause by itself; RESUME_LINE does nothing then.
    (Floor.CONFIRMING, FloorEvent.SPEECH_LASTS): (Floor.SPEAKING, (FloorAct.INTERRUPT, FloorAct.RESUME_LINE)),
    (Floor.CONFIRMING, FloorEvent.SPEECH_LASTS_ALONE): (Floor.SPEAKING, (FloorAct.RESUME_LINE,)),
    (Floor.CONFIRMING, FloorEvent.SPEECH_DOES_NOT_LAST): (
        Floor.SPEAKING,
        (FloorAct.COUNT_FALSE_ALARM, FloorAct.RESUME_LINE),
    ),
    **becomes(_NOT_CONFIRMING, FloorEvent.SESSION_LOST, Floor.QUIET),
    (Floor.CONFIRMING, FloorEvent.SESSION_LOST): (Floor.QUIET, (FloorAct.RESUME_LINE,)),
    **stays((Floor.WAITING,), FloorEvent.SPEAKS_OVER_PROTECTED),
    **stays((Floor.ECHOING,), FloorEvent.ECHOES),
    **stays(
        (Floor.CONFIRMING,),
        FloorEvent.SPEAKS_ALONE,
        FloorEvent.SPEAKS_OVER_PROTECTED,
        FloorEvent.SPEAKS_OVER_AI,
        FloorEvent.MAY_SPEAK_OVER_AI,
        FloorEvent.SPEAKS_OVER_DRAIN,
        FloorEvent.SPEAKS_BRIEFLY,
    ),
}
