"""The early pause: the caller's own audio pauses the line, and the model decides whether that was an interruption.

The model reports the caller's speech 300 to 500 ms after its first sound. The near ear (near_ear/) hears it after some
60 ms, and is wrong more often. So what it hears does only what can be undone: the line is paused. Nothing is cancelled,
withdrawn or told to the model; the caller hears what was paced, and then silence. When the model reports the speech,
too, the interruption takes its course (barge_in.py). When it does not in time, the line goes on with the next frame,
and the caller heard a short hesitation.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from .chart import Table, becomes, stays

# Speech that is over waits this long for the model, whose event crosses the network. The near ear reports the end of
# speech some 150 ms late, so that a noise pauses the line for less than 300 ms.
ENDED_NS: Final = 100_000_000
# After the second pause in turn that the model did not confirm, there is none for this long; it doubles with each
# further one. The AI would stutter on a line where other people speak, or music plays.
REST_NS: Final = 1_000_000_000
REST_MOST_NS: Final = 16 * REST_NS


class Near(Enum):
    QUIET = auto()  # the near ear hears no speech
    WAITING = auto()  # speech over protected words; the pause waits for their end
    PAUSED = auto()  # speech over the AI: the line is paused until the model reports it
    ENDED = auto()  # the same, and the speech is over
    SETTLED = auto()  # speech goes on, and nothing waits for it: the model knows of it, or does not take it for speech


class NearEvent(Enum):
    BEGINS_ALONE = auto()  # and there is nothing to pause, or the model knows already
    BEGINS_OVER_PROTECTED = auto()  # over the recording notice, or the first words of the greeting
    BEGINS_OVER_AI = auto()
    ENDS = auto()
    PROTECTION_ENDS = auto()
    PROTECTION_ENDS_ALONE = auto()  # there is nothing to pause any more
    REPORTED = auto()  # the model reports it, or something else has stopped the AI
    OVERDUE = auto()  # the model should have reported it
    SESSION_LOST = auto()  # no session reports anything until the next one is ready


class NearAct(Enum):
    PAUSE_LINE = auto()
    AWAIT_REPORT = auto()  # within the deadline of the pause
    AWAIT_LATE_REPORT = auto()  # for a moment
    RESUME_LINE = auto()
    COUNT_CONFIRMED = auto()
    COUNT_RESUMED = auto()


_RESUMES: Final = (NearAct.COUNT_RESUMED, NearAct.RESUME_LINE)
# After an interruption the line is withdrawn, or the floor confirms; RESUME_LINE does nothing then.
_CONFIRMED: Final = (NearAct.COUNT_CONFIRMED, NearAct.RESUME_LINE)
# A speech that begins ends the one before, whose end was not heard.
_FREE: Final = (Near.QUIET, Near.WAITING, Near.SETTLED)
_BEGINS: Final = (NearEvent.BEGINS_ALONE, NearEvent.BEGINS_OVER_PROTECTED, NearEvent.BEGINS_OVER_AI)

EARLY_PAUSE_TABLE: Final[Table[Near, NearEvent, NearAct]] = {
    **becomes(_FREE, NearEvent.BEGINS_ALONE, Near.SETTLED),
    **becomes(_FREE, NearEvent.BEGINS_OVER_PROTECTED, Near.WAITING),
    **becomes(_FREE, NearEvent.BEGINS_OVER_AI, Near.PAUSED, NearAct.PAUSE_LINE, NearAct.AWAIT_REPORT),
    (Near.WAITING, NearEvent.PROTECTION_ENDS): (Near.PAUSED, (NearAct.PAUSE_LINE, NearAct.AWAIT_REPORT)),
    (Near.WAITING, NearEvent.PROTECTION_ENDS_ALONE): (Near.SETTLED, ()),
    **becomes((Near.WAITING, Near.SETTLED), NearEvent.ENDS, Near.QUIET),
    (Near.PAUSED, NearEvent.ENDS): (Near.ENDED, (NearAct.AWAIT_LATE_REPORT,)),
    # The pause is the same one, and ends when it would have ended.
    **{(Near.ENDED, begins): (Near.PAUSED, (NearAct.AWAIT_REPORT,)) for begins in _BEGINS},
    (Near.WAITING, NearEvent.REPORTED): (Near.SETTLED, ()),
    (Near.PAUSED, NearEvent.REPORTED): (Near.SETTLED, _CONFIRMED),
    (Near.ENDED, NearEvent.REPORTED): (Near.QUIET, _CONFIRMED),
    (Near.PAUSED, NearEvent.OVERDUE): (Near.SETTLED, _RESUMES),
    (Near.ENDED, NearEvent.OVERDUE): (Near.QUIET, _RESUMES),
    (Near.WAITING, NearEvent.SESSION_LOST): (Near.SETTLED, ()),
    (Near.PAUSED, NearEvent.SESSION_LOST): (Near.SETTLED, _RESUMES),
    (Near.ENDED, NearEvent.SESSION_LOST): (Near.QUIET, _RESUMES),
    **stays((Near.PAUSED,), *_BEGINS),
    **stays((Near.QUIET, Near.ENDED), NearEvent.ENDS),
    **stays((Near.QUIET, Near.SETTLED), NearEvent.REPORTED, NearEvent.SESSION_LOST),
}
