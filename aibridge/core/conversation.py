"""One call's turn taking: events in, commands out; no socket, no clock.

Theory. Two things are tracked, and neither is derived from the other. The *response* is what the server is doing: it
moves by RESPONSE_TABLE, in which a missing key is an illegal event; that changes nothing and is counted. The *playout*
is what the caller hears: it runs seconds behind, and lives in the ledger, which only txpacer's reports move.

When the caller starts to speak, the two together make a Situation, and BARGE_IN_TABLE says what to do in it. The
server's response is cancelled only while it is active there; the speech in the line is withdrawn in any case; and when
txpacer has answered how many bytes were paced, and the server holds the response as finished, the model's conversation
is cut to what was heard. A response that has finished generating is often still heard for seconds, so the common
interruption sends no cancel at all.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Literal, assert_never

from shared.audio import ms_of
from shared.messages import PlayoutFinished, PlayoutShifted, PlayoutStarted, Withdrawn

from .commands import (
    AnswerFunction,
    CancelResponse,
    Command,
    CreateResponse,
    DeleteItem,
    EndCall,
    EndSpeech,
    Speak,
    TruncateItem,
    WithdrawSpeech,
)
from .ledger import Ledger, Utterance
from .metrics import ConversationMetrics
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
    OutputItemAdded,
    OutputItemDone,
    Response,
    ResponseCreated,
    ResponseDone,
    ServerError,
    ServerEvent,
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    TranscriptDone,
)


class Server(Enum):
    """What the server does for this conversation; it runs one response at a time."""

    IDLE = auto()
    REQUESTED = auto()  # we sent response.create and have not seen response.created
    ACTIVE = auto()
    CANCELLING = auto()  # we sent response.cancel and have not seen response.done


class Step(Enum):
    """What moves a response."""

    CREATE_SENT = auto()
    CREATE_REFUSED = auto()
    CREATED = auto()
    CANCEL_SENT = auto()
    CANCEL_REFUSED = auto()
    DONE = auto()


# A pair that is not here is illegal: counted, nothing changes.
RESPONSE_TABLE: Final[dict[tuple[Server, Step], Server]] = {
    (Server.IDLE, Step.CREATE_SENT): Server.REQUESTED,
    # The server's own VAD makes most responses.
    (Server.IDLE, Step.CREATED): Server.ACTIVE,
    (Server.REQUESTED, Step.CREATED): Server.ACTIVE,
    (Server.REQUESTED, Step.CREATE_REFUSED): Server.IDLE,
    # Our create crossed the server's own response, which won.
    (Server.ACTIVE, Step.CREATE_REFUSED): Server.ACTIVE,
    (Server.CANCELLING, Step.CREATE_REFUSED): Server.CANCELLING,
    (Server.IDLE, Step.CREATE_REFUSED): Server.IDLE,
    (Server.ACTIVE, Step.CANCEL_SENT): Server.CANCELLING,
    (Server.ACTIVE, Step.DONE): Server.IDLE,
    (Server.CANCELLING, Step.DONE): Server.IDLE,
    # The cancel crossed response.done, which is here already or about to come.
    (Server.CANCELLING, Step.CANCEL_REFUSED): Server.CANCELLING,
    (Server.ACTIVE, Step.CANCEL_REFUSED): Server.ACTIVE,
    (Server.IDLE, Step.CANCEL_REFUSED): Server.IDLE,
    (Server.REQUESTED, Step.CANCEL_REFUSED): Server.REQUESTED,
}


class Situation(Enum):
    """What the AI is doing when the caller starts to speak."""

    SILENT = auto()  # nothing is heard, waits, or is being made
    PROTECTED = auto()  # the greeting, before its first 500 ms were heard
    REQUESTED = auto()  # asked for, not begun: there is no id yet that could be cancelled
    ACTIVE = auto()  # the server is making it (heard already or not)
    GENERATED = auto()  # the server is done, the caller still hears it


class Act(Enum):
    """What a barge-in consists of."""

    REMEMBER = auto()  # look again when protection ends
    CANCEL = auto()
    CANCEL_WHEN_CREATED = auto()
    WITHDRAW = auto()


BARGE_IN_TABLE: Final[dict[Situation, tuple[Act, ...]]] = {
    Situation.SILENT: (),
    Situation.PROTECTED: (Act.REMEMBER,),
    Situation.REQUESTED: (Act.CANCEL_WHEN_CREATED, Act.WITHDRAW),
    Situation.ACTIVE: (Act.CANCEL, Act.WITHDRAW),
    Situation.GENERATED: (Act.WITHDRAW,),
}

# After a response that was in the way of an answer is done, the server may make the answer itself; only when it has not
# by then, we ask. It costs nothing: the caller is still hearing that response.
ANSWER_DELAY_NS: Final = 100_000_000
# Finished responses that are remembered, for late events of them.
KEEP_RESPONSES: Final = 8


@dataclass
class _Response:
    """A response of ours or of the server's VAD."""

    id: str
    greeting: bool
    # No audio of it goes to the line any more.
    interrupted: bool = False
    done: bool = False
    # Its items that can hold speech, in order.
    items: list[str] = field(default_factory=list)
    # Of these the server made more audio than it sent.
    incomplete: set[str] = field(default_factory=set)
    # The conversation holds what was heard of these.
    told: set[str] = field(default_factory=set)


class Conversation:
    """Feed it what happens; take `commands` after each call. Times are ns, monotonic.

    `protect_ns` of the greeting must be heard before it can be interrupted. `barge_in` is the setting of that name.
    """

    def __init__(
        self,
        *,
        greets: bool,
        protect_ns: int,
        barge_in: Literal["withdraw", "drain", "clear"],
        metrics: ConversationMetrics,
    ) -> None:
        self._protect_ns = protect_ns
        self._barge_in = barge_in
        self._metrics = metrics
        self._server = Server.IDLE
        # The response that is active on the server.
        self._active: _Response | None = None
        self._responses: OrderedDict[str, _Response] = OrderedDict()
        # The greeting: not asked for yet, then until its response is known, then until it was heard.
        self._greeting_due = greets
        self._greeting_awaited = greets
        self._greeting_utterance = 0
        self._cancel_when_created = False
        self._caller_speaks = False
        # An interruption waits for the end of greeting protection.
        self._remembered = False
        # A turn of the caller's was committed while a response was in its way.
        self._answer_owed = False
        self._answer_at_ns: int | None = None
        # The highest utterance of which a withdrawal was asked, and answered.
        self._withdrawing_through = 0
        self._withdrawn_through = 0
        # hang_up was called: the call ends when everything was heard.
        self._hanging_up = False
        self.ledger = Ledger()
        self.commands: list[Command] = []

    # --- the session ---

    def begin(self, now_ns: int) -> None:
        """The session has our settings and the media socket is open: greet, if that is due."""
        if self._greeting_due:
            self._greeting_due = False
            self._create("greeting")

    def receive(self, event: ServerEvent, now_ns: int) -> None:
        """An event of the Realtime session."""
        match event:
            case AudioDelta():
                self._on_audio(event)
            case SpeechStarted():
                self._caller_speaks = True
                self._barge_in_if_due(now_ns)
            case SpeechStopped():
                self._on_speech_stopped()
            case ResponseCreated():
                self._on_created(event.response)
            case ResponseDone():
                self._on_done(event.response, now_ns)
            case OutputItemAdded():
                self._on_item(event.response_id, event.item)
            case OutputItemDone():
                self._on_item_done(event.response_id, event.item)
            case AudioDone():
                utterance = self.ledger.find(event.response_id, event.item_id, event.content_index)
                if utterance is not None:
                    self._end(utterance)
            case ServerError():
                self._on_error(event)
            case (
                TranscriptDone() | CallerTranscript() | ItemAdded() | Committed() | SessionCreated() | SessionUpdated()
            ):
                pass
            case _:
                assert_never(event)
        self._reexamine(now_ns)

    def _on_audio(self, event: AudioDelta) -> None:
        response = self._responses.get(event.response_id)
        if response is None:
            self._metrics.illegal.inc()
            return
        utterance, new = self.ledger.receive(event.response_id, event.item_id, event.content_index, len(event.delta))
        if response.interrupted:
            self._metrics.late_deltas.inc()
            if new:
                self.ledger.settle(utterance.number, 0)
            return
        utterance.spoken_bytes += len(event.delta)
        if new:
            # The done events of a response's items may come all together at its end.
            for earlier in list(self.ledger.open()):
                if earlier.number < utterance.number:
                    self._end(earlier)
            if response.greeting and not self._greeting_utterance:
                self._greeting_utterance = utterance.number
        self.commands.append(Speak(utterance.number, event.delta))

    def _on_created(self, created: Response) -> None:
        if not self._step(Step.CREATED):
            return
        purpose = (created.metadata or {}).get("purpose")
        greeting = purpose == "greeting" and self._greeting_awaited
        response = _Response(created.id, greeting)
        if greeting:
            self._greeting_awaited = False
        self._active = self._responses[created.id] = response
        while len(self._responses) > KEEP_RESPONSES:
            self._responses.popitem(last=False)
        self._answer_owed = False
        self._answer_at_ns = None
        if self._cancel_when_created:
            self._cancel_when_created = False
            self._cancel()

    def _on_done(self, done: Response, now_ns: int) -> None:
        response = self._responses.get(done.id)
        if response is None or response.done:
            self._metrics.illegal.inc()
            return
        response.done = True
        if self._active is response:
            self._step(Step.DONE)
            self._active = None
        for item in done.output:
            self._on_item(done.id, item)
            if item.status != "completed":
                response.incomplete.add(item.id)
        for utterance in list(self.ledger.open()):
            if utterance.response_id == done.id:
                self._end(utterance)
        self._tell_truth(response)
        error = done.status_details.error if done.status_details is not None else None
        if error is not None and error.code in FATAL_CODES:
            self._end_call(goodbye=False, reason=error.code or "")
        if self._answer_owed:
            self._answer_at_ns = now_ns + ANSWER_DELAY_NS
        self._hang_up_when_heard()

    def _on_item(self, response_id: str, item: Item) -> None:
        response = self._responses.get(response_id)
        if response is not None and item.type == "message" and item.id not in response.items:
            response.items.append(item.id)

    def _on_item_done(self, response_id: str, item: Item) -> None:
        # Also sent for calls that were cut short; those must not be carried out.
        response = self._responses.get(response_id)
        if response is None or item.type != "function_call" or item.status != "completed":
            return
        if item.name == "hang_up":
            self._hanging_up = not response.interrupted
            self.commands.append(AnswerFunction(item.call_id, '{"ok": true}'))
        else:
            self.commands.append(AnswerFunction(item.call_id, '{"error": "no such function"}'))
            self._answer_owed = True

    def _on_error(self, event: ServerError) -> None:
        code = event.error.code
        if code == CANCEL_NOT_ACTIVE:
            self._metrics.cancel_not_active.inc()
            self._step(Step.CANCEL_REFUSED)
        elif code == ALREADY_ACTIVE:
            self._metrics.already_active.inc()
            self._cancel_when_created = False
            self._greeting_awaited = False
            self._step(Step.CREATE_REFUSED)
        else:
            self._metrics.errors.inc()
            if code in FATAL_CODES:
                self._end_call(goodbye=False, reason=code or "")

    # --- the caller ---

    def _on_speech_stopped(self) -> None:
        self._caller_speaks = False
        if self._server is not Server.IDLE:
            # The server cannot answer this turn: a response is in its way.
            self._answer_owed = True

    def _barge_in_if_due(self, now_ns: int) -> None:
        for act in BARGE_IN_TABLE[self._situation(now_ns)]:
            match act:
                case Act.REMEMBER:
                    self._remembered = True
                    self._metrics.protected.inc()
                case Act.CANCEL:
                    self._cancel()
                case Act.CANCEL_WHEN_CREATED:
                    self._cancel_when_created = True
                case Act.WITHDRAW:
                    self._interrupt()

    def _situation(self, now_ns: int) -> Situation:
        if self._is_protected(now_ns):
            return Situation.PROTECTED
        if self._server is Server.REQUESTED:
            return Situation.REQUESTED
        if self._server is Server.ACTIVE:
            return Situation.ACTIVE
        if any(u.number > self._withdrawing_through for u in self.ledger.open()):
            return Situation.GENERATED
        return Situation.SILENT

    def _is_protected(self, now_ns: int) -> bool:
        """The greeting is on its way, or is being heard and has not been for `protect_ns`."""
        if not self._protect_ns:
            return False
        if self._greeting_utterance:
            greeting = self.ledger.get(self._greeting_utterance)
            if greeting is None or greeting.heard_bytes is not None:
                return False
            return greeting.ear_start_ns is None or now_ns < greeting.ear_start_ns + self._protect_ns
        if self._greeting_awaited:
            return True
        return self._active is not None and self._active.greeting

    def _cancel(self) -> None:
        response = self._active
        if response is not None and not response.interrupted and self._step(Step.CANCEL_SENT):
            response.interrupted = True
            self.commands.append(CancelResponse(response.id))
            self._metrics.cancels.inc()

    def _interrupt(self) -> None:
        """Take back what the line has not paced."""
        self._metrics.interruptions.inc()
        self._hanging_up = False
        open_utterances = list(self.ledger.open())
        if not open_utterances:
            return
        for utterance in open_utterances:
            response = self._responses.get(utterance.response_id)
            if response is not None:
                response.interrupted = True
        if self._barge_in == "drain":
            for utterance in open_utterances:
                self._end(utterance)
            return
        through = self.ledger.last
        if through > self._withdrawing_through:
            self._withdrawing_through = through
            self.commands.append(WithdrawSpeech(through, self._barge_in == "clear"))

    # --- the playout ---

    def playout(self, report: PlayoutStarted | PlayoutShifted | PlayoutFinished | Withdrawn, now_ns: int) -> None:
        """A report of txpacer's about this call's line."""
        match report:
            case PlayoutStarted():
                utterance = self.ledger.get(report.utterance)
                if utterance is not None:
                    utterance.ear_start_ns = report.ear_ns
            case PlayoutShifted():
                utterance = self.ledger.get(report.utterance)
                if utterance is not None and utterance.ear_start_ns is not None:
                    utterance.ear_start_ns += report.gap_ns
            case PlayoutFinished():
                self._on_heard(report.utterance)
            case Withdrawn():
                self._on_withdrawn(report)
            case _:
                assert_never(report)
        self._reexamine(now_ns)

    def _on_heard(self, number: int) -> None:
        utterance = self.ledger.get(number)
        # One that was withdrawn was settled by the answer to that, which comes first.
        if utterance is None or self.ledger.settle(number, utterance.spoken_bytes) is None:
            return
        response = self._responses.get(utterance.response_id)
        if response is not None:
            self._tell_truth(response)
        self._hang_up_when_heard()

    def _on_withdrawn(self, answer: Withdrawn) -> None:
        self._withdrawn_through = max(self._withdrawn_through, answer.through)
        heard = dict(answer.paced)
        touched: dict[str, _Response] = {}
        for utterance in list(self.ledger.open()):
            if utterance.number <= answer.through:
                self.ledger.settle(utterance.number, heard.get(utterance.number, 0))
                response = self._responses.get(utterance.response_id)
                if response is not None:
                    touched[response.id] = response
        for response in touched.values():
            self._tell_truth(response)

    def _tell_truth(self, response: _Response) -> None:
        """Cut the model's conversation to what was heard of an interrupted response, once all of that is known.

        Not before response.done: until then the server may still append to the item.
        """
        if not (response.interrupted and response.done):
            return
        for item_id in response.items:
            utterances = self.ledger.of_item(response.id, item_id)
            if item_id in response.told or any(u.heard_bytes is None for u in utterances):
                continue
            response.told.add(item_id)
            if not any(u.heard_bytes for u in utterances):
                self.commands.append(DeleteItem(item_id))
                self._metrics.deleted.inc()
                continue
            for utterance in utterances:
                if utterance.cut or item_id in response.incomplete:
                    heard_ms = ms_of(utterance.heard_bytes or 0)
                    self.commands.append(TruncateItem(item_id, utterance.content_index, heard_ms))
                    self._metrics.truncated.inc()

    # --- time ---

    def next_due_ns(self) -> int | None:
        """When `advance` has something to do; None: nothing is planned."""
        due_ns = self._answer_at_ns
        if self._remembered:
            greeting = self.ledger.get(self._greeting_utterance)
            if greeting is not None and greeting.ear_start_ns is not None:
                end_ns = greeting.ear_start_ns + self._protect_ns
                due_ns = end_ns if due_ns is None else min(due_ns, end_ns)
        return due_ns

    def advance(self, now_ns: int) -> None:
        """Do what is due: look again at a remembered interruption, ask for an owed answer."""
        self._reexamine(now_ns)
        if self._answer_at_ns is not None and now_ns >= self._answer_at_ns:
            self._answer_at_ns = None
            if self._answer_owed and self._server is Server.IDLE:
                self._answer_owed = False
                self._create("answer")

    def _reexamine(self, now_ns: int) -> None:
        """When greeting protection is over, an interruption that waited for it happens, if the caller still speaks."""
        if self._remembered and not self._is_protected(now_ns):
            self._remembered = False
            if self._caller_speaks:
                self._barge_in_if_due(now_ns)

    # --- small steps ---

    def _step(self, step: Step) -> bool:
        """Move the response; False for an illegal step."""
        after = RESPONSE_TABLE.get((self._server, step))
        if after is None:
            self._metrics.illegal.inc()
            return False
        self._server = after
        return True

    def _create(self, purpose: Literal["greeting", "answer"]) -> None:
        if self._step(Step.CREATE_SENT):
            self.commands.append(CreateResponse(purpose))

    def _end(self, utterance: Utterance) -> None:
        if not utterance.ended:
            utterance.ended = True
            self.commands.append(EndSpeech(utterance.number))

    def _hang_up_when_heard(self) -> None:
        if self._hanging_up and self._server is Server.IDLE:
            self._end_call(goodbye=True, reason="hang_up")

    def _end_call(self, *, goodbye: bool, reason: str) -> None:
        self._hanging_up = False
        self.commands.append(EndCall(goodbye, self.unheard(), reason))

    def unheard(self) -> int:
        """The last utterance that the caller has not heard to its end; 0: all was heard."""
        return max((u.number for u in self.ledger.open()), default=0)
