"""The regions of one call, and the acts that involve several of them.

Methods that begin with `step_` move one region and carry out its acts. Times are ns, monotonic.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from shared.plan import CallOrder, CallPlan, Dial, HangUp

from ..models.port import (
    Cancel,
    Numbers,
    Purpose,
)
from . import recording_notice
from .barge_in import FLOOR_TABLE, Floor, FloorAct, FloorEvent
from .built_in import CALLED_OFF, CONNECTING, NOTE_CALLED_OFF, BuiltIn
from .caller_audio import CallerAudio
from .cancel_once import CANCELLED_NS, MAKING_TABLE, Making, MakingAct, MakingEvent
from .chart import Chart
from .commands import Command, EndCall
from .early_pause import EARLY_PAUSE_TABLE, ENDED_NS, REST_MOST_NS, REST_NS, Near, NearAct, NearEvent
from .goodbye_and_fallback import GOODBYE_TABLE, Goodbye, GoodbyeAct, GoodbyeEvent
from .greeting_protection import GREETING_TABLE, Opening, OpeningEvent, Protection
from .hand_off import HAND_OFF_TABLE, HandOff, Part
from .handover_silence import HandoverSilence
from .history import Hesitation, History
from .keypad import Keypad
from .metrics import ConversationMetrics
from .near_ear.detection import Detectors
from .near_ear.near_ear import NearEar
from .near_ear.played import Played
from .owed_and_retry import Asking, Owed
from .playout import LineEvent, Playout
from .reconnect_and_renewal import Sessions
from .recording_notice import NOTICE_TABLE
from .responses import Responses, Truth, TruthEvent
from .rules import Line, Rules, Script
from .silence import SILENCE_TABLE, Silence
from .timers import Due, Timers
from .tones import SentTones
from .tools import ToolCall, ToolRule, Tools
from .truncate_to_heard import TruthTeller
from .utterances import Utterance, Utterances


class Regions:
    """The whole state of one conversation."""

    def __init__(
        self,
        *,
        script: Script,
        rules: Rules,
        metrics: ConversationMetrics,
        rng: random.Random,
        numbers: Numbers | None = None,
        plan: CallPlan | None = None,
        agent: bytes = b"",
        tools: Mapping[str, ToolRule] | None = None,
        built_in: BuiltIn | None = None,
        detectors: Detectors | None = None,
    ) -> None:
        """`agent` is the agent as the story tells it; `tools` are those that toolbox carries out, by name.

        Without `detectors` there is no near ear.
        """
        self.plan = plan or CallPlan()
        self.agent = agent
        self.numbers = numbers or Numbers()
        self._script = script
        self.rules = rules
        self.patience = rules.patience
        self._tool_rules = tools or {}
        self.built_in = built_in or BuiltIn()
        self._metrics = metrics
        illegal = metrics.illegal
        self.timers = Timers()
        self.caller = CallerAudio()
        self.history = History()
        self.utterances = Utterances()
        has_near_ear = detectors is not None and bool(rules.early_ns or rules.sensitivity.guards_echo)
        played = Played(self.utterances, is_read=has_near_ear and rules.sensitivity.guards_echo)
        self.near_ear: NearEar | None = None
        if detectors is not None and has_near_ear:
            self.near_ear = NearEar(detectors, rules.sensitivity, played.heard)
        self.responses = Responses(illegal)
        self._truth = TruthTeller(self.utterances, self.history, metrics)
        # The regions.
        self.making = Chart(MAKING_TABLE, Making.IDLE, illegal)
        self.floor = Chart(FLOOR_TABLE, Floor.QUIET, illegal)
        self.near = Chart(EARLY_PAUSE_TABLE, Near.QUIET, illegal)
        self.notice = Chart(NOTICE_TABLE, Opening.DUE if script.notice.text else Opening.OVER, illegal)
        self.greeting = Chart(GREETING_TABLE, Opening.DUE if script.greeting.text else Opening.OVER, illegal)
        self.goodbye = Chart(GOODBYE_TABLE, Goodbye.NONE, illegal)
        self.asking = Asking(self.timers, illegal, rng)
        self.tools = Tools(illegal)
        self.tones = SentTones(illegal)
        self.keypad = Keypad(rules.keypad, illegal)
        self.silence = Chart(SILENCE_TABLE, Silence.WAITING, illegal)
        # How often the caller was asked for since they last spoke.
        self.nudged = 0
        # The call of `hand_off` that is not answered, and what the other agent brings; None: there is none.
        self.hand_off = Chart(HAND_OFF_TABLE, HandOff.NONE, illegal)
        self.handing_off: ToolCall | None = None
        self.coming: Part | None = None
        self.sessions = Sessions(
            self.timers, illegal, reconnect_ns=rules.reconnect_ns, renew_ns=rules.renew_ns, rng=rng
        )
        self.playout = Playout(
            utterances=self.utterances,
            played=played,
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
        # The order with which the goodbye hands the call on.
        self.order: CallOrder = HangUp()
        # How the order ended from which the caller is back, until the model has spoken about it; "": there was none.
        self.returned = ""
        # The caller's last turn in the model's conversation; 0: none.
        self._last_turn = 0
        # The first sound of the speech that the near ear heard last, and when it paused the line.
        self._onset_ns = self._paused_ns = 0
        # There is no early pause before this time; and how long the next unconfirmed one rules others out.
        self._no_pause_before_ns = self._rest_ns = 0
        # Until when the near ear listens: the model may report late what was said before the AI fell silent.
        self._near_until_ns = 0
        # The caller's turn that is an echo of the AI (0: none), and until when the model may begin to answer it.
        self._echo_turn = self._echo_answered_ns = 0
        # When the model reported the caller's last speech, and when the unanswered turn ended (0: there is none).
        self._speech_ns = self._stopped_ns = 0
        # When the last sound of that turn came.
        self._last_sound_ns = 0
        # The first sound of that speech; 0: unknown.
        self._speech_onset_ns = 0
        # When the session was lost (0: it was not), and when the last event of the active response came.
        self._lost_ns = self._made_ns = 0
        # When the call began, at this worker or a predecessor.
        self.began_ns = 0
        self.handover_silence = HandoverSilence(metrics.handover_silence)

    @property
    def ended(self) -> bool:
        """The call was handed on: nothing happens any more."""
        return self.goodbye.state is Goodbye.OVER

    def take_part(self, part: Part) -> None:
        """Another agent goes on. What the line does, and how long the call may last, stays as the call began."""
        own, rules = self.patience, part.rules
        self.agent = part.agent.told()
        self._script = replace(self._script, fallback=part.script.fallback, fallback_order=part.script.fallback_order)
        self.patience = replace(rules.patience, length_ns=own.length_ns)
        self.rules = replace(self.rules, sends_dtmf=rules.sends_dtmf)
        self.keypad.rules = rules.keypad
        self._tool_rules, self.built_in = part.tools, part.built_in

    def is_quiet(self) -> bool:
        """Nobody speaks or presses keys, no tool runs, and nothing is being made, heard, owed or expected.

        An agent that is awaited (hand_off.py) keeps no call from its end.
        """
        return (
            self.making.state is Making.IDLE
            and self.asking.chart.state is Owed.NOTHING
            and self.floor.state is Floor.QUIET
            and not self.playout.awaits_truth()
            and not self.utterances.last_open()
            and all(call is self.handing_off for call in self.tools.running())
            and not self.keypad.is_pressing
        )

    def is_protected(self, now_ns: int) -> bool:
        """Nothing interrupts what is heard now: the recording notice, the first words of the greeting, or tones."""
        return (
            recording_notice.is_protected(self.notice.state)
            or self.tones.is_playing
            or self.protection.is_on(self.greeting.state, now_ns)
        )

    def is_interruptible(self) -> bool:
        """Whether an interruption would stop something: a response or speech of the AI."""
        if self.making.state in (Making.REQUESTED, Making.ACTIVE):
            return True
        return self.rules.barge_in != "drain" and self.playout.is_audible()

    def step_making(self, event: MakingEvent, now_ns: int) -> list[Command]:
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

    def step_floor(self, event: FloorEvent, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        for act in self.floor.step(event):
            match act:
                case FloorAct.INTERRUPT:
                    commands += self.interrupt(self._speech_ns, now_ns, protected=False)
                case FloorAct.INTERRUPT_LATE:
                    commands += self.interrupt(self._speech_ns, now_ns, protected=True)
                case FloorAct.PAUSE_LINE:
                    self.timers.set(Due.CONFIRM, now_ns + self.rules.confirm_ns)
                    commands += self.playout.step(LineEvent.PAUSE, now_ns)
                case FloorAct.RESUME_LINE:
                    self.timers.cancel(Due.CONFIRM)
                    commands += self.playout.step(LineEvent.RESUME, now_ns)
                case FloorAct.KEEP_CALL:
                    commands += self._keep_call(now_ns)
                case FloorAct.COUNT_PROTECTED:
                    self._metrics.protected.inc()
                case FloorAct.COUNT_FALSE_ALARM:
                    self._metrics.false_alarms.inc()
                case FloorAct.COUNT_ECHO:
                    self._metrics.echoes.inc()
                    self.history.hesitations.append(Hesitation("echo", 0, now_ns, now_ns))
        return commands

    def step_near(self, event: NearEvent, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        for act in self.near.step(event):
            match act:
                case NearAct.PAUSE_LINE:
                    self._paused_ns = now_ns
                    commands += self.playout.step(LineEvent.PAUSE, now_ns)
                case NearAct.AWAIT_REPORT:
                    self.timers.set(Due.REPORT, self._paused_ns + self.rules.early_ns)
                case NearAct.AWAIT_LATE_REPORT:
                    self.timers.set(Due.REPORT, min(now_ns + ENDED_NS, self._paused_ns + self.rules.early_ns))
                case NearAct.RESUME_LINE:
                    self.timers.cancel(Due.REPORT)
                    if self.floor.state is not Floor.CONFIRMING:
                        commands += self.playout.step(LineEvent.RESUME, now_ns)
                case NearAct.COUNT_CONFIRMED:
                    self._metrics.early_confirmed.inc()
                    self._rest_ns = 0
                case NearAct.COUNT_RESUMED:
                    self._metrics.early_resumed.inc()
                    self._no_pause_before_ns = now_ns + self._rest_ns
                    self._rest_ns = min(2 * self._rest_ns or REST_NS, REST_MOST_NS)
                    hesitation = Hesitation("unconfirmed", self._onset_ns, self._paused_ns, now_ns)
                    self.history.hesitations.append(hesitation)
        return commands

    def interrupt(self, at_ns: int, now_ns: int, *, protected: bool) -> list[Command]:
        """The caller interrupts the AI, and began with it at `at_ns`."""
        self._metrics.interruptions.inc()
        commands = self.step_making(MakingEvent.INTERRUPTED, now_ns)
        cancelled = bool(commands)
        if self.rules.barge_in != "drain":
            self._metrics.cancels_spared.inc(not cancelled)
            onset_ns = self._speech_onset_ns if at_ns == self._speech_ns else 0
            commands += self.playout.interrupt(
                at_ns, now_ns, onset_ns=onset_ns, protected=protected, cancelled=cancelled
            )
        self._metrics.greetings_interrupted.inc(len(self.greeting.step(OpeningEvent.INTERRUPTED)))
        commands += self._keep_call(now_ns)
        return commands + self.step_near(NearEvent.REPORTED, now_ns)

    def _keep_call(self, now_ns: int) -> list[Command]:
        """The caller speaks: the call is not handed on, and a model that connects somebody learns it."""
        if not self.goodbye.step(GoodbyeEvent.SPOKEN_OVER) or not isinstance(self.order, Dial):
            return []
        for turn in reversed(self.history.turns):
            if turn.tool is not None and turn.tool.output == CONNECTING:
                turn.tool.output, turn.tool.outcome = CALLED_OFF, "cancelled"
                self.history.tool_answered(turn.tool, now_ns)
                break
        return [self._truth.note(NOTE_CALLED_OFF)] if self.sessions.is_live else []

    def count_opening(self, utterance: Utterance, purpose: Purpose, now_ns: int) -> None:
        if purpose == "greeting":
            self.protection.say(utterance, now_ns)
        elif purpose == "notice":
            self.notice_said.append(utterance)

    def say_recordings(self, now_ns: int) -> list[Command]:
        """Play a recorded notice and a recorded greeting when it is their turn."""
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
            and not self.keypad.is_pressing
            and self.asking.chart.state is Owed.NOTHING
        ):
            self.greeting.step(OpeningEvent.RECORDED)
            commands += self._say(script.greeting, "greeting", now_ns)
        return commands

    def _say(self, line: Line, purpose: Purpose, now_ns: int) -> list[Command]:
        """Play a recording as an utterance of its own; the model is told its words when a session is ready."""
        response = self.responses.add(self.numbers.next_response(), purpose, Truth.TOLD)
        utterance, _ = self.utterances.receive(response.number, self.numbers.next_utterance(), len(line.audio))
        commands = self.playout.begin(utterance, response)
        self.history.add_words(utterance.number, line.text, is_all=True)
        self.count_opening(utterance, purpose, now_ns)
        return [*commands, *self.playout.speak(utterance, line.audio, now_ns), *self.playout.end(utterance)]

    def fall_back(self, reason: str, now_ns: int) -> list[Command]:
        """The model is gone for good: the line plays on, then the recorded sentence plays, then the order follows."""
        if self.ended:
            return []
        self.order = self._script.fallback_order
        commands = self.step_floor(FloorEvent.SESSION_LOST, now_ns) + self.step_near(NearEvent.SESSION_LOST, now_ns)
        commands += self.playout.end_all()
        return commands + self.end_call(GoodbyeEvent.MODEL_GONE, self.utterances.last_open(), reason, now_ns)

    def end_call(self, event: GoodbyeEvent, after: int, reason: str, now_ns: int = 0) -> list[Command]:
        commands: list[Command] = []
        for act in self.goodbye.step(event):
            if act is GoodbyeAct.END_CALL:
                commands.append(EndCall(self.order, after, reason))
            elif self._script.fallback.audio:
                commands += self._say(self._script.fallback, "answer", now_ns)
                after = self.utterances.last
        return commands
