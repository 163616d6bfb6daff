"""One call in aibridge: carries out the conversation's commands at the model, the line and the gateway."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import structs

from shared import messages
from shared.messages import (
    CallMemory,
    CallNote,
    LineLost,
    LineState,
    MarkHeard,
    Message,
    PlayoutFinished,
    PlayoutShifted,
    PlayoutStarted,
    Withdrawn,
)

from .call_line import CallLine
from .core import story, successor
from .core.commands import (
    Command,
    DialModel,
    EndCall,
    EndSpeech,
    LeaveSession,
    PauseSpeech,
    ResumeSpeech,
    Speak,
    UseSession,
    WithdrawSpeech,
)
from .core.conversation import Conversation
from .follower import Follower
from .models.port import (
    CallerSpeaks,
    DialFailed,
    Fault,
    Model,
    ModelCommand,
    ModelEvent,
    ResponseEnded,
    SessionLost,
    SessionReady,
    ToolCalled,
    TurnTaken,
)

log = logging.getLogger("aibridge")

_LINE_COMMANDS: Final = (EndSpeech, WithdrawSpeech, PauseSpeech, ResumeSpeech)
# All but Speak.
RareCommand = (
    ModelCommand
    | EndSpeech
    | WithdrawSpeech
    | PauseSpeech
    | ResumeSpeech
    | DialModel
    | LeaveSession
    | UseSession
    | EndCall
)
# After these events the memory for a successor has changed.
_TELLING: Final = (CallerSpeaks, TurnTaken, ResponseEnded, ToolCalled)


class Call:
    """From CallStarted to CallEnded. `to_pacer` and `to_gateway` take messages and never wait; `clock` gives ns.

    `dial` opens another session for the call. `on_due` is called whenever `due_ns` changed, `on_model` with the model's
    own name.
    """

    def __init__(
        self,
        *,
        call: int,
        call_sid: str,
        gateway: str,
        conversation: Conversation,
        to_pacer: Callable[[Message], None],
        to_gateway: Callable[[Message], None],
        dial: Callable[[Call], Model],
        on_due: Callable[[Call], None],
        on_model: Callable[[str], None] = lambda _: None,
        clock: Callable[[], int] = time.monotonic_ns,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.call = call
        self.call_sid = call_sid
        self.gateway = gateway
        self.conversation = conversation
        self.due_ns: int | None = None
        self.line = CallLine(call, gateway, conversation, to_pacer, clock)
        self._to_gateway = to_gateway
        self._dial = dial
        self._on_due = on_due
        self._on_model = on_model
        self._clock = clock
        # The wall time at 0 of the monotonic clock: taken once, so that jitter between the clocks changes no story.
        self._epoch_ns = wall_clock() - clock()
        # The call's session; None before the first one is ready, and between two.
        self._session: Model | None = None
        # The session that is being dialled, or is ready and waits for its turn.
        self._coming: Model | None = None
        self._logged_error = False
        # The predecessor's memory, until txpacer has said what the line holds.
        self._memory: bytes | None = None
        # The hash of the memory that the gateway has.
        self._kept = 0
        # The last EndCall, for a gateway that takes over.
        self.end_call: messages.EndCall | None = None
        # When caller audio last came: the ear of a lost media socket stopped about then.
        self.caller_heard_ns = 0
        self._follower: Follower | None = None

    def follow(self) -> None:
        """A browser phone follows this call: send notes to its gateway from now on. The gateway may repeat this."""
        if self._follower is None:
            self._follower = Follower(
                self.conversation.history, lambda note: self._to_gateway(CallNote(self.call, note))
            )

    # --- the beginning ---

    def start(self, coming: Model | None) -> None:
        """The media socket is open. `coming` is the session dialled ahead; None: that failed, or never happened."""
        self.line.ask()
        self._coming = coming
        self._carry_out(self.conversation.start(self._clock()))
        self._meet_session()

    def resume(self, coming: Model, memory: bytes, handover: int) -> None:
        """Begin a call of a failed worker, in place of `start`. txpacer says what the call's line holds."""
        self._memory = memory
        self.line.handover = handover
        self._coming = coming
        self.line.ask()

    def line_state(self, state: LineState) -> None:
        """txpacer has the call's line, and says what the line was given."""
        if not self.line.answered(state) or self._memory is None:
            return
        told, line = story.decode(self._memory)
        self._memory = None
        self.line.base = line.base
        speech = (*state.speech, *(b"" for _ in state.unheard[len(state.speech) :]))
        in_line = list(zip(state.unheard, speech, strict=False))
        now_ns = self._clock()
        self._carry_out(successor.successor(self.conversation, told, line, in_line, now_ns, self._epoch_ns))
        self._meet_session()

    def _meet_session(self) -> None:
        """Report the dialled session's outcome before the conversation began."""
        if self._coming is None:
            self._receive(DialFailed())
        elif self._coming.ready is not None:
            self._session_ready(self._coming.ready)

    def _session_ready(self, ready: SessionReady) -> None:
        if ready.model:
            self._on_model(ready.model)
        self._receive(ready)

    # --- losses ---

    def tell_memory(self) -> None:
        """Leave the memory for a successor with the gateway, unless the gateway has it."""
        if self._memory is not None:
            return
        memory = story.encode(*successor.tell(self.conversation, self._epoch_ns, self.line.base))
        if hash(memory) != self._kept:
            self._kept = hash(memory)
            self._to_gateway(CallMemory(self.call, memory))

    def line_lost(self, lost: LineLost) -> None:
        """txpacer was restarted."""
        if self._memory is not None:
            self.line.ask()  # the predecessor's speech is lost with the line
        else:
            self._report_all(self.line.lost(lost))

    def move(
        self, call: int, gateway: str, to_gateway: Callable[[Message], None], *, epoch: int, handover: int = 0
    ) -> None:
        """The call returned on another media socket: continue there where the caller's ear stopped."""
        self.call, self.gateway, self._to_gateway = call, gateway, to_gateway
        self.line.call, self.line.gateway, self.line.handover = call, gateway, handover
        self._kept = 0  # this gateway has nothing of it yet
        if self._memory is not None:
            self.line.ask()
        else:
            self._report_all(self.line.moved(epoch, self.caller_heard_ns))
        if self.end_call is not None:
            self._to_gateway(structs.replace(self.end_call, call=call))

    def ask_again(self, epoch: int) -> None:
        """txpacer has not answered the request of the line. Its epoch is `epoch` now."""
        self._report_all(self.line.ask_again(epoch))

    def forget_heard(self, pacer_seen_ns: int) -> None:
        """Drop speech that the ear has long passed. txpacer was alive at `pacer_seen_ns`."""
        self.line.forget_heard(min(self.caller_heard_ns, pacer_seen_ns))

    # --- what happens ---

    def caller_audio(self, data: bytes, at_ns: int) -> None:
        """Caller audio that came to the gateway at `at_ns`: a worker that stood still reads it late."""
        self.caller_heard_ns = at_ns
        self.conversation.caller.take(data)
        if self._session is not None:
            self._session.hear(data)

    def model_event(self, session: Model, event: ModelEvent | SessionReady) -> None:
        if session is self._session:
            if type(event) is Fault and not self._logged_error:
                self._logged_error = True
                # Log the code only: a message can quote the caller.
                log.warning("call %s: the model answered with an error (%s); going on", self.call_sid, event.code)
            commands = self.conversation.receive(event, self._clock())
            if self._follower is not None and not isinstance(event, SessionReady):
                self._follower.event(event)
            self._carry_out(commands)
            if isinstance(event, _TELLING):
                self.tell_memory()
        elif session is self._coming and isinstance(event, SessionReady) and self._memory is None:
            self._session_ready(event)

    def model_gone(self, session: Model, *, refused: bool = False) -> None:
        """A session ended, or did not come; `refused`: a retry would fail, too."""
        if session is self._coming:
            self._coming = None
            if self._memory is None:
                self._receive(DialFailed(refused))
        elif session is self._session:
            self._session = None
            self._receive(SessionLost())

    def _receive(self, event: SessionReady | SessionLost | DialFailed) -> None:
        self._carry_out(self.conversation.receive(event, self._clock()))

    def playout(self, report: PlayoutStarted | PlayoutShifted | PlayoutFinished | Withdrawn) -> None:
        self._carry_out(self.conversation.report(report, self._clock()))
        if isinstance(report, Withdrawn):
            self.tell_memory()  # else a successor takes for heard what was made

    def _report_all(self, reports: Sequence[PlayoutFinished | Withdrawn]) -> None:
        for report in reports:
            self.playout(report)

    def mark(self, mark: MarkHeard) -> None:
        self.conversation.mark(mark)

    def advance(self) -> None:
        """The time `due_ns` has come."""
        self.due_ns = None
        self._carry_out(self.conversation.advance(self._clock()))

    def close(self) -> None:
        """The call is over: close its sessions."""
        for session in (self._session, self._coming):
            if session is not None:
                session.close()
        self._session = self._coming = None

    # --- what is to be done ---

    def _carry_out(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Speak):  # nearly every one
                self.line.speak(command.utterance, command.data)
            else:
                self._do(command)
        if self._follower is not None:
            self._follower.look(self._clock())
        due_ns = self.conversation.next_due_ns()
        if due_ns != self.due_ns:
            self.due_ns = due_ns
            self._on_due(self)

    def _do(self, command: RareCommand) -> None:
        if isinstance(command, _LINE_COMMANDS):
            self.line.carry_out(command)
            if isinstance(command, PauseSpeech | ResumeSpeech):
                self.tell_memory()  # else a successor's line stays paused
            return
        match command:
            case DialModel():
                if self._coming is not None:
                    self._coming.close()
                self._coming = self._dial(self)
            case LeaveSession():
                if self._session is not None:
                    self._session.close()
                    self._session = None
            case UseSession():
                if self._session is not None:
                    self._session.close()
                self._session, self._coming = self._coming, None
            case EndCall(order, after_utterance, reason):
                log.info("call %s: ending (%s)", self.call_sid, reason)
                self.end_call = messages.EndCall(self.call, order, after_utterance)
                self._to_gateway(self.end_call)
                self.tell_memory()
            case _:
                if self._session is not None:
                    self._session.tell(command)
