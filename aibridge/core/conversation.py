"""One call's turn taking: events in, commands out; no socket, no clock.

Theory. Three things are tracked, and none is derived from another. The *response* is what the server is doing: it moves
by RESPONSE_TABLE (responses.py). The *playout* is what the caller hears: it runs seconds behind, and lives in the
ledger, which only txpacer's reports move (playout.py). The *session* is what there is between this call and the model;
it moves by SESSION_TABLE (recovery.py). In each table a missing key is an illegal event, which changes nothing.

When the caller starts to speak, response and playout together make a Situation, and BARGE_IN_TABLE (barge_in.py) says
what to do in it. The server's response is cancelled only while it is active there; the speech in the line is withdrawn
in any case; and when txpacer has answered how many bytes were paced, and the server holds the response as finished, the
model's conversation is cut to what was heard. A response that has finished generating is often still heard for seconds,
so the common interruption sends no cancel at all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import assert_never

from shared.messages import MarkHeard, PlayoutFinished, PlayoutShifted, PlayoutStarted, Withdrawn
from shared.plan import CallOrder, Fallback, HangUp

from .asking import REPEAT_NS, STALL_AGAIN_NS, STALLED_NS, Asking
from .caller_audio import CallerAudio
from .commands import AnswerFunction, Command, DeliverAudio, Dial, EndCall, LeaveSession, UseSession
from .floor import Floor
from .greeting import Greeting, Stage
from .history import TEXT_MAX, History
from .memory import NUMBERS_AHEAD, Memory
from .metrics import ConversationMetrics
from .playout import Playout
from .realtime import (
    ALREADY_ACTIVE,
    CANCEL_NOT_ACTIVE,
    FATAL_CODES,
    AudioDelta,
    AudioDone,
    CallerTranscript,
    Committed,
    Item,
    ItemAdded,
    ItemTruncated,
    OutputItemAdded,
    OutputItemDone,
    ResponseCreated,
    ResponseDone,
    ServerError,
    ServerEvent,
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
    TranscriptDone,
)
from .realtime import Response as ServerResponse
from .recovery import Action, Event, Line, Sessions
from .responses import Purpose, Responses, Server, Step
from .rules import Rules, Script
from .timers import Due, Timers


class Conversation:
    """Feed it what happens; take `commands` after each call. Times are ns, monotonic."""

    def __init__(self, *, script: Script, rules: Rules, metrics: ConversationMetrics, rng: random.Random) -> None:
        self._script = script
        self._metrics = metrics
        self.commands: list[Command] = []
        self.timers = Timers()
        self.caller = CallerAudio()
        self.history = History()
        self.sessions = Sessions(self.timers, reconnect_ns=rules.reconnect_ns, renew_ns=rules.renew_ns, rng=rng)
        self.responses = Responses(metrics)
        self.playout = Playout(
            commands=self.commands,
            responses=self.responses,
            history=self.history,
            timers=self.timers,
            barge_in=rules.barge_in,
            lead_ns=rules.lead_ns,
            metrics=metrics,
        )
        self.greeting = Greeting(is_due=script.greets, protect_ns=rules.protect_ns)
        self.asking = Asking(
            commands=self.commands,
            responses=self.responses,
            timers=self.timers,
            metrics=metrics,
            rng=rng,
        )
        self.floor = Floor(
            commands=self.commands,
            responses=self.responses,
            playout=self.playout,
            greeting=self.greeting,
            caller=self.caller,
            timers=self.timers,
            barge_in=rules.barge_in,
            confirm_ns=rules.confirm_ns,
            metrics=metrics,
        )
        # When the caller's last turn ended; 0: something was said since.
        self._stopped_ns = 0
        # When the session was lost; 0: it was not.
        self._lost_ns = 0
        # When something of the active response came last.
        self._made_ns = 0
        # The model called hang_up: the call ends when everything was heard.
        self._hanging_up = False
        # EndCall was commanded: nothing happens any more.
        self.ended = False

    # --- the session ---

    def start(self, now_ns: int) -> None:
        """The media socket is open, and a session is being dialled. A recorded greeting is said at once."""
        self.sessions.start(now_ns)
        if self._script.greets and self._script.greeting_audio:
            self._say_recording("greeting", self._script.greeting_text, self._script.greeting_audio, now_ns)

    def resume(self, memory: Memory, unheard: Sequence[tuple[int, int, int, bool, int]], now_ns: int) -> None:
        """In the place of `start`: another worker had this call, and died. `unheard` is what the line still has of it.

        What had been made is heard, and the model goes on from there.
        """
        self.sessions.start(now_ns)
        self.history.recall(memory.turns)
        was_making = False
        for number, size, _, ended, ear_ns in unheard:
            item_id = memory.items.get(number, f"former_{number}")
            response = self.responses.add(f"former_{number}", "answer")
            response.done = response.lost = response.spoke = True
            response.add(item_id)
            utterance = self.playout.ledger.adopt(number, response.id, item_id, size)
            utterance.ear_start_ns = ear_ns or None
            turn = self.history.turn("ai", item_id)
            if turn.received_bytes < size:
                turn.text_bytes = turn.text_bytes or turn.received_bytes
                turn.received_bytes = size
            was_making |= not ended
        self.playout.end_all()
        self.playout.ledger.last = max(self.playout.ledger.last, memory.last_utterance) + NUMBERS_AHEAD
        open_items = {utterance.item_id for utterance in self.playout.ledger.open()}
        for turn in self.history.turns:
            if turn.role == "ai" and turn.heard_bytes is None and turn.item_id not in open_items:
                # The line has finished it meanwhile.
                turn.heard_bytes = turn.received_bytes
                turn.ended_ns = now_ns
                self.history.find(turn.item_id)
        if self.history.turns:
            self.greeting.stage = Stage.OVER
            if was_making:
                self.asking.owe("continue", now_ns)
            elif self.history.turns[-1].role == "caller":
                self.asking.owe("answer", now_ns)
            elif memory.caller_speaks:
                # Unless the new session hears the rest of it: the turn that begins then is answered instead.
                self.asking.owe("repeat", now_ns + REPEAT_NS)

    def session_ready(self, now_ns: int) -> None:
        """The session that was dialled has our settings."""
        self._step_session(Event.READY, now_ns)
        self._settle(now_ns)

    def dial_failed(self, now_ns: int, *, refused: bool = False) -> None:
        """The session that was dialled did not come; with `refused`, no other would."""
        self._step_session(Event.REFUSED if refused else Event.FAILED, now_ns)

    def session_lost(self, now_ns: int) -> None:
        """The call's session is gone, whatever the close code."""
        if not self.sessions.is_live:
            self._metrics.illegal.inc()
            return
        self._lost_ns = now_ns
        self._leave_session()
        self._step_session(Event.LOST, now_ns)
        self._settle(now_ns)

    def _step_session(self, event: Event, now_ns: int) -> None:
        if self.ended:
            return
        match self.sessions.step(event, now_ns):
            case Action.DIAL:
                self.commands.append(Dial())
            case Action.ADOPT:
                self._adopt(now_ns)
            case Action.GIVE_UP:
                self._metrics.fallbacks.inc()
                self._fall_back("the model is gone", now_ns)

    def _leave_session(self) -> None:
        """Nothing more comes of the session. What is in the line is heard; what was owed is owed by the next."""
        self.timers.cancel(Due.STALLED)
        self.asking.session_lost()
        active = self.responses.session_lost()
        if active is not None and not active.interrupted:
            if not active.spoke:
                self.asking.owe(active.purpose)
            elif not all(u.ended for u in self.playout.ledger.open() if u.response_id == active.id):
                self.asking.owe("continue")
        if self.greeting.stage in (Stage.ASKED, Stage.MAKING):
            self.greeting.stage = Stage.MADE if self.greeting.utterances else Stage.OVER
        self.playout.end_all()
        self.floor.session_lost()
        self.caller.session_lost()

    def _adopt(self, now_ns: int) -> None:
        """The dialled session is ours: tell it everything, and go on."""
        if self._lost_ns:
            self._metrics.reconnected.inc()
            self._metrics.recovery.observe((now_ns - self._lost_ns) / 1e9)
            self._lost_ns = 0
        self.responses.session_lost()
        self.commands.append(UseSession())
        self.playout.replay()
        audio = self.caller.deliver()
        if audio:
            self.commands.append(DeliverAudio(audio))
        if self.greeting.stage is Stage.DUE:
            self.asking.owe("greeting")

    def _is_at_rest(self) -> bool:
        """Nobody speaks, nothing is being made, heard, owed or expected."""
        return (
            self.responses.server is Server.IDLE
            and not self.asking.is_expecting()
            and not self.floor.caller_speaks
            and not self.playout.awaits_truth()
            and not self.playout.unheard()
            and not self.caller.is_speaking()
        )

    # --- the model ---

    def receive(self, event: ServerEvent, now_ns: int) -> None:
        """An event of the call's session."""
        if self.ended or not self.sessions.is_live:
            self._metrics.illegal.inc()
            return
        match event:
            case AudioDelta():
                self._on_audio(event, now_ns)
                return
            case TranscriptDelta(_, item_id, delta):
                self._made_ns = now_ns
                self.history.add_words(item_id, delta)
                return
            case SpeechStarted():
                self._on_speech_started(event, now_ns)
            case SpeechStopped():
                self._on_speech_stopped(event, now_ns)
            case Committed(item_id):
                self.caller.turn_committed()
                self.history.committed(item_id)
            case ResponseCreated():
                self._on_created(event.response, now_ns)
            case ResponseDone():
                self._on_done(event.response, now_ns)
            case OutputItemAdded(response_id, item):
                self._made_ns = now_ns
                self._on_item(response_id, item)
            case OutputItemDone(response_id, item):
                self._made_ns = now_ns
                self._on_item_done(response_id, item)
            case AudioDone(response_id, item_id, content_index):
                utterance = self.playout.ledger.find(response_id, item_id, content_index)
                if utterance is not None:
                    self.playout.end(utterance)
            case TranscriptDone(_, item_id, _, text) | CallerTranscript(item_id, text):
                turn = self.history.find(item_id)
                if turn is not None and text:
                    turn.text = text[:TEXT_MAX]
            case ItemTruncated(item_id, audio_end_ms):
                self.playout.confirm_truncated(item_id, audio_end_ms)
            case ServerError():
                self._on_error(event, now_ns)
            case ItemAdded() | SessionCreated() | SessionUpdated():
                pass
            case _:
                assert_never(event)
        self._settle(now_ns)

    def _on_audio(self, event: AudioDelta, now_ns: int) -> None:
        response = self.responses.get(event.response_id)
        if response is None or response.done:
            self._metrics.illegal.inc()
            return
        self._made_ns = now_ns
        ledger = self.playout.ledger
        utterance, new = ledger.receive(event.response_id, event.item_id, event.content_index, len(event.delta))
        if response.interrupted or utterance.ended:
            self._metrics.late_deltas.inc()
            if new:
                self.playout.silence(utterance)
            return
        if new:
            response.spoke = True
            response.add(event.item_id)
            self.playout.begin(utterance)
            if response.purpose == "greeting":
                self.greeting.say(utterance, now_ns)
        self.playout.speak(utterance, event.delta, now_ns)

    def _on_created(self, created: ServerResponse, now_ns: int) -> None:
        purpose = self.asking.purpose_of(created.metadata)
        if self.responses.created(created.id, purpose) is None:
            return
        self._made_ns = now_ns
        self.timers.set(Due.STALLED, now_ns + STALLED_NS)
        if purpose == "greeting":
            self.greeting.stage = Stage.MAKING
        elif self.greeting.stage is Stage.ASKED:
            self.greeting.stage = Stage.OVER  # the server's own response came first; ours is refused
        self.asking.created(is_unwanted=self.floor.cancels_when_created)
        self.floor.created(now_ns)

    def _on_done(self, done: ServerResponse, now_ns: int) -> None:
        response = self.responses.finished(done.id)
        if response is None:
            return
        if self.responses.active is None:
            self.timers.cancel(Due.STALLED)
        for item in done.output:
            self._on_item(done.id, item)
            if item.status != "completed":
                response.incomplete.append(item.id)
        self.playout.end_all(done.id)
        self.playout.tell_truth(response)
        if done.usage is not None:
            self.history.usage.add(done.usage)
        if response.purpose == "greeting" and self.greeting.stage is Stage.MAKING:
            self.greeting.stage = Stage.MADE if self.greeting.utterances else Stage.OVER
        error = done.status_details.error if done.status_details is not None else None
        if error is not None and error.code in FATAL_CODES:
            self._step_session(Event.FATAL, now_ns)
        elif done.status == "failed" and not response.interrupted:
            self._retry("continue" if response.spoke else response.purpose, now_ns)
        elif done.status == "completed":
            self.asking.succeeded()
        self.asking.done(now_ns)

    def _on_item(self, response_id: str, item: Item) -> None:
        response = self.responses.get(response_id)
        if response is not None and item.type == "message":
            response.add(item.id)

    def _on_item_done(self, response_id: str, item: Item) -> None:
        # Also sent for calls that were cut short; those must not be carried out.
        response = self.responses.get(response_id)
        if response is None or response.lost or item.type != "function_call" or item.status != "completed":
            return
        if response.interrupted:
            self.commands.append(AnswerFunction(item.call_id, '{"error": "the caller interrupted; it was not done"}'))
        elif item.name == "hang_up":
            self._hanging_up = True
            self.commands.append(AnswerFunction(item.call_id, '{"ok": true}'))
        else:
            self.commands.append(AnswerFunction(item.call_id, '{"error": "no such function"}'))
            self.asking.owe("answer")

    def _on_error(self, event: ServerError, now_ns: int) -> None:
        code = event.error.code
        is_ours = self.asking.is_ours(event.error.event_id)
        if code == CANCEL_NOT_ACTIVE:
            self._metrics.cancel_not_active.inc()
            self.responses.step(Step.CANCEL_REFUSED)
        elif code == ALREADY_ACTIVE:
            # Ours crossed the server's own response, or the server's own was refused; it says so to us, too.
            self._metrics.already_active.inc()
            if is_ours:
                self._on_refused()
        else:
            self._metrics.errors.inc()
            if code in FATAL_CODES:
                self._step_session(Event.FATAL, now_ns)
            elif is_ours:
                purpose = self.asking.requested
                self._on_refused()
                self._retry(purpose, now_ns)

    def _on_refused(self) -> None:
        self.asking.refused()
        self.floor.create_refused()
        if self.greeting.stage is Stage.ASKED:
            self.greeting.stage = Stage.OVER

    def _retry(self, purpose: Purpose, now_ns: int) -> None:
        """A response failed: ask again, and in the end give the caller the fallback."""
        if self.floor.caller_speaks:
            return  # the turn that is being spoken is answered
        if not self.asking.retry(purpose, now_ns):
            if purpose == "greeting":
                self._metrics.greetings_failed.inc()
            self._metrics.fallbacks.inc()
            self._fall_back("the model fails", now_ns)

    # --- the caller ---

    def _on_speech_started(self, event: SpeechStarted, now_ns: int) -> None:
        self._stopped_ns = 0
        self.asking.forgive()  # the turn that begins now is answered instead
        self.caller.turn_started()
        self.history.speech_started(event.item_id, now_ns)
        if self.floor.speech_started(now_ns):
            self._hanging_up = False

    def _on_speech_stopped(self, event: SpeechStopped, now_ns: int) -> None:
        if not self.floor.caller_speaks:
            self._metrics.illegal.inc()
            return
        self._stopped_ns = now_ns
        self.history.speech_stopped(event.item_id, now_ns)
        self.floor.speech_stopped()
        self.asking.turn_ended(now_ns)

    # --- the playout ---

    def report(self, report: PlayoutStarted | PlayoutShifted | PlayoutFinished | Withdrawn, now_ns: int) -> None:
        """What txpacer says about this call's line; until its very end."""
        match report:
            case PlayoutStarted():
                if self.playout.started(report) is not None and self._stopped_ns:
                    self._metrics.response.observe(max(0, report.ear_ns - self._stopped_ns) / 1e9)
                    self._stopped_ns = 0
            case PlayoutShifted():
                self.playout.shifted(report)
            case PlayoutFinished():
                if self.playout.finished(report.utterance, report.ear_ns) and self.greeting.is_heard():
                    self.greeting.stage = Stage.OVER
                    self._metrics.greetings_heard.inc()
            case Withdrawn():
                self.playout.withdrawn(report)
            case _:
                assert_never(report)
        self._settle(now_ns)

    def mark(self, mark: MarkHeard) -> None:
        """Twilio echoed the mark behind an utterance."""
        self.playout.mark(mark.generation, mark.utterance, mark.at_ns)

    # --- time ---

    def next_due_ns(self) -> int | None:
        """When `advance` has something to do; None: nothing is planned."""
        return None if self.ended else self.timers.next_due_ns()

    def advance(self, now_ns: int) -> None:
        """Do what is due."""
        if self.ended:
            return
        for due in self.timers.take(now_ns):
            match due:
                case Due.EXPECTED:
                    self.asking.overdue()
                case Due.CREATED:
                    purpose = self.asking.requested
                    self._on_refused()
                    self._retry(purpose, now_ns)
                case Due.STALLED:
                    self._look_for_progress(now_ns)
                case Due.CONFIRM:
                    if self.floor.confirm(now_ns):
                        self._hanging_up = False
                case Due.WITHDRAWN:
                    self.playout.withdrawal_overdue(now_ns)
                case Due.DIAL:
                    self._step_session(Event.DIAL_DUE, now_ns)
                case Due.GIVE_UP:
                    self._step_session(Event.GIVE_UP_DUE, now_ns)
                case Due.RENEW:
                    self._step_session(Event.RENEW_DUE, now_ns)
                case Due.ANSWER | Due.PROTECTED:
                    pass  # _settle looks at what they were waiting for
        self._settle(now_ns)

    def _look_for_progress(self, now_ns: int) -> None:
        """A response is due to be done: a session that does not go on with it, and still answers pings, is lost."""
        stalled_ns = self._made_ns + STALLED_NS
        if self.responses.server is Server.ACTIVE and now_ns < stalled_ns:
            self.timers.set(Due.STALLED, stalled_ns)
            return
        if self.responses.server is Server.ACTIVE and self.playout.ledger.unheard_bytes(now_ns):
            self.timers.set(Due.STALLED, now_ns + STALL_AGAIN_NS)
            return
        self._metrics.stalled.inc()
        self.commands.append(LeaveSession())
        self.session_lost(now_ns)

    def _settle(self, now_ns: int) -> None:
        """What may have become possible by whatever just happened."""
        if self.ended:
            return
        if self.floor.reexamine(now_ns):
            self._hanging_up = False
        if (
            self.sessions.is_live
            and not self.floor.caller_speaks
            and not self.playout.awaits_truth()
            and self.asking.may_ask()
            and self.asking.ask(now_ns) == "greeting"
        ):
            self.greeting.stage = Stage.ASKED
        if self._hanging_up and self.responses.server is Server.IDLE and not self.playout.unheard():
            self._end_call(HangUp(), after_utterance=self.playout.unconfirmed(), reason="hang_up")
        elif self.sessions.line is Line.STANDBY and self._is_at_rest():
            self._metrics.renewals.inc()
            self.caller.turn_started()  # what was said last is heard by the new session, too
            self._step_session(Event.REST, now_ns)

    # --- recordings and the end ---

    def _say_recording(self, item_id: str, text: str, audio: bytes, now_ns: int) -> int:
        """Play a file as an utterance of its own; the model is told its words when a session is there."""
        response = self.responses.add(f"recorded_{item_id}", "greeting")
        response.done = response.lost = response.spoke = True
        response.add(item_id)
        utterance, _ = self.playout.ledger.receive(response.id, item_id, 0, len(audio))
        self.playout.begin(utterance)
        turn = self.history.find(item_id)
        if turn is not None:
            turn.text, turn.received_bytes = text, len(audio)
        if item_id == "greeting":
            self.greeting.stage = Stage.MADE
            self.greeting.say(utterance, now_ns)
        self.playout.speak(utterance, audio, now_ns)
        self.playout.end(utterance)
        return utterance.number

    def _fall_back(self, reason: str, now_ns: int) -> None:
        """The model is gone for good: what is in the line is heard, then the recorded sentence, then the TwiML."""
        if self.ended:
            return
        self.floor.session_lost()
        self.playout.end_all()
        after = self.playout.unheard()
        if self._script.fallback_audio:
            after = self._say_recording("fallback", self._script.fallback_text, self._script.fallback_audio, now_ns)
        ends = bool(self._script.fallback_audio) and self._script.fallback_ends_call
        self._end_call(HangUp() if ends else Fallback(), after_utterance=after, reason=reason)

    def _end_call(self, order: CallOrder, *, after_utterance: int, reason: str) -> None:
        self.ended = True
        self.commands.append(EndCall(order, after_utterance, reason))
