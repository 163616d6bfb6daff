"""One call's turn taking: events in, commands out; no socket, no clock, no provider.

A statechart of parallel regions, each moved by a table of its own:

    making    what the model does for this call            cancel_once.py
    truth     what the model knows about each response     responses.py, truncate_to_heard.py
    line      what the caller is going to hear             playout.py
    floor     who speaks                                   barge_in.py
    near      what the near ear hears, and the early pause early_pause.py
    notice    the recording notice                         recording_notice.py
    greeting  the greeting and its protection              greeting_protection.py
    owed      what to request next, and retries            owed_and_retry.py
    session   the connection between call and model        reconnect_and_renewal.py
    goodbye   how the call ends                            goodbye_and_fallback.py
    hand-off  whether another agent takes over             hand_off.py
    silence   whether the caller is still there           silence.py
    tools     what the model's tools answer, and when       tools.py, tool_events.py
    tones     the keys that the model sends                 tones.py, tone_events.py
    keys      what the caller enters on the keypad          keypad.py, key_events.py

`_react` and `report` show what each event does in the regions, in order. `settle` then carries out what has become
possible. Times are ns, monotonic.
"""

from __future__ import annotations

from typing import assert_never

from shared.messages import MarkHeard, PlayoutFinished, PlayoutShifted, PlayoutStarted, Withdrawn
from shared.plan import HangUp

from ..models.port import (
    AnswerTaken,
    CallerSilent,
    CallerSpeaks,
    CallerWords,
    DialFailed,
    Fault,
    ModelEvent,
    ModelToolAnswered,
    ModelToolCalled,
    ResponseBegan,
    ResponseEnded,
    SessionEvent,
    SessionLost,
    SessionReady,
    Speech,
    SpeechEnded,
    TellingTaken,
    ToolCalled,
    Truncated,
    TurnTaken,
    Words,
)
from . import latency, recording_notice
from .barge_in import Floor, FloorEvent
from .caller_events import CallerEvents
from .cancel_once import Making
from .commands import Command
from .early_pause import Near, NearEvent
from .goodbye_and_fallback import Goodbye, GoodbyeEvent
from .greeting_protection import Opening, OpeningEvent
from .keypad import Keys
from .owed_and_retry import OwedEvent
from .reconnect_and_renewal import Session, SessionStep
from .timers import Due
from .utterances import Utterance

Report = PlayoutStarted | PlayoutShifted | PlayoutFinished | Withdrawn


class Conversation(CallerEvents):
    """Feed it events with the time, and carry out the returned commands in order."""

    def start(self, now_ns: int) -> list[Command]:
        """The media socket is open, and a session is being dialled. Recordings play at once."""
        self.sessions.start(now_ns)
        self.count_length(now_ns, now_ns)
        return self.say_recordings(now_ns)

    def hear(self, audio: bytes, at_ns: int, now_ns: int) -> list[Command]:
        """The caller's next audio, which came to the gateway at `at_ns`."""
        self.caller.take(audio)
        events = self.near_events(audio, at_ns)
        if not events:  # nearly always
            return []
        return [command for event in events for command in self.on_near(event, now_ns)] + self.settle(now_ns)

    def without_echo(self, audio: bytes) -> bytes:
        """What the model hears of the audio that was given to `hear` last."""
        return audio if self.near_ear is None else self.near_ear.without_echo(audio)

    def receive(self, event: ModelEvent | SessionEvent, now_ns: int) -> list[Command]:
        """An event of the call's session, or of the session that is dialled."""
        if type(event) is Speech:  # nearly every event is this or the next
            return self.on_speech(event, now_ns)
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
                return self.step_session(SessionStep.READY, now_ns)
            case DialFailed(is_refused):
                return self.step_session(SessionStep.REFUSED if is_refused else SessionStep.FAILED, now_ns)
            case SessionLost():
                return self.lose_session(now_ns)
            case CallerSpeaks(turn):
                self.handover_silence.ends(now_ns)
                return self.on_caller_speaks(turn, now_ns)
            case CallerSilent(turn, silent_ms):
                if not self.floor.allows(FloorEvent.FALLS_SILENT):
                    self._metrics.illegal.inc()
                    return []
                if self.floor.state is Floor.ECHOING:
                    return self.step_floor(FloorEvent.FALLS_SILENT, now_ns)
                self._stopped_ns, self._last_sound_ns = now_ns, now_ns - silent_ms * 1_000_000
                self.history.speech_stopped(turn, now_ns)
                commands = self.step_floor(FloorEvent.FALLS_SILENT, now_ns)
                is_free = self.making.state is Making.IDLE
                self.asking.step(OwedEvent.TURN_ENDED if is_free else OwedEvent.TURN_ENDED_DURING_RESPONSE, now_ns)
                return commands
            case TurnTaken(turn) if turn == self._echo_turn:
                return self.on_echo_taken(now_ns)
            case TurnTaken(turn):
                self.caller.turn_taken(turn, has_speech=self.history.taken(turn))
                self._last_turn = turn
            case CallerWords(turn, text):
                self.history.caller_words(turn, text)
                if text:
                    self.caller.turn_settled(turn)
                return self.look_for_voicemail(text, now_ns)
            case ResponseBegan():
                return self.on_began(event, now_ns)
            case ResponseEnded():
                return self.on_ended(event, now_ns)
            case SpeechEnded(number):
                self._made_ns = now_ns
                utterance = self.utterances.get(number)
                return self.playout.end(utterance) if utterance is not None else []
            case ToolCalled():
                self._made_ns = now_ns
                return self.on_tool(event, now_ns)
            case ModelToolCalled():
                return self.on_model_tool(event, now_ns)
            case ModelToolAnswered(number, output, is_error):
                return self.on_tool_answered(number, output, "failed" if is_error else "done", now_ns)
            case AnswerTaken(tool_call):
                self.tools.unconfirmed.discard(tool_call)
            case TellingTaken(number):
                self.keypad.unconfirmed.discard(number)
            case Truncated(number, heard_ms):
                self._truth.confirmed(number, heard_ms)
            case Fault():
                return self.on_fault(event, now_ns)
            case Speech() | Words():
                raise AssertionError("dealt with by receive")
            case _:
                assert_never(event)
        return []

    def report(self, report: Report, now_ns: int) -> list[Command]:
        """A report of txpacer about this call's line. Reports count until the end of the call."""
        commands: list[Command] = []
        match report:
            case PlayoutStarted():
                self.handover_silence.starts(report.utterance, report.ear_ns)
                utterance = self.playout.started(report)
                if utterance is not None:
                    self._on_heard(utterance, report)
            case PlayoutShifted():
                self.handover_silence.starts(report.utterance, now_ns)
                self.playout.shifted(report)
            case PlayoutFinished():
                commands = self.playout.finished(report.utterance, report.ear_ns)
            case Withdrawn():
                commands = self.playout.withdrawn(report)
            case _:
                assert_never(report)
        return commands + self.settle(now_ns)

    def tool_answered(self, tool_call: int, output: str, outcome: str, now_ns: int) -> list[Command]:
        """toolbox answers a call of a tool."""
        return self.on_tool_answered(tool_call, output, outcome, now_ns) + self.settle(now_ns)

    def key(self, key: str, at_ns: int, now_ns: int) -> list[Command]:
        """The caller pressed a key at `at_ns`."""
        return self.on_key(key, at_ns, now_ns) + self.settle(now_ns)

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
                    commands += self.on_ask_failed(now_ns)
                case Due.STALLED:
                    commands += self.look_for_progress(now_ns)
                case Due.CONFIRM:
                    commands += self.step_floor(self._confirmed(now_ns), now_ns)
                case Due.REPORT:
                    commands += self.step_near(NearEvent.OVERDUE, now_ns)
                case Due.WITHDRAWN:
                    commands += self.playout.withdrawal_overdue(now_ns)
                case Due.SILENCE:
                    self.silence_lasts(now_ns)
                case Due.WARNING:
                    commands += self.warn_of_length()
                case Due.LENGTH:
                    commands += self.length_reached(now_ns)
                case Due.KEYS:
                    commands += self.entry_complete(now_ns)
                case Due.TOOL:
                    commands += self.tools_overdue(now_ns)
                case Due.FILLER:
                    self.fill_in(now_ns)
                case Due.DIAL:
                    commands += self.step_session(SessionStep.DIAL_DUE, now_ns)
                case Due.GIVE_UP:
                    commands += self.step_session(SessionStep.GIVE_UP_DUE, now_ns)
                case Due.RENEW:
                    commands += self.step_session(SessionStep.RENEW_DUE, now_ns)
                case Due.ANSWER | Due.PROTECTED:
                    pass  # `settle` examines what they were waiting for
        return commands + self.settle(now_ns)

    def _confirmed(self, now_ns: int) -> FloorEvent:
        """Whether the speech that paused the line has lasted."""
        if not self.caller.is_speaking():
            return FloorEvent.SPEECH_DOES_NOT_LAST
        is_over = self.is_interruptible() and not self.is_protected(now_ns)
        return FloorEvent.SPEECH_LASTS if is_over else FloorEvent.SPEECH_LASTS_ALONE

    def _on_heard(self, utterance: Utterance, report: PlayoutStarted) -> None:
        """The ear begins to play it."""
        if self._stopped_ns:
            self._metrics.response.observe(max(0, report.ear_ns - self._stopped_ns) / 1e9)
            utterance.latency = latency.split(
                last_sound_ns=self._last_sound_ns,
                silent_ns=self._stopped_ns,
                first_delta_ns=utterance.first_ns,
                ear_ns=report.ear_ns,
                ahead_ns=report.ahead_ns,
                round_trip_ns=report.round_trip_ns,
            )
            for histogram, part_ns in zip(self._metrics.latency, utterance.latency or (), strict=False):
                if part_ns >= 0:
                    histogram.observe(part_ns / 1e9)
            self._stopped_ns = 0
        response = self.responses.get(utterance.response)
        if response is not None and response.turn:
            self.caller.answer_heard(response.turn)

    def settle(self, now_ns: int) -> list[Command]:
        if self.ended:
            return []
        commands: list[Command] = []
        if self.notice.state is Opening.MADE and recording_notice.is_heard(self.notice_said):
            self.notice.step(OpeningEvent.HEARD)
        if self.greeting.state is Opening.MADE and self.protection.is_heard():
            self._metrics.greetings_heard.inc(len(self.greeting.step(OpeningEvent.HEARD)))
        if self.floor.state is Floor.WAITING or self.near.state is Near.WAITING:
            commands += self._look_at_protection(now_ns)
        if self.keypad.chart.state is Keys.WAITING:
            commands += self.keys_at_protection(now_ns)
        commands += self.say_recordings(now_ns)
        commands += self.look_at_tones(now_ns)
        commands += self.look_at_hand_off(now_ns)
        commands += self.ask(now_ns)
        if self.goodbye.state is Goodbye.PENDING and self.is_quiet():
            reason = "end_call" if isinstance(self.order, HangUp) else "transfer_call"
            commands += self.end_call(GoodbyeEvent.HEARD, self.playout.unconfirmed(), reason)
        elif self.sessions.chart.state is Session.STANDBY and self.is_quiet() and not self.caller.is_speaking():
            self._metrics.renewals.inc()
            self.caller.overlap()
            commands += self.step_session(SessionStep.REST, now_ns)
        self.count_silence(now_ns)
        return commands

    def _look_at_protection(self, now_ns: int) -> list[Command]:
        """An interruption, or an early pause, waits. When the protection ends and the caller speaks on, it happens."""
        if self.is_protected(now_ns):
            end_ns = self.protection.until_ns(self.greeting.state)
            if end_ns is not None and end_ns > now_ns:
                self.timers.set(Due.PROTECTED, end_ns)
            return []
        self.timers.cancel(Due.PROTECTED)
        if self.near.state is Near.WAITING:
            pauses = self.playout.is_audible()
            return self.step_near(NearEvent.PROTECTION_ENDS if pauses else NearEvent.PROTECTION_ENDS_ALONE, now_ns)
        interrupts = self.caller.is_speaking() and self.is_interruptible()
        return self.step_floor(
            FloorEvent.PROTECTION_ENDS if interrupts else FloorEvent.PROTECTION_ENDS_IN_SILENCE, now_ns
        )
