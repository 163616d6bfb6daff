"""The effects of a session's coming and going: the next session is told everything, and continues."""

from __future__ import annotations

from ..models.port import (
    HearAudio,
)
from .barge_in import Floor, FloorEvent
from .built_in import ENDING, argument
from .cancel_once import Making, MakingEvent
from .commands import Command, DialModel, ForgoSession, UseSession
from .early_pause import NearEvent
from .goodbye_and_fallback import Goodbye
from .greeting_protection import Opening, OpeningEvent
from .hand_off import NOTE, HandOff, HandOffEvent
from .handed_on import why_back
from .key_events import KeyEvents
from .owed_and_retry import HEARS_AGAIN_NS, Owed
from .reconnect_and_renewal import Session, SessionAct, SessionStep
from .timers import Due
from .tool_events import error
from .tools import ToolCall, ToolEvent


class SessionEvents(KeyEvents):
    """The conversation's handling of its sessions."""

    def step_session(self, step: SessionStep, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        hands_off = self.hand_off.state is HandOff.DIALLING
        if hands_off and step is SessionStep.REFUSED:
            step = SessionStep.FAILED  # it is the other agent that is refused
        for act in self.sessions.step(step, now_ns):
            match act:
                case SessionAct.DIAL:
                    commands.append(DialModel(self._dialled_agent()))
                case SessionAct.ADOPT:
                    commands += self._adopt_session(now_ns)
                case SessionAct.FALL_BACK:
                    self._metrics.fallbacks.inc()
                    commands += self.fall_back("the model is gone", now_ns)
                case SessionAct.BACK_OFF | SessionAct.RENEW_LATER:
                    pass  # Sessions has set the time
        if hands_off and step is SessionStep.FAILED:
            commands += self._refuse_hand_off(now_ns)
        return commands

    def _dialled_agent(self) -> str:
        """The agent whose session is dialled now; "": the call's own."""
        call = self.handing_off
        is_handed_off = self.hand_off.state is HandOff.DIALLING and call is not None
        return argument(call.arguments, "agent") if is_handed_off and call is not None else ""

    def look_at_hand_off(self, now_ns: int) -> list[Command]:
        """Dial the other agent's session at once, and let it take over between two turns."""
        call = self.handing_off
        if call is None:
            return []
        if not call.is_running:  # it took too long
            self.handing_off = None
            was_dialled = self.hand_off.state is HandOff.DIALLING
            self.hand_off.step(HandOffEvent.FAILED)
            self._metrics.hand_offs["failed"].inc(was_dialled)
            return [ForgoSession(), *self.step_session(SessionStep.FAILED, now_ns)] if was_dialled else []
        if self.hand_off.state is HandOff.WANTED and self.sessions.chart.allows(SessionStep.HAND_OFF):
            self.hand_off.step(HandOffEvent.DIALLED)
            return self.step_session(SessionStep.HAND_OFF, now_ns)
        is_ready = self.hand_off.state is HandOff.DIALLING and self.sessions.chart.state is Session.STANDBY
        if is_ready and self._is_between_turns(call):
            self.caller.overlap()
            return self.step_session(SessionStep.REST, now_ns)
        return []

    def _is_between_turns(self, hand_off: ToolCall) -> bool:
        """Nobody speaks to the first agent, and it makes and owes nothing. The line may still play what it said."""
        return (
            self.making.state is Making.IDLE
            and self.asking.chart.state is Owed.NOTHING
            and self.floor.state is Floor.QUIET
            and not self.caller.is_speaking()
            and not self.playout.awaits_truth()
            and self.goodbye.state is Goodbye.NONE
            and all(call is hand_off for call in self.tools.running())
        )

    def _refuse_hand_off(self, now_ns: int) -> list[Command]:
        """The other agent's session does not come: the model learns it, and goes on."""
        call, self.handing_off = self.handing_off, None
        if not self.hand_off.step(HandOffEvent.FAILED) or call is None:
            return []
        self._metrics.hand_offs["failed"].inc()
        return self.step_tool(call, ToolEvent.ANSWERED, error("the other agent cannot be reached"), "failed", now_ns)

    def _change_agent(self, now_ns: int) -> list[Command]:
        """The dialled session is another agent's."""
        call, part, self.handing_off, self.coming = self.handing_off, self.coming, None, None
        if not self.hand_off.step(HandOffEvent.ADOPTED) or call is None or part is None:
            return []
        self._metrics.hand_offs["done"].inc()
        commands = self.step_tool(call, ToolEvent.ANSWERED, ENDING, "done", now_ns)
        self.take_part(part)
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
        is_handed_off = self.hand_off.state is HandOff.DIALLING
        commands = self._change_agent(now_ns)
        audio, again = self.caller.deliver()
        self.history.hear_again(again)
        if again and self.asking.purpose() is not None:
            # The new session hears these turns itself, and answers them.
            self.asking.not_before(now_ns + HEARS_AGAIN_NS)
        note = NOTE if is_handed_off else why_back(self.returned)
        commands += [UseSession(), *self._truth.replay(note)]
        return [*commands, HearAudio(audio)] if audio else commands
