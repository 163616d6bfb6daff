"""One call's turn taking: events in, commands out; no socket, no clock, no provider.

A statechart of parallel regions, each moved by a table of its own:

    making    what the model does for this call            cancel_once.py
    truth     what the model knows of each response        responses.py, truncate_to_heard.py
    line      what the caller is going to hear             playout.py
    floor     who speaks                                   barge_in.py
    notice    the recording notice                         recording_notice.py
    greeting  the greeting and its protection              greeting_protection.py
    owed      what is asked for next, and retries          owed_and_retry.py
    session   what there is between call and model         reconnect_and_renewal.py
    goodbye   how the call ends                            goodbye_and_fallback.py

`_react` and `report` show what each event does in the regions, in order. `settle` then does what has become possible.
Times are ns, monotonic.
"""

from __future__ import annotations

import random
from typing import Final, assert_never

from shared.messages import MarkHeard, PlayoutFinished, PlayoutShifted, PlayoutStarted, Withdrawn
from shared.plan import CallOrder, CallPlan, HangUp

from ..models.port import (
    HANG_UP_TOOL,
    AnswerTool,
    Ask,
    CallerSilent,
    CallerSpeaks,
    CallerWords,
    Cancel,
    DialFailed,
    Fault,
    HearAudio,
    ModelEvent,
    Numbers,
    Purpose,
    ResponseBegan,
    ResponseEnded,
    SessionEvent,
    SessionLost,
    SessionReady,
    Speech,
    SpeechEnded,
    ToolCalled,
    Truncated,
    TurnTaken,
    Words,
)
from . import recording_notice
from .barge_in import FLOOR_TABLE, Floor, FloorAct, FloorEvent
from .caller_audio import CallerAudio
from .cancel_once import CANCELLED_NS, MAKING_TABLE, Making, MakingAct, MakingEvent
from .chart import Chart
from .commands import Command, DialModel, EndCall, LeaveSession, UseSession
from .goodbye_and_fallback import GOODBYE_TABLE, Goodbye, GoodbyeAct, GoodbyeEvent
from .greeting_protection import GREETING_TABLE, Opening, OpeningAct, OpeningEvent, Protection
from .history import History
from .metrics import ConversationMetrics
from .owed_and_retry import ANSWER_NS, HEARS_AGAIN_NS, Asking, Owed, OwedEvent
from .playout import LineEvent, Playout
from .reconnect_and_renewal import Session, SessionAct, Sessions, SessionStep
from .recording_notice import NOTICE_TABLE
from .responses import Response, Responses, Truth, TruthEvent
from .rules import Line, Rules, Script
from .timers import Due, Timers
from .truncate_to_heard import TruthTeller
from .utterances import Utterance, Utterances

# A response that yields nothing for this long while the caller hears nothing never ends. It is the longest that a model
# was meant to think before it speaks, and longer than any caller waits.
STALLED_NS: Final = 20_000_000_000
# A response that yields nothing is looked at this often while the caller still hears the rest of it.
STALL_AGAIN_NS: Final = 1_000_000_000

Report = PlayoutStarted | PlayoutShifted | PlayoutFinished | Withdrawn


class Conversation:
    """Feed it what happens, with the time; carry out the commands that it returns, in order."""

    def __init__(
        self,
        *,
        script: Script,
        rules: Rules,
        metrics: ConversationMetrics,
        rng: random.Random,
        numbers: Numbers | None = None,
        plan: CallPlan | None = None,
    ) -> None:
        self.plan = plan or CallPlan()
        self.numbers = numbers or Numbers()
        self._script = script
        self._rules = rules
        self._metrics = metrics
        illegal = metrics.illegal
        self.timers = Timers()
        self.caller = CallerAudio()
        self.history = History()
        self.utterances = Utterances()
        self.responses = Responses(illegal)
        self._truth = TruthTeller(self.utterances, self.history, metrics)
        # The regions.
        self.making = Chart(MAKING_TABLE, Making.IDLE, illegal)
        self.floor = Chart(FLOOR_TABLE, Floor.QUIET, illegal)
        self.notice = Chart(NOTICE_TABLE, Opening.DUE if script.notice.text else Opening.OVER, illegal)
        self.greeting = Chart(GREETING_TABLE, Opening.DUE if script.greeting.text else Opening.OVER, illegal)
        self.goodbye = Chart(GOODBYE_TABLE, Goodbye.NONE, illegal)
        self.asking = Asking(self.timers, illegal, rng)
        self.sessions = Sessions(
            self.timers, illegal, reconnect_ns=rules.reconnect_ns, renew_ns=rules.renew_ns, rng=rng
        )
        self.playout = Playout(
            utterances=self.utterances,
            responses=self.responses,
            history=self.history,
            truth=self._truth,
            timers=self.timers,
            barge_in=rules.barge_in,
            lead_ns=rules.lead_ns,
            metrics=metrics,
        )
        self.protection = Protection(rules.protect_ns)
        # The utterances of the recording notice.
        self.notice_said: list[Utterance] = []
        # What the goodbye hands the call on to.
        self.order: CallOrder = HangUp()
        # The caller's last turn that the model has; 0: none.
        self._last_turn = 0
        # When the caller's speech began last, and when the turn ended that was not answered yet (0: there is none).
        self._speech_ns = self._stopped_ns = 0
        # When the session was lost (0: it was not), and when something of the active response came last.
        self._lost_ns = self._made_ns = 0

    @property
    def ended(self) -> bool:
        """The call was handed on: nothing happens any more."""
        return self.goodbye.state is Goodbye.OVER

    def start(self, now_ns: int) -> list[Command]:
        """The media socket is open, and a session is being dialled. Recordings are said at once."""
        self.sessions.start(now_ns)
        return self._say_recordings(now_ns)

    # --- what each event does -----------------------------------------------------------------------------------

    def receive(self, event: ModelEvent | SessionEvent, now_ns: int) -> list[Command]:
        """An event of the call's session, or of the session that is dialled."""
        if type(event) is Speech:  # nearly every one
            return self._on_speech(event, now_ns)
        if self.ended or not (self.sessions.is_live or isinstance(event, SessionReady | DialFailed)):
            self._metrics.illegal.inc()
            return []
        if type(event) is Words:
            self._made_ns = now_ns
            self.history.add_words(event.utterance, event.text, is_all=event.is_all)
            return []
        return self._react(event, now_ns) + self.settle(now_ns)

    def _react(self, event: ModelEvent | SessionEvent, now_ns: int) -> list[Command]:
        match event:
            case SessionReady():
                return self._step_session(SessionStep.READY, now_ns)
            case DialFailed(is_refused):
                return self._step_session(SessionStep.REFUSED if is_refused else SessionStep.FAILED, now_ns)
            case SessionLost():
                return self._lose_session(now_ns)
            case CallerSpeaks(turn):
                self._speech_ns, self._stopped_ns = now_ns, 0
                self.asking.step(OwedEvent.FORGIVEN, now_ns)  # the turn that begins now is answered instead
                self.caller.turn_started()
                self.history.speech_started(turn, now_ns)
                return self._step_floor(self._spoken_over(now_ns), now_ns)
            case CallerSilent(turn):
                if not self.floor.allows(FloorEvent.FALLS_SILENT):
                    self._metrics.illegal.inc()
                    return []
                self._stopped_ns = now_ns
                self.history.speech_stopped(turn, now_ns)
                commands = self._step_floor(FloorEvent.FALLS_SILENT, now_ns)
                is_free = self.making.state is Making.IDLE
                self.asking.step(OwedEvent.TURN_ENDED if is_free else OwedEvent.TURN_ENDED_DURING_RESPONSE, now_ns)
                return commands
            case TurnTaken(turn):
                self.caller.turn_taken(turn, has_speech=self.history.taken(turn))
                self._last_turn = turn
            case CallerWords(turn, text):
                self.history.caller_words(turn, text)
                if text:
                    self.caller.turn_settled(turn)
            case ResponseBegan():
                return self._on_began(event, now_ns)
            case ResponseEnded():
                return self._on_ended(event, now_ns)
            case SpeechEnded(number):
                self._made_ns = now_ns
                utterance = self.utterances.get(number)
                return self.playout.end(utterance) if utterance is not None else []
            case ToolCalled():
                self._made_ns = now_ns
                return self._on_tool(event, now_ns)
            case Truncated(number, heard_ms):
                self._truth.confirmed(number, heard_ms)
            case Fault():
                return self._on_fault(event, now_ns)
            case Speech() | Words():
                raise AssertionError("dealt with by receive")
            case _:
                assert_never(event)
        return []

    def report(self, report: Report, now_ns: int) -> list[Command]:
        """What txpacer says about this call's line; until its very end."""
        commands: list[Command] = []
        match report:
            case PlayoutStarted():
                utterance = self.playout.started(report)
                if utterance is not None:
                    self._on_heard(utterance, report.ear_ns)
            case PlayoutShifted():
                self.playout.shifted(report)
            case PlayoutFinished():
                commands = self.playout.finished(report.utterance, report.ear_ns)
            case Withdrawn():
                commands = self.playout.withdrawn(report)
            case _:
                assert_never(report)
        return commands + self.settle(now_ns)

    def mark(self, mark: MarkHeard) -> None:
        """Twilio echoed the mark that follows an utterance."""
        self.playout.mark(mark.generation, mark.utterance, mark.at_ns)

    def next_due_ns(self) -> int | None:
        """When `advance` has something to do; None: nothing is planned."""
        return None if self.ended else self.timers.next_due_ns()

    def advance(self, now_ns: int) -> list[Command]:
        """Do what is due."""
        commands: list[Command] = []
        for due in [] if self.ended else self.timers.take(now_ns):
            match due:
                case Due.EXPECTED:
                    self.asking.step(OwedEvent.OVERDUE, now_ns)
                case Due.CREATED:
                    commands += self._on_ask_failed(now_ns)
                case Due.STALLED:
                    commands += self._look_for_progress(now_ns)
                case Due.CONFIRM:
                    commands += self._step_floor(self._confirmed(now_ns), now_ns)
                case Due.WITHDRAWN:
                    commands += self.playout.withdrawal_overdue(now_ns)
                case Due.DIAL:
                    commands += self._step_session(SessionStep.DIAL_DUE, now_ns)
                case Due.GIVE_UP:
                    commands += self._step_session(SessionStep.GIVE_UP_DUE, now_ns)
                case Due.RENEW:
                    commands += self._step_session(SessionStep.RENEW_DUE, now_ns)
                case Due.ANSWER | Due.PROTECTED:
                    pass  # settle looks at what they were waiting for
        return commands + self.settle(now_ns)

    # --- speech and responses -----------------------------------------------------------------------------------

    def _on_speech(self, event: Speech, now_ns: int) -> list[Command]:
        response = self.responses.get(event.response)
        if response is None or not response.is_making or self.ended or not self.sessions.is_live:
            self._metrics.illegal.inc()
            return []
        self._made_ns = now_ns
        utterance, is_new = self.utterances.receive(event.response, event.utterance, len(event.data))
        if not response.reaches_line or utterance.ended:
            self._metrics.late_deltas.inc()
            if is_new:
                response.utterances.append(event.utterance)
                self.playout.silence(utterance)
            return []
        if not is_new:
            return self.playout.speak(utterance, event.data, now_ns)
        commands = self.playout.begin(utterance, response)
        self.count_opening(utterance, response.purpose, now_ns)
        return commands + self.playout.speak(utterance, event.data, now_ns)

    def count_opening(self, utterance: Utterance, purpose: Purpose, now_ns: int) -> None:
        if purpose == "greeting":
            self.protection.say(utterance, now_ns)
        elif purpose == "notice":
            self.notice_said.append(utterance)

    def _on_began(self, event: ResponseBegan, now_ns: int) -> list[Command]:
        if self.responses.get(event.response) is not None or not self.making.allows(MakingEvent.BEGAN):
            self._metrics.illegal.inc()
            return []
        was_asked = self.making.state in (Making.REQUESTED, Making.UNWANTED)
        is_unwanted = self.making.state is Making.UNWANTED
        purpose = event.purpose if was_asked and event.purpose == self.asking.requested else None
        turn = self._last_turn if purpose not in ("notice", "greeting") else 0
        self.responses.add(event.response, purpose or "answer", turn=turn)
        self._made_ns = now_ns
        self.timers.set(Due.STALLED, now_ns + STALLED_NS)
        self.asking.began()
        commands = self._step_making(MakingEvent.BEGAN, now_ns)
        if purpose == "notice":
            self.notice.step(OpeningEvent.BEGAN)
            return commands
        if OpeningAct.CANCEL_OTHER in self.notice.step(OpeningEvent.OTHER_BEGAN):
            self.asking.owe("answer", now_ns)
            return commands + self._step_making(MakingEvent.INTERRUPTED, now_ns)
        self.greeting.step(OpeningEvent.BEGAN if purpose == "greeting" else OpeningEvent.OTHER_BEGAN)
        if not is_unwanted:  # else it answers nobody
            self.asking.step(OwedEvent.FORGIVEN, now_ns)
        return commands

    def _on_ended(self, event: ResponseEnded, now_ns: int) -> list[Command]:
        response = self.responses.get(event.response)
        if response is None or not response.is_making:
            self._metrics.illegal.inc()
            return []
        is_wanted, spoke = response.reaches_line, bool(response.utterances)
        for number in event.unspoken:
            utterance, _ = self.utterances.receive(event.response, number, 0)
            self.playout.silence(utterance)
            response.utterances.append(number)
        commands = self.playout.end_all(event.response)
        if self.responses.active is response:
            self.timers.cancel(Due.STALLED)
            commands += self._step_making(MakingEvent.ENDED, now_ns)
        self.responses.end(response, event.cut_short)
        commands += self._truth.tell(response)
        if event.usage is not None:
            self.history.usage.add(event.usage)
        if event.outcome == "completed":
            self.asking.failures = 0
        if event.outcome == "fatal":
            commands += self._step_session(SessionStep.FATAL, now_ns)
        elif is_wanted:
            commands += self._on_made(response, event, spoke=spoke, now_ns=now_ns)
        self.asking.response_ended(now_ns)
        return commands

    def _on_made(self, response: Response, event: ResponseEnded, *, spoke: bool, now_ns: int) -> list[Command]:
        """A response ended that nobody interrupted: it is made, or has failed."""
        purpose = response.purpose
        if purpose == "notice":
            is_whole = spoke and event.outcome == "completed"
            self.notice.step(OpeningEvent.ENDED if is_whole else OpeningEvent.FAILED)
            return [] if is_whole else self._retry(purpose, now_ns)
        failed = event.outcome == "failed" or (event.outcome == "incomplete" and not spoke)
        if purpose == "greeting":
            without = OpeningEvent.FAILED if failed else OpeningEvent.SILENT
            self.greeting.step(OpeningEvent.ENDED if spoke else without)
        return self._retry("continue" if spoke else purpose, now_ns) if failed else []

    def _on_tool(self, event: ToolCalled, now_ns: int) -> list[Command]:
        response = self.responses.get(event.response)
        if response is None or response.truth.state in (Truth.TOLD, Truth.TOLD_CUT):
            return []  # nobody waits for the answer
        if response.truth.state in (Truth.SILENCED, Truth.CUT):
            return [AnswerTool(event.tool_call, '{"error": "the caller interrupted; it was not done"}')]
        if event.name == HANG_UP_TOOL:
            self.order = HangUp()
            self.goodbye.step(GoodbyeEvent.ORDERED)
            return [AnswerTool(event.tool_call, '{"ok": true}')]
        self.asking.owe("answer", now_ns)
        return [AnswerTool(event.tool_call, '{"error": "no such function"}')]

    def _on_fault(self, fault: Fault, now_ns: int) -> list[Command]:
        is_ours = bool(self.asking.request) and fault.request == self.asking.request
        match fault.kind:
            case "cancel_too_late":
                self._metrics.cancel_not_active.inc()
                return self._step_making(MakingEvent.CANCEL_REFUSED, now_ns)
            case "busy":
                # Our Ask crossed the model's own response; or the model's own was refused, and it says so to us, too.
                self._metrics.already_active.inc()
                return self._on_ask_failed(now_ns, is_crossed=True) if is_ours else []
            case "fatal":
                self._metrics.errors.inc()
                return self._step_session(SessionStep.FATAL, now_ns)
            case "other":
                self._metrics.errors.inc()
                return self._on_ask_failed(now_ns) if is_ours else []

    def _on_ask_failed(self, now_ns: int, *, is_crossed: bool = False) -> list[Command]:
        """What was asked for does not come. `is_crossed`: the model was making a response of its own."""
        purpose = self.asking.refused()
        commands = self._step_making(MakingEvent.REFUSED, now_ns)
        if purpose == "notice":
            self.notice.step(OpeningEvent.FAILED)
        elif purpose == "greeting":
            self.greeting.step(OpeningEvent.OTHER_BEGAN if is_crossed else OpeningEvent.FAILED)
        if is_crossed:
            self.asking.not_before(now_ns + ANSWER_NS)
            return commands
        return commands + self._retry(purpose, now_ns)

    def _retry(self, purpose: Purpose, now_ns: int) -> list[Command]:
        """A response failed: ask again, and in the end give the caller the fallback."""
        if self.floor.state is not Floor.QUIET and purpose != "notice":
            return []  # the turn that is being spoken is answered
        pause_ns = self.asking.retry_after_ns()
        if pause_ns is None:
            if purpose == "greeting":
                self._metrics.greetings_failed.inc()
            self._metrics.fallbacks.inc()
            return self._fall_back("the model fails", now_ns)
        self._metrics.retries.inc()
        self.asking.owe(purpose, now_ns)
        self.asking.not_before(now_ns + pause_ns)
        return []

    def _step_making(self, event: MakingEvent, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        for act in self.making.step(event):
            response = self.responses.active
            assert act is MakingAct.CANCEL
            assert response is not None  # ACTIVE and CANCELLING mean that there is one
            response.truth.step(TruthEvent.INTERRUPTED)
            self.timers.set(Due.STALLED, now_ns + CANCELLED_NS)
            self._metrics.cancels.inc()
            if self.floor.state is not Floor.QUIET:
                self._metrics.cancel.observe((now_ns - self._speech_ns) / 1e9)
            commands.append(Cancel(response.number))
        return commands

    def _look_for_progress(self, now_ns: int) -> list[Command]:
        """A response ought to have ended: a session that does not go on with it, and still answers pings, is lost."""
        stalled_ns = self._made_ns + STALLED_NS
        if self.making.state is Making.ACTIVE:
            is_heard = not self.utterances.unheard_bytes(now_ns)
            if now_ns < stalled_ns or not is_heard:
                self.timers.set(Due.STALLED, stalled_ns if now_ns < stalled_ns else now_ns + STALL_AGAIN_NS)
                return []
        self._metrics.stalled.inc()
        return [LeaveSession(), *self._lose_session(now_ns)]

    # --- the floor ----------------------------------------------------------------------------------------------

    def _is_interruptible(self) -> bool:
        """The AI does something that an interruption would stop."""
        if self.making.state in (Making.REQUESTED, Making.ACTIVE):
            return True
        return self._rules.barge_in != "drain" and self.playout.is_audible()

    def _is_protected(self, now_ns: int) -> bool:
        return recording_notice.is_protected(self.notice.state) or self.protection.is_on(self.greeting.state, now_ns)

    def _spoken_over(self, now_ns: int) -> FloorEvent:
        """What the caller who begins to speak speaks over."""
        if self._is_protected(now_ns):
            return FloorEvent.SPEAKS_OVER_PROTECTED
        if self._is_interruptible():
            confirms = self._rules.confirm_ns and self._rules.barge_in != "drain"
            return FloorEvent.MAY_SPEAK_OVER_AI if confirms else FloorEvent.SPEAKS_OVER_AI
        return FloorEvent.SPEAKS_OVER_DRAIN if self.playout.is_audible() else FloorEvent.SPEAKS_ALONE

    def _confirmed(self, now_ns: int) -> FloorEvent:
        """Whether the speech that paused the line has lasted."""
        if not self.caller.is_speaking():
            return FloorEvent.SPEECH_DOES_NOT_LAST
        is_over = self._is_interruptible() and not self._is_protected(now_ns)
        return FloorEvent.SPEECH_LASTS if is_over else FloorEvent.SPEECH_LASTS_ALONE

    def _step_floor(self, event: FloorEvent, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        for act in self.floor.step(event):
            match act:
                case FloorAct.INTERRUPT:
                    commands += self._interrupt(now_ns, protected=False)
                case FloorAct.INTERRUPT_LATE:
                    commands += self._interrupt(now_ns, protected=True)
                case FloorAct.PAUSE_LINE:
                    self.timers.set(Due.CONFIRM, now_ns + self._rules.confirm_ns)
                    commands += self.playout.step(LineEvent.PAUSE)
                case FloorAct.RESUME_LINE:
                    self.timers.cancel(Due.CONFIRM)
                    commands += self.playout.step(LineEvent.RESUME)
                case FloorAct.KEEP_CALL:
                    self.goodbye.step(GoodbyeEvent.SPOKEN_OVER)
                case FloorAct.COUNT_PROTECTED:
                    self._metrics.protected.inc()
                case FloorAct.COUNT_FALSE_ALARM:
                    self._metrics.false_alarms.inc()
        return commands

    def _interrupt(self, now_ns: int, *, protected: bool) -> list[Command]:
        self._metrics.interruptions.inc()
        commands = self._step_making(MakingEvent.INTERRUPTED, now_ns)
        cancelled = bool(commands)
        if self._rules.barge_in != "drain":
            self._metrics.cancels_spared.inc(not cancelled)
            commands += self.playout.interrupt(self._speech_ns, now_ns, protected=protected, cancelled=cancelled)
        self._metrics.greetings_interrupted.inc(len(self.greeting.step(OpeningEvent.INTERRUPTED)))
        self.goodbye.step(GoodbyeEvent.SPOKEN_OVER)
        return commands

    def _on_heard(self, utterance: Utterance, ear_ns: int) -> None:
        """The ear begins to play it."""
        if self._stopped_ns:
            self._metrics.response.observe(max(0, ear_ns - self._stopped_ns) / 1e9)
            self._stopped_ns = 0
        response = self.responses.get(utterance.response)
        if response is not None and response.turn:
            self.caller.answer_heard(response.turn)

    # --- sessions -----------------------------------------------------------------------------------------------

    def _step_session(self, step: SessionStep, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        for act in self.sessions.step(step, now_ns):
            match act:
                case SessionAct.DIAL:
                    commands.append(DialModel())
                case SessionAct.ADOPT:
                    commands += self._adopt_session(now_ns)
                case SessionAct.FALL_BACK:
                    self._metrics.fallbacks.inc()
                    commands += self._fall_back("the model is gone", now_ns)
                case SessionAct.BACK_OFF | SessionAct.RENEW_LATER:
                    pass  # Sessions has set the time
        return commands

    def _lose_session(self, now_ns: int) -> list[Command]:
        self._lost_ns = now_ns
        active = self.responses.active
        spoke = active is not None and bool(active.utterances)
        is_complete = spoke and all(u.ended for u in self.utterances.open() if active and u.response == active.number)
        commands = self.leave_session(now_ns, spoke=spoke, is_complete=is_complete)
        return commands + self._step_session(SessionStep.LOST, now_ns)

    def leave_session(self, now_ns: int, *, spoke: bool, is_complete: bool) -> list[Command]:
        """Nothing more comes of the session. What is in the line is heard; the next session owes what this one owed.

        `spoke`: the response that it was making has begun in the line; `is_complete`: and is there to its end.
        """
        self.timers.cancel(Due.STALLED)
        was_asked = self.making.state is Making.REQUESTED
        active = self.responses.active
        is_wanted = active is not None and active.reaches_line
        self.asking.session_lost(now_ns)
        if was_asked:
            self.asking.owe(self.asking.requested, now_ns)
        elif active is not None and is_wanted and not spoke:
            self.asking.owe(active.purpose, now_ns)
        elif active is not None and is_wanted and not is_complete and active.purpose != "notice":
            self.asking.owe("continue", now_ns)
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
        return self.playout.end_all() + self._step_floor(FloorEvent.SESSION_LOST, now_ns)

    def _adopt_session(self, now_ns: int) -> list[Command]:
        """The dialled session is ours: tell it everything, and go on."""
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
        commands: list[Command] = [UseSession(), *self._truth.replay()]
        return [*commands, HearAudio(audio)] if audio else commands

    # --- what has become possible -------------------------------------------------------------------------------

    def settle(self, now_ns: int) -> list[Command]:
        if self.ended:
            return []
        commands: list[Command] = []
        if self.notice.state is Opening.MADE and recording_notice.is_heard(self.notice_said):
            self.notice.step(OpeningEvent.HEARD)
        if self.greeting.state is Opening.MADE and self.protection.is_heard():
            self._metrics.greetings_heard.inc(len(self.greeting.step(OpeningEvent.HEARD)))
        if self.floor.state is Floor.WAITING:
            commands += self._look_at_protection(now_ns)
        commands += self._say_recordings(now_ns)
        commands += self._ask(now_ns)
        if self.goodbye.state is Goodbye.PENDING and self._is_quiet():
            commands += self._end_call(GoodbyeEvent.HEARD, self.playout.unconfirmed(), "hang_up")
        elif self.sessions.chart.state is Session.STANDBY and self._is_quiet() and not self.caller.is_speaking():
            self._metrics.renewals.inc()
            self.caller.overlap()
            commands += self._step_session(SessionStep.REST, now_ns)
        return commands

    def _is_quiet(self) -> bool:
        """Nobody speaks, and nothing is being made, heard, owed or expected."""
        return (
            self.making.state is Making.IDLE
            and self.asking.chart.state is Owed.NOTHING
            and self.floor.state is Floor.QUIET
            and not self.playout.awaits_truth()
            and not self.utterances.last_open()
        )

    def _look_at_protection(self, now_ns: int) -> list[Command]:
        """An interruption waits: when the protection ends, it happens if the caller still speaks."""
        if self._is_protected(now_ns):
            end_ns = self.protection.until_ns(self.greeting.state)
            if end_ns is not None and end_ns > now_ns:
                self.timers.set(Due.PROTECTED, end_ns)
            return []
        self.timers.cancel(Due.PROTECTED)
        interrupts = self.caller.is_speaking() and self._is_interruptible()
        return self._step_floor(
            FloorEvent.PROTECTION_ENDS if interrupts else FloorEvent.PROTECTION_ENDS_IN_SILENCE, now_ns
        )

    def _ask(self, now_ns: int) -> list[Command]:
        """Ask the model for what is owed, unless something is in the way."""
        if not self.sessions.is_live or self.making.state is not Making.IDLE or not self.asking.may_ask():
            return []
        purpose = self._next_purpose()
        if purpose is None or self.playout.awaits_truth():
            return []
        self.making.step(MakingEvent.ASKED)
        if purpose == "notice":
            self.notice.step(OpeningEvent.ASKED)
        elif self.greeting.state is Opening.DUE:
            self.greeting.step(OpeningEvent.ASKED if purpose == "greeting" else OpeningEvent.OTHER_BEGAN)
        return [Ask(self.asking.asked(purpose, now_ns), purpose)]

    def _next_purpose(self) -> Purpose | None:
        if self.notice.state is Opening.DUE:
            return "notice"
        if self.floor.state is not Floor.QUIET:
            return None
        is_greeting = self.greeting.state is Opening.DUE and self.asking.chart.state is Owed.NOTHING
        return "greeting" if is_greeting else self.asking.purpose()

    # --- recordings and the end ---------------------------------------------------------------------------------

    def _say_recordings(self, now_ns: int) -> list[Command]:
        """The notice and the greeting, as far as they are recorded and it is their turn."""
        commands: list[Command] = []
        script = self._script
        if self.notice.state is Opening.DUE and script.notice.audio:
            self.notice.step(OpeningEvent.RECORDED)
            commands += self._say(script.notice, "notice", now_ns)
        if (
            self.greeting.state is Opening.DUE
            and script.greeting.audio
            and recording_notice.is_in_line(self.notice.state)
            and self.floor.state is Floor.QUIET
            and self.asking.chart.state is Owed.NOTHING
        ):
            self.greeting.step(OpeningEvent.RECORDED)
            commands += self._say(script.greeting, "greeting", now_ns)
        return commands

    def _say(self, line: Line, purpose: Purpose, now_ns: int) -> list[Command]:
        """Play a recording as an utterance of its own; the model is told its words when a session is there."""
        response = self.responses.add(self.numbers.next_response(), purpose, Truth.TOLD)
        utterance, _ = self.utterances.receive(response.number, self.numbers.next_utterance(), len(line.audio))
        commands = self.playout.begin(utterance, response)
        self.history.add_words(utterance.number, line.text, is_all=True)
        self.count_opening(utterance, purpose, now_ns)
        return [*commands, *self.playout.speak(utterance, line.audio, now_ns), *self.playout.end(utterance)]

    def _fall_back(self, reason: str, now_ns: int) -> list[Command]:
        """The model is gone for good: what is in the line is heard, then the recorded sentence, then the order."""
        if self.ended:
            return []
        self.order = self._script.fallback_order
        commands = self._step_floor(FloorEvent.SESSION_LOST, now_ns) + self.playout.end_all()
        return commands + self._end_call(GoodbyeEvent.MODEL_GONE, self.utterances.last_open(), reason, now_ns)

    def _end_call(self, event: GoodbyeEvent, after: int, reason: str, now_ns: int = 0) -> list[Command]:
        commands: list[Command] = []
        for act in self.goodbye.step(event):
            if act is GoodbyeAct.END_CALL:
                commands.append(EndCall(self.order, after, reason))
            elif self._script.fallback.audio:
                commands += self._say(self._script.fallback, "answer", now_ns)
                after = self.utterances.last
        return commands
