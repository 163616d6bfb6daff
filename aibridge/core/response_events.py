"""The effects of the model's responses on the regions: speech, beginnings, ends, faults; and new requests."""

from __future__ import annotations

from typing import Final

from ..models.port import (
    Ask,
    Fault,
    Purpose,
    ResponseBegan,
    ResponseEnded,
    Speech,
)
from .barge_in import Floor
from .cancel_once import Making, MakingEvent
from .commands import Command, LeaveSession
from .greeting_protection import Opening, OpeningAct, OpeningEvent
from .owed_and_retry import ANSWER_NS, Owed, OwedEvent
from .reconnect_and_renewal import SessionStep
from .responses import Response
from .session_events import SessionEvents
from .timers import Due
from .tools import ReplyEvent

# A response that yields nothing for this long while the line is silent never ends: longer than a model thinks before it
# speaks, and longer than any caller waits.
STALLED_NS: Final = 20_000_000_000
# A silent response is examined this often while the caller still hears its speech.
STALL_AGAIN_NS: Final = 1_000_000_000


class ResponseEvents(SessionEvents):
    """The model's half of a conversation."""

    def on_speech(self, event: Speech, now_ns: int) -> list[Command]:
        response = self.responses.get(event.response)
        if response is None or not response.is_making or self.ended or not self.sessions.is_live:
            self._metrics.illegal.inc()
            return []
        self._made_ns = now_ns
        utterance, is_new = self.utterances.receive(event.response, event.utterance, len(event.data))
        if not response.reaches_line or utterance.ended:
            self._metrics.late_deltas.inc()
            self.history.of_utterance(event.utterance)  # more was made than its turn has told
            if is_new:
                response.utterances.append(event.utterance)
                self.playout.silence(utterance)
            return []
        if not is_new:
            return self.playout.speak(utterance, event.data, now_ns)
        commands = self.playout.begin(utterance, response)
        self.count_opening(utterance, response.purpose, now_ns)
        return commands + self.playout.speak(utterance, event.data, now_ns)

    def on_began(self, event: ResponseBegan, now_ns: int) -> list[Command]:
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
        if not was_asked and now_ns < self._echo_answered_ns:
            self._echo_answered_ns = 0
            return self.step_making(MakingEvent.BEGAN, now_ns) + self.step_making(MakingEvent.INTERRUPTED, now_ns)
        self.response_began(now_ns, was_asked=was_asked and purpose is not None)
        commands = self.step_making(MakingEvent.BEGAN, now_ns)
        if purpose == "notice":
            self.notice.step(OpeningEvent.BEGAN)
            return commands
        if OpeningAct.CANCEL_OTHER in self.notice.step(OpeningEvent.OTHER_BEGAN):
            self.asking.owe("answer", now_ns)
            return commands + self.step_making(MakingEvent.INTERRUPTED, now_ns)
        self.greeting.step(OpeningEvent.BEGAN if purpose == "greeting" else OpeningEvent.OTHER_BEGAN)
        if not is_unwanted:  # an unwanted response answers nothing
            self.asking.step(OwedEvent.FORGIVEN, now_ns)
        return commands

    def on_ended(self, event: ResponseEnded, now_ns: int) -> list[Command]:
        response = self.responses.get(event.response)
        if response is None or not response.is_making:
            self._metrics.illegal.inc()
            return []
        is_wanted, spoke = response.reaches_line, bool(response.utterances)
        if spoke:
            self.returned = ""
        for number in event.unspoken:
            utterance, _ = self.utterances.receive(event.response, number, 0)
            self.playout.silence(utterance)
            response.utterances.append(number)
        commands = self.playout.end_all(event.response)
        if self.responses.active is response:
            self.timers.cancel(Due.STALLED)
            commands += self.step_making(MakingEvent.ENDED, now_ns)
        self.responses.end(response, event.cut_short)
        commands += self._truth.tell(response)
        if event.usage is not None:
            self.history.count_usage(event.usage)
        if event.outcome == "completed" and (spoke or response.purpose != "notice"):
            self.asking.failures = 0
        if event.outcome == "fatal":
            commands += self.step_session(SessionStep.FATAL, now_ns)
        elif is_wanted:
            commands += self._on_made(response, event, spoke=spoke, now_ns=now_ns)
        self.asking.response_ended(now_ns)
        self.response_over(now_ns)
        return commands

    def _on_made(self, response: Response, event: ResponseEnded, *, spoke: bool, now_ns: int) -> list[Command]:
        """A response ended without an interruption: it is made, or has failed."""
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

    def on_fault(self, fault: Fault, now_ns: int) -> list[Command]:
        is_ours = bool(self.asking.request) and fault.request == self.asking.request
        match fault.kind:
            case "cancel_too_late":
                self._metrics.cancel_not_active.inc()
                return self.step_making(MakingEvent.CANCEL_REFUSED, now_ns)
            case "busy":
                # The request crossed the model's own response; or the model's own was refused, which it reports, too.
                self._metrics.already_active.inc()
                return self.on_ask_failed(now_ns, is_crossed=True) if is_ours else []
            case "fatal":
                self._metrics.errors.inc()
                return self.step_session(SessionStep.FATAL, now_ns)
            case "other":
                self._metrics.errors.inc()
                return self.on_ask_failed(now_ns) if is_ours else []

    def on_ask_failed(self, now_ns: int, *, is_crossed: bool = False) -> list[Command]:
        """The requested response does not come. `is_crossed`: the model was making a response of its own."""
        purpose = self.asking.refused()
        commands = self.step_making(MakingEvent.REFUSED, now_ns)
        if purpose == "notice":
            self.notice.step(OpeningEvent.FAILED)
        elif purpose == "greeting":
            self.greeting.step(OpeningEvent.OTHER_BEGAN if is_crossed else OpeningEvent.FAILED)
        if is_crossed:
            if self.responses.active is None:
                self.response_over(now_ns)  # the one in the way may have ended before this
            self.asking.not_before(now_ns + ANSWER_NS)
            return commands
        return commands + self._retry(purpose, now_ns)

    def _retry(self, purpose: Purpose, now_ns: int) -> list[Command]:
        """A response failed: request it again; after the last retry, the caller gets the fallback."""
        if purpose in ("filler", "nudge"):
            return []
        if self.floor.state is not Floor.QUIET and purpose != "notice":
            return []  # the answer to the caller's present turn replaces it
        pause_ns = self.asking.retry_after_ns()
        if pause_ns is None:
            if purpose == "greeting":
                self._metrics.greetings_failed.inc()
            self._metrics.fallbacks.inc()
            return self.fall_back("the model fails", now_ns)
        self._metrics.retries.inc()
        self.asking.owe(purpose, now_ns)
        self.asking.not_before(now_ns + pause_ns)
        return []

    def ask(self, now_ns: int) -> list[Command]:
        """Request what is owed, unless something is in the way."""
        if not self.sessions.is_live or self.making.state is not Making.IDLE or not self.asking.may_ask():
            return []
        purpose = self._next_purpose()
        if purpose is None or self.playout.awaits_truth():
            return []
        self.making.step(MakingEvent.ASKED)
        if purpose in ("answer", "continue", "repeat"):
            self.tools.reply.step(ReplyEvent.ASKED)
        if purpose == "notice":
            self.notice.step(OpeningEvent.ASKED)
        elif self.greeting.state is Opening.DUE:
            self.greeting.step(OpeningEvent.ASKED if purpose == "greeting" else OpeningEvent.OTHER_BEGAN)
        return [Ask(self.asking.asked(purpose, now_ns), purpose)]

    def _next_purpose(self) -> Purpose | None:
        if self.notice.state is Opening.DUE:
            return "notice"
        if self.floor.state is not Floor.QUIET or self.keypad.is_pressing:
            return None
        is_greeting = self.greeting.state is Opening.DUE and self.asking.chart.state is Owed.NOTHING
        return "greeting" if is_greeting else self.asking.purpose()

    def look_for_progress(self, now_ns: int) -> list[Command]:
        """A response should have ended: a session that does not continue it is lost, even if it answers pings."""
        stalled_ns = self._made_ns + STALLED_NS
        if self.making.state is Making.ACTIVE:
            is_heard = not self.utterances.unheard_bytes(now_ns)
            if now_ns < stalled_ns or not is_heard:
                self.timers.set(Due.STALLED, stalled_ns if now_ns < stalled_ns else now_ns + STALL_AGAIN_NS)
                return []
        self._metrics.stalled.inc()
        return [LeaveSession(), *self.lose_session(now_ns)]
