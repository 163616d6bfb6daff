"""The effects of a session's coming and going: the next session is told everything, and continues."""

from __future__ import annotations

from ..models.port import (
    HearAudio,
)
from .barge_in import FloorEvent
from .cancel_once import Making, MakingEvent
from .commands import Command, DialModel, UseSession
from .early_pause import NearEvent
from .greeting_protection import Opening, OpeningEvent
from .handed_on import why_back
from .key_events import KeyEvents
from .owed_and_retry import HEARS_AGAIN_NS
from .reconnect_and_renewal import SessionAct, SessionStep
from .timers import Due


class SessionEvents(KeyEvents):
    """The conversation's handling of its sessions."""

    def step_session(self, step: SessionStep, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        for act in self.sessions.step(step, now_ns):
            match act:
                case SessionAct.DIAL:
                    commands.append(DialModel())
                case SessionAct.ADOPT:
                    commands += self._adopt_session(now_ns)
                case SessionAct.FALL_BACK:
                    self._metrics.fallbacks.inc()
                    commands += self.fall_back("the model is gone", now_ns)
                case SessionAct.BACK_OFF | SessionAct.RENEW_LATER:
                    pass  # Sessions has set the time
        return commands

    def lose_session(self, now_ns: int) -> list[Command]:
        self._lost_ns = now_ns
        active = self.responses.active
        spoke = active is not None and bool(active.utterances)
        is_complete = spoke and all(u.ended for u in self.utterances.open() if active and u.response == active.number)
        commands = self.leave_session(now_ns, spoke=spoke, is_complete=is_complete)
        return commands + self.step_session(SessionStep.LOST, now_ns)

    def leave_session(self, now_ns: int, *, spoke: bool, is_complete: bool) -> list[Command]:
        """The session is gone. The line plays on; the next session owes what this one owed.

        `spoke`: the active response has begun in the line; `is_complete`: the line has all of it.
        """
        self.timers.cancel(Due.STALLED)
        was_asked = self.making.state is Making.REQUESTED
        active = self.responses.active
        is_wanted = active is not None and active.reaches_line
        self.asking.session_lost(now_ns)
        if was_asked:
            self.asking.owe(self.asking.requested, now_ns)
        elif active is not None and is_wanted and not spoke and self.tools.called_by(active.number):
            pass  # the model speaks when its tools are answered
        elif active is not None and is_wanted and not spoke:
            self.asking.owe(active.purpose, now_ns)
        elif active is not None and is_wanted and not is_complete and active.purpose != "notice":
            self.asking.owe("continue", now_ns)
        self.tools_lost(now_ns)
        is_notice_whole = is_complete and self.notice.state is Opening.MAKING
        self.notice.step(OpeningEvent.ENDED if is_notice_whole else OpeningEvent.LOST)
        has_greeted = spoke and self.greeting.state is Opening.MAKING
        self.greeting.step(OpeningEvent.LOST_IN_SPEECH if has_greeted else OpeningEvent.LOST)
        self.making.step(MakingEvent.LOST)
        self.responses.lose()
        for utterance in self.utterances.open():
            response = self.responses.get(utterance.response)
            if response is not None and utterance.number > self.playout.withdrawing_through:
                self.caller.answer_heard(response.turn)  # it is going to be heard
        self.caller.session_lost()
        commands = self.playout.end_all() + self.step_floor(FloorEvent.SESSION_LOST, now_ns)
        return commands + self.step_near(NearEvent.SESSION_LOST, now_ns)

    def _adopt_session(self, now_ns: int) -> list[Command]:
        """Use the dialled session: tell it everything that was said, and continue."""
        if self._lost_ns:
            self._metrics.reconnected.inc()
            self._metrics.recovery.observe((now_ns - self._lost_ns) / 1e9)
            self._lost_ns = 0
        self.making.step(MakingEvent.LOST)
        self.responses.lose()
        audio, again = self.caller.deliver()
        self.history.hear_again(again)
        if again and self.asking.purpose() is not None:
            # The new session hears these turns itself, and answers them.
            self.asking.not_before(now_ns + HEARS_AGAIN_NS)
        commands: list[Command] = [UseSession(), *self._truth.replay(why_back(self.returned))]
        return [*commands, HearAudio(audio)] if audio else commands
