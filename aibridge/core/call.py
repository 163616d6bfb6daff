"""One call in aibridge: carries out the conversation's commands at the model, the line and the gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import structs

from shared import messages
from shared.messages import (
    CallMemory,
    CallNote,
    LineLost,
    LineState,
    PlayoutFinished,
    PlayoutShifted,
    PlayoutStarted,
    Withdrawn,
)

from ..models.port import (
    CallerSpeaks,
    DialFailed,
    Fault,
    Model,
    ModelCommand,
    ModelEvent,
    ModelToolAnswered,
    ModelToolCalled,
    Numbers,
    ResponseEnded,
    SessionLost,
    SessionReady,
    ToolCalled,
    TurnTaken,
)
from . import story, successor
from .agent import Agent
from .call_line import CallLine
from .commands import (
    CallTool,
    CancelTool,
    Command,
    DialModel,
    EndCall,
    EndSpeech,
    ForgoSession,
    LeaveSession,
    PauseSpeech,
    ResumeSpeech,
    Speak,
    TellStory,
    UseSession,
    WithdrawSpeech,
)
from .conversation import Conversation
from .follower import Follower
from .hand_off import Part
from .reporter import Reporter
from .shell import Shell

_LINE_COMMANDS: Final = (EndSpeech, WithdrawSpeech, PauseSpeech, ResumeSpeech)
# All but Speak.
RareCommand = (
    ModelCommand
    | EndSpeech
    | WithdrawSpeech
    | PauseSpeech
    | ResumeSpeech
    | DialModel
    | ForgoSession
    | LeaveSession
    | UseSession
    | CallTool
    | CancelTool
    | TellStory
    | EndCall
)
# After these events the memory for a successor has changed.
_TELLING: Final = (CallerSpeaks, TurnTaken, ResponseEnded, ToolCalled, ModelToolCalled, ModelToolAnswered)


class Call:
    """From CallStarted to CallEnded."""

    def __init__(
        self,
        shell: Shell,
        *,
        call: int,
        call_sid: str,
        gateway: str,
        agent: Agent,
        conversation: Conversation,
        reporter: Reporter,
        colleague: Callable[[str], Part | None] | None = None,
    ) -> None:
        """`colleague` finds the agent of a name, to whom the call is handed off."""
        self.call = call
        self.call_sid = call_sid
        self.gateway = gateway
        self.agent = agent
        self.conversation = conversation
        self.reporter = reporter
        self.due_ns: int | None = None
        self.line = CallLine(shell, call, gateway, conversation)
        self._shell = shell
        # The wall time at 0 of the monotonic clock: taken once, so that jitter between the clocks changes no story.
        self._epoch_ns = shell.unix_ms(0) * 1_000_000
        # The call's session; None before the first one is ready, and between two.
        self._session: Model | None = None
        # The session that is being dialled, or is ready and waits for its turn.
        self._coming: Model | None = None
        # Whose session that is.
        self._coming_agent = agent
        self._colleague = colleague
        self._logged_error = False
        # The predecessor's memory, until txpacer has said what the line holds.
        self._memory: bytes | None = None
        # See `resume`.
        self._former = ""
        self._noted_ms: int | None = None
        # Keys that were pressed meanwhile, with their times.
        self._early_keys: list[tuple[str, int]] = []
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
            self._follower = Follower(self.conversation.history, self._send_note)

    def _send_note(self, note: bytes) -> None:
        self._shell.to_gateway(self.gateway, CallNote(self.call, note))

    # --- the beginning ---

    def start(self, coming: Model) -> None:
        """The media socket is open. `coming` is the session dialled for it."""
        self.line.ask()
        self._coming = coming
        self._carry_out(self.conversation.start(self._shell.now_ns))
        self._meet_session()

    def resume(
        self, coming: Model, memory: bytes, handover: int, *, former: str = "", noted_ms: int | None = None
    ) -> None:
        """Begin a call of a failed worker, in place of `start`. txpacer says what the call's line holds.

        `former`: what had the call before (handover_silence.py); "": it was with a dialled party.
        `noted_ms`: the call comes from another cell, whose record may lack the turns since then (of the Unix epoch).
        """
        self._memory, self._former = memory, former
        self._noted_ms = noted_ms
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
        now_ns = self._shell.now_ns
        self._carry_out(successor.successor(self.conversation, told, line, in_line, now_ns, self._epoch_ns))
        if self._former:
            successor.count_silence(self.conversation, self._former, told, in_line, now_ns)
        if self._noted_ms is not None:
            self.conversation.history.note_again(self._noted_ms * 1_000_000 - self._epoch_ns)
        self._meet_session()
        for key, at_ns in self._early_keys:
            self.key(key, at_ns)
        self._early_keys.clear()

    def _meet_session(self) -> None:
        """Report the dialled session's outcome before the conversation began."""
        if self._coming is None:
            self._receive(DialFailed())
        elif self._coming.ready is not None:
            self._receive(self._coming.ready)

    # --- losses ---

    def memory(self) -> bytes:
        """What a successor needs."""
        return story.encode(*successor.tell(self.conversation, self._epoch_ns, self.line.base))

    def tell_memory(self) -> None:
        """Leave the memory for a successor with the gateway, unless the gateway has it."""
        if self._memory is not None:
            return
        memory = self.memory()
        if hash(memory) != self._kept:
            self._kept = hash(memory)
            self._shell.to_gateway(self.gateway, CallMemory(self.call, memory))

    def line_lost(self, lost: LineLost) -> None:
        """txpacer was restarted."""
        if self._memory is not None:
            self.line.ask()  # the predecessor's speech is lost with the line
        else:
            self._report_all(self.line.lost(lost))

    def move(self, call: int, gateway: str, *, epoch: int, handover: int = 0) -> None:
        """The call returned on another media socket: continue there where the caller's ear stopped."""
        former = "socket" if gateway == self.gateway else "gateway"
        self.call, self.gateway = call, gateway
        self.line.call, self.line.gateway, self.line.handover = call, gateway, handover
        self._kept = 0  # this gateway has nothing of it yet
        if self._memory is not None:
            self.line.ask()
        else:
            self._report_all(self.line.moved(epoch, self.caller_heard_ns))
            if self.conversation.playout.is_audible():
                self.conversation.handover_silence.begins(former, since_ns=self.caller_heard_ns)
        if self.end_call is not None:
            self._shell.to_gateway(self.gateway, structs.replace(self.end_call, call=call))

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
        commands = self.conversation.hear(data, at_ns, self._shell.now_ns)
        if commands:
            self._carry_out(commands)
        if self._session is not None:
            self._session.hear(self.conversation.without_echo(data))

    def key(self, key: str, at_ns: int) -> None:
        """The caller pressed a key at `at_ns`."""
        if self._memory is not None:
            self._early_keys.append((key, at_ns))
            return
        self._carry_out(self.conversation.key(key, at_ns, self._shell.now_ns))

    def model_event(self, session: Model, event: ModelEvent | SessionReady) -> None:
        if session is self._session:
            if type(event) is Fault and not self._logged_error:
                self._logged_error = True
                # Log the code only: a message can quote the caller.
                self._shell.log.warning(
                    "call %s: the model answered with an error (%s); going on", self.call_sid, event.code
                )
            commands = self.conversation.receive(event, self._shell.now_ns)
            if self._follower is not None and not isinstance(event, SessionReady):
                self._follower.event(event)
            self._carry_out(commands)
            if isinstance(event, _TELLING):
                self.tell_memory()
        elif session is self._coming and isinstance(event, SessionReady) and self._memory is None:
            self._receive(event)

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
        self._carry_out(self.conversation.receive(event, self._shell.now_ns))

    def playout(self, report: PlayoutStarted | PlayoutShifted | PlayoutFinished | Withdrawn) -> None:
        if isinstance(report, PlayoutShifted) and report.audible:
            self.reporter.gap(report.gap_ns, continued=report.continued)
        self._carry_out(self.conversation.report(report, self._shell.now_ns))
        if isinstance(report, Withdrawn | PlayoutStarted):
            # Else a successor takes for heard what was made, or another cell for unheard what has begun.
            self.tell_memory()

    def _report_all(self, reports: Sequence[PlayoutFinished | Withdrawn]) -> None:
        for report in reports:
            self.playout(report)

    def tool_answered(self, tool_call: int, output: str, outcome: str) -> None:
        """toolbox answers a call of a tool."""
        self._carry_out(self.conversation.tool_answered(tool_call, output, outcome, self._shell.now_ns))
        self.tell_memory()

    def advance(self) -> None:
        """The time `due_ns` has come."""
        self.due_ns = None
        self._carry_out(self.conversation.advance(self._shell.now_ns))

    def close(self) -> None:
        """The call is over: close its sessions, and stop its timer."""
        for session in (self._session, self._coming):
            if session is not None:
                session.close()
        self._session = self._coming = None
        self.conversation.handover_silence.ends(self._shell.now_ns)
        self.due_ns = None
        self._shell.plan(self)

    # --- what is to be done ---

    def _carry_out(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Speak):  # nearly every one
                self.line.speak(command.utterance, command.data)
            else:
                self._do(command)
        if self._follower is not None:
            self._follower.look(self._shell.now_ns)
        due_ns = self.conversation.next_due_ns()
        if due_ns != self.due_ns:
            self.due_ns = due_ns
            self._shell.plan(self)

    def _do(self, command: RareCommand) -> None:
        if isinstance(command, _LINE_COMMANDS):
            self.line.carry_out(command)
            if isinstance(command, PauseSpeech | ResumeSpeech):
                self.tell_memory()  # else a successor's line stays paused
            return
        match command:
            case DialModel(agent):
                self._dial(agent)
            case ForgoSession():
                self._forgo()
            case LeaveSession():
                if self._session is not None:
                    self._session.close()
                    self._session = None
            case UseSession():
                if self._session is not None:
                    self._session.close()
                self._session, self._coming = self._coming, None
                self.agent = self._coming_agent
                ready = self._session.ready if self._session is not None else None
                model = ready.model if ready is not None else ""
                self.reporter.speaks(self.agent.name, model or self.agent.model)
            case CallTool():
                call = self.conversation.tools.get(command.tool_call)
                if call is not None and not call.asked_of:
                    call.asked_of = self._shell.toolbox_epoch
                self.tell_memory()  # before toolbox begins: a successor asks for the answer, and does not call again
                self._shell.call_tool(self.call_sid, self.agent.name, self.conversation.plan, command)
            case CancelTool(tool_call):
                self._shell.cancel_tool(self.call_sid, tool_call)
            case TellStory():
                self.tell_memory()
            case EndCall(order, after_utterance, reason):
                self._shell.log.info("call %s: ending (%s)", self.call_sid, reason)
                self.end_call = messages.EndCall(self.call, order, after_utterance)
                self._shell.to_gateway(self.gateway, self.end_call)
                self.tell_memory()
            case _:
                if self._session is not None:
                    self._session.tell(command)

    def _forgo(self) -> None:
        if self._coming is not None:
            self._coming.close()
            self._coming = None

    def _dial(self, name: str) -> None:
        """Dial a session of the call's agent, or of the agent of this name."""
        self._forgo()
        part = self._colleague(name) if name and self._colleague is not None else None
        self.conversation.coming = part
        if name and part is None:
            self._shell.log.error("call %s: there is no agent %s to hand it off to", self.call_sid, name)
            self._receive(DialFailed(True))
            return
        self._coming_agent = part.agent if part is not None else self.agent
        self._coming = Dialled(
            self._shell, self.call_sid, self._coming_agent, self.conversation.numbers, resumed=True, call=self
        ).session


class Dialled:
    """A session from dialling to its end. Its events go to `call`, once the media socket of that is there."""

    def __init__(
        self, shell: Shell, call_sid: str, agent: Agent, numbers: Numbers, *, resumed: bool, call: Call | None = None
    ) -> None:
        self.agent = agent
        self.numbers = numbers
        # Twilio returned with a call whose media socket was lost.
        self.resumed = resumed
        self.call = call
        # The session does not come: True when no other would, False when a retry may help; None while it may still
        # come.
        self.refused: bool | None = None
        self.session = shell.dial(call_sid, agent, numbers, self)

    def event(self, event: ModelEvent | SessionReady) -> None:
        if self.call is not None:
            self.call.model_event(self.session, event)

    def gone(self, *, refused: bool) -> None:
        self.refused = refused
        call, self.call = self.call, None
        if call is not None:
            call.model_gone(self.session, refused=refused)
