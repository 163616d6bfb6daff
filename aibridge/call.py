"""One call in aibridge: carries the conversation's commands to the model, the line and the gateway."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol, assert_never

from msgspec import structs
from openai.types.realtime import RealtimeClientEventParam

from shared import messages
from shared.audio import BYTE_NS
from shared.messages import (
    CallMemory,
    CallNote,
    LineLost,
    LineState,
    MarkHeard,
    Message,
    OpenLine,
    PauseLine,
    PlayoutFinished,
    PlayoutShifted,
    PlayoutStarted,
    RestoreLine,
    ResumeLine,
    Speech,
    SpeechEnd,
    Withdraw,
    Withdrawn,
)

from .core.commands import (
    AnswerFunction,
    CancelResponse,
    Command,
    CreateResponse,
    DeleteItem,
    DeliverAudio,
    Dial,
    EndCall,
    EndSpeech,
    LeaveSession,
    PauseSpeech,
    ResumeSpeech,
    Speak,
    TellItem,
    TruncateItem,
    UseSession,
    WithdrawSpeech,
)
from .core.conversation import Conversation
from .core.memory import Memory, recall, remember
from .core.realtime import Committed, ResponseDone, ServerError, ServerEvent, SessionUpdated, SpeechStarted
from .core.requests import client_event
from .core.unheard import Unheard, given, heard_until
from .follower import Follower

log = logging.getLogger("aibridge")

# Speech is kept for so long behind the ear: more than our idea of the ear can be wrong by. So is the last of what an
# utterance has so far, which a line may hold back while the model is slow.
PASSED_NS: Final = 1_000_000_000


class Model(Protocol):
    """A session as a call uses it. Writing never waits; what is written to one that is gone is dropped."""

    @property
    def ready(self) -> bool: ...
    def send(self, event: RealtimeClientEventParam) -> None: ...
    def append(self, audio: bytes) -> None: ...
    def close(self) -> None: ...


class Call:
    """From CallStarted to CallEnded. `to_pacer` and `to_gateway` take messages and never wait; `clock` gives ns.

    `dial` opens another session for the call. `on_due` is told whenever `due_ns` changed.
    """

    def __init__(
        self,
        *,
        call: int,
        call_sid: str,
        gateway: str,
        greeting_instructions: str,
        conversation: Conversation,
        to_pacer: Callable[[Message], None],
        to_gateway: Callable[[Message], None],
        dial: Callable[[Call], Model],
        on_due: Callable[[Call], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.call = call
        self.call_sid = call_sid
        self.conversation = conversation
        self.due_ns: int | None = None
        self.gateway = gateway
        self._greeting_instructions = greeting_instructions
        self._to_pacer = to_pacer
        self._to_gateway = to_gateway
        self._dial = dial
        self._on_due = on_due
        self._clock = clock
        # The call's session; None before the first one is ready, and between two.
        self._session: Model | None = None
        # The one that is being dialled, or is ready and waits for its turn.
        self._coming: Model | None = None
        self._logged_error = False
        # What the line holds, should it be lost; and whether it was told to pause.
        self._unheard = Unheard()
        self._is_paused = False
        # txpacer is asked for a line until it answers: how often, and since when (ns; 0: it has). Until then the line
        # may not be there, and what is said waits in `_unheard`, unless it was asked for the first time.
        self._asks = 0
        self.asked_ns = 0
        self._is_line_there = True
        # How far the frames had come when the line, or the media socket, was lost; None: neither was.
        self._lost: LineLost | None = None
        # The utterance in whose midst this media socket began, and how many bytes of it were heard before.
        self._base = (0, 0)
        # While txpacer is asked what the line has of another worker's.
        self._memory: Memory | None = None
        # The hash of what the gateway was told last to remember.
        self._remembered = 0
        self._handover = 0
        # The last EndCall, for a gateway that takes over.
        self.end_call: messages.EndCall | None = None
        # When caller audio last came: the ear of a media socket that is gone stopped about then.
        self.caller_heard_ns = 0
        self._follower: Follower | None = None

    def follow(self) -> None:
        """Somebody watches this call: from now on, tell its gateway what happens."""
        self._follower = Follower(self.conversation.history, lambda note: self._to_gateway(CallNote(self.call, note)))

    def start(self, coming: Model | None) -> None:
        """The media socket is open. `coming` was dialled ahead; None: that failed, or never happened."""
        self._ask_for_line()
        self._coming = coming
        now_ns = self._clock()
        self.conversation.start(now_ns)
        if coming is None:
            self.conversation.dial_failed(now_ns)
        elif coming.ready:
            self.conversation.session_ready(now_ns)
        self._carry_out()

    def resume(self, coming: Model, memory: bytes, handover: int) -> None:
        """In the place of `start`: another worker had this call, and died. txpacer says what its line has."""
        self._memory = recall(memory)
        self._base = self._memory.base
        self._handover = handover
        self._coming = coming
        self._ask_for_line()

    def line_state(self, state: LineState) -> None:
        """txpacer has a line for the call, and says what that was given."""
        if state.ask != self._asks:
            return  # it was asked again since, and something may have been said in between
        self.asked_ns = 0
        was_there, self._is_line_there = self._is_line_there, True
        memory, self._memory = self._memory, None
        if memory is None:
            if not was_there:
                self._fill_line(state)
            return
        for (utterance, _, paced_bytes, _, _), speech in zip(state.unheard, state.speech, strict=False):
            self._unheard.adopt(utterance, paced_bytes, speech)
        now_ns = self._clock()
        self.conversation.resume(memory, state.unheard, now_ns)
        if self._coming is None:
            self.conversation.dial_failed(now_ns)
        elif self._coming.ready:
            self.conversation.session_ready(now_ns)
        self._carry_out()

    def tell_memory(self) -> None:
        """Leave with the gateway what a worker that takes over has to know, unless that is as before."""
        conversation = self.conversation
        conversation.playout.record_open()
        memory = remember(
            conversation.history.turns,
            conversation.playout.ledger,
            caller_speaks=conversation.floor.caller_speaks,
            base=self._base,
        )
        if self._memory is None and hash(memory) != self._remembered:
            self._remembered = hash(memory)
            self._to_gateway(CallMemory(self.call, memory))

    def line_lost(self, lost: LineLost) -> None:
        """txpacer was restarted: its new line goes on behind the last frame that the gateway was given."""
        if self._memory is not None:
            self._ask_for_line()  # what the line held of another worker's is gone with it
            return
        self._lost = lost
        self._restore(*given(self.conversation.playout.ledger.open(), lost, self._base))

    def move(
        self, call: int, gateway: str, to_gateway: Callable[[Message], None], *, epoch: int, handover: int = 0
    ) -> None:
        """The call came back on another media socket: it goes on there where the caller's ear stopped."""
        self.call, self.gateway, self._to_gateway = call, gateway, to_gateway
        self._handover = handover
        self._remembered = 0  # this gateway has nothing of it yet
        self._base = (0, 0)
        if self._memory is not None:
            self._ask_for_line()
        else:
            self._lost = LineLost(call, epoch, (), 0, 0, 0)
            self._restore(*heard_until(self.conversation.playout.ledger.open(), self.caller_heard_ns), is_moved=True)
        if self.end_call is not None:
            self._to_gateway(structs.replace(self.end_call, call=call))

    def ask_again(self, epoch: int) -> None:
        """txpacer, which is `epoch` now, has not answered: it was another one, or its answer is late."""
        if self._lost is None:
            # Of what was said since, nobody knows whether it arrived; the answer to this tells.
            self._is_line_there = False
            self._ask_for_line()
        else:
            self._lost = structs.replace(self._lost, epoch=epoch)
            self._restore(*given(self.conversation.playout.ledger.open(), self._lost, self._base))

    def forget_heard(self, pacer_seen_ns: int) -> None:
        """Keep no speech that the ear has long passed. txpacer was alive at `pacer_seen_ns`."""
        if self._is_paused or not self._is_line_there:
            return
        # Beyond these two nobody knows whether the ear went on.
        until_ns = min(self.caller_heard_ns, pacer_seen_ns) - PASSED_NS
        for utterance in self.conversation.playout.ledger.open():
            heard = min(utterance.estimate_heard(until_ns, 0), utterance.spoken_bytes - PASSED_NS // BYTE_NS)
            self._unheard.forget_before(utterance.number, heard)

    def _ask_for_line(self) -> None:
        self._asked()
        self._to_pacer(OpenLine(self.call, self.gateway, self._handover, self._asks))

    def _asked(self) -> None:
        self._asks += 1
        self.asked_ns = self._clock()

    def _fill_line(self, state: LineState) -> None:
        """Say what the line has not been given."""
        sizes = {number: size for number, size, *_ in state.unheard}
        playout = self.conversation.playout
        if self._is_paused:
            self._to_pacer(PauseLine(self.call))
        for utterance in playout.ledger.open():
            number = utterance.number
            if playout.awaits_truth() and number <= playout.withdrawing_through:
                continue
            speech = self._unheard.rest(number, sizes.get(number, 0))
            if speech:
                self._to_pacer(Speech(self.call, number, speech))
            if utterance.ended:
                self._to_pacer(SpeechEnd(self.call, number))

    def _restore(self, paced: dict[int, int], finished: set[int], *, is_moved: bool = False) -> None:
        """Have the line made anew. Of each open utterance, `paced` bytes have left; those in `finished` have wholly.

        What it lacks then follows when it is there, see `line_state`.
        """
        assert self._lost is not None
        playout = self.conversation.playout
        withdrawing = playout.withdrawing_through if playout.awaits_truth() else 0
        gone = [u for u in playout.ledger.open() if u.number <= withdrawing or u.number in finished]
        rest = [u for u in playout.ledger.open() if u not in gone]
        head = offset = ear_ns = 0
        if rest:
            head = rest[0].number
            offset = max(paced[head], self._unheard.begin(head))
            if offset and rest[0].ear_start_ns is not None:
                ear_ns = rest[0].ear_start_ns + offset * BYTE_NS
        if is_moved:
            self._base = (head, offset)
        lost = self._lost
        self._is_line_there = False
        self._asked()
        self._to_pacer(
            RestoreLine(self.call, self.gateway, lost.epoch, lost.seq, head, offset, ear_ns, self._handover, self._asks)
        )
        # What the old line would have said, had it lived.
        now_ns = self._clock()
        for utterance in gone:
            if utterance.number > withdrawing:
                self.playout(PlayoutFinished(self.call, utterance.number, now_ns))
        if withdrawing:
            left = tuple((u.number, paced[u.number]) for u in gone if u.number <= withdrawing and paced[u.number])
            self.playout(Withdrawn(self.call, withdrawing, left, now_ns))

    # --- what happens ---

    def caller_audio(self, data: bytes) -> None:
        self.caller_heard_ns = self._clock()
        self.conversation.caller.take(data)
        if self._session is not None:
            self._session.append(data)

    def model_event(self, session: Model, event: ServerEvent) -> None:
        if session is self._coming:
            if isinstance(event, SessionUpdated) and self._memory is None:
                self.conversation.session_ready(self._clock())
                self._carry_out()
            return
        if session is not self._session:
            return
        if isinstance(event, ServerError) and not self._logged_error:
            self._logged_error = True
            # The code only: a message can quote what was said.
            log.warning("call %s: the model answered with an error (%s); going on", self.call_sid, event.error.code)
        self.conversation.receive(event, self._clock())
        if self._follower is not None:
            self._follower.event(event)
        self._carry_out()
        if isinstance(event, (SpeechStarted, Committed, ResponseDone)):
            self.tell_memory()

    def model_gone(self, session: Model, *, refused: bool = False) -> None:
        """A session ended, or did not come; `refused`: no other would."""
        now_ns = self._clock()
        if session is self._coming:
            self._coming = None
            if self._memory is None:
                self.conversation.dial_failed(now_ns, refused=refused)
        elif session is self._session:
            self._session = None
            self.conversation.session_lost(now_ns)
        self._carry_out()

    def playout(self, report: PlayoutStarted | PlayoutShifted | PlayoutFinished | Withdrawn) -> None:
        if isinstance(report, PlayoutFinished):
            self._unheard.forget_through(report.utterance)
        self.conversation.report(report, self._clock())
        self._carry_out()
        if isinstance(report, Withdrawn):
            self.tell_memory()  # else a successor takes for heard what was made

    def mark(self, mark: MarkHeard) -> None:
        self.conversation.mark(mark)

    def advance(self) -> None:
        """The time `due_ns` has come."""
        self.due_ns = None
        self.conversation.advance(self._clock())
        self._carry_out()

    def close(self) -> None:
        """The call is over: nothing of it stays open."""
        for session in (self._session, self._coming):
            if session is not None:
                session.close()
        self._session = self._coming = None

    # --- what is to be done ---

    def _carry_out(self) -> None:
        commands = self.conversation.commands
        if commands:
            for command in commands:
                self._do(command)
            commands.clear()
        if self._follower is not None:
            self._follower.look(self._clock())
        due_ns = self.conversation.next_due_ns()
        if due_ns != self.due_ns:
            self.due_ns = due_ns
            self._on_due(self)

    def _do(self, command: Command) -> None:
        match command:
            case Speak(utterance, data):
                self._unheard.speak(utterance, data)
                if self._is_line_there:
                    self._to_pacer(Speech(self.call, utterance, data))
            case EndSpeech(utterance):
                if self._is_line_there:
                    self._to_pacer(SpeechEnd(self.call, utterance))
            case WithdrawSpeech(through, clear):
                self._unheard.forget_through(through)
                self._is_paused = False
                self._to_pacer(Withdraw(self.call, through, clear))
            case PauseSpeech():
                self._is_paused = True
                self._to_pacer(PauseLine(self.call))
            case ResumeSpeech():
                self._is_paused = False
                self._to_pacer(ResumeLine(self.call))
            case CreateResponse() | CancelResponse() | TruncateItem() | DeleteItem() | TellItem() | AnswerFunction():
                if self._session is not None:
                    self._session.send(client_event(command, self._greeting_instructions))
            case DeliverAudio(data):
                if self._session is not None:
                    self._session.append(data)
            case Dial():
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
            case _:
                assert_never(command)
