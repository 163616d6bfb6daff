"""The model port: the events and commands through which the core sees any model, and what a model can do.

The core knows no provider. A model's folder translates between its own protocol and these values. Every number here is
ours: `Numbers` draws them for one call, across all its sessions. A provider's ids never leave its folder.

Contract of an implementation:

- Utterance numbers rise in the order in which the utterances are first spoken. One utterance is one piece of speech
  that can be truncated or forgotten by itself.
- `Words` of an utterance follow its first `Speech`.
- A response begins once and ends at most once. After SessionLost nothing more comes of a session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

# "filler": the caller waits for a tool; "nudge": the caller says nothing; "tones": of keys, which no model makes.
Purpose = Literal["notice", "greeting", "answer", "continue", "repeat", "filler", "nudge", "farewell", "tones"]
# "fatal": the response failed, and no other session could go on either.
Outcome = Literal["completed", "cancelled", "incomplete", "failed", "fatal"]
# The meaning of a fault for the conversation, whatever the provider calls it.
FaultKind = Literal["cancel_too_late", "busy", "fatal", "other"]


@dataclass(frozen=True)
class Abilities:
    """What a model can do. `kind` chooses the statechart that runs its calls."""

    kind: Literal["half_duplex", "full_duplex"]
    # The model says when the caller's turn begins and ends, and answers each turn by itself.
    turns: bool
    # A response that is being made can be stopped.
    cancel: bool
    # Its speech can be truncated to what was heard.
    truncate: bool
    # A fresh session can be told what was said before it.
    tell_history: bool
    # Its output never pauses: silence comes as audio, too.
    continuous_output: bool


class Numbers:
    """Draws the numbers of one call's utterances, responses, turns of the caller and tool calls: from 1, rising."""

    def __init__(self) -> None:
        self.utterance = self.response = self.turn = self.tool_call = 0

    def next_utterance(self) -> int:
        self.utterance += 1
        return self.utterance

    def next_response(self) -> int:
        self.response += 1
        return self.response

    def next_turn(self) -> int:
        self.turn += 1
        return self.turn

    def next_tool_call(self) -> int:
        self.tool_call += 1
        return self.tool_call


# --- events ---------------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of all events."""


class SessionReady(Event, frozen=True, gc=False):
    """The dialled session has our settings. `model` is what it says that it is; "" when it does not."""

    model: str = ""


class SessionLost(Event, frozen=True, gc=False):
    """The call's session is gone, whatever the reason."""


class DialFailed(Event, frozen=True, gc=False):
    """The dialled session did not come, or went before it was used. `is_refused`: no other session would come."""

    is_refused: bool = False


class CallerSpeaks(Event, frozen=True, gc=False):
    """The model hears the caller begin to speak."""

    turn: int


class CallerSilent(Event, frozen=True, gc=False):
    """The model considers the caller's turn ended."""

    turn: int


class TurnTaken(Event, frozen=True, gc=False):
    """The caller's turn is in the model's conversation."""

    turn: int


class CallerWords(Event, frozen=True, gc=False):
    """All words of a turn of the caller."""

    turn: int
    text: str


class ResponseBegan(Event, frozen=True, gc=False):
    """The model makes a response. `purpose` is that of the Ask that it answers; None: the model began by itself."""

    response: int
    purpose: Purpose | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one response."""

    input_text: int = 0
    input_audio: int = 0
    input_cached: int = 0
    output_text: int = 0
    output_audio: int = 0


class ResponseEnded(Event, frozen=True, gc=False):
    """Nothing more comes of a response."""

    response: int
    outcome: Outcome = "completed"
    # Utterances that the model remembers in greater length than it sent.
    cut_short: tuple[int, ...] = ()
    # What it remembers without having spoken it; numbered so that it can be forgotten.
    unspoken: tuple[int, ...] = ()
    usage: Usage | None = None


class Speech(Event, frozen=True, gc=False):
    """Audio of an utterance: mu-law of any length, in order."""

    response: int
    utterance: int
    data: bytes


class SpeechEnded(Event, frozen=True, gc=False):
    """No more audio of an utterance comes."""

    utterance: int


class Words(Event, frozen=True, gc=False):
    """More words of an utterance; with `is_all`, all of them."""

    utterance: int
    text: str
    is_all: bool = False


class ToolCalled(Event, frozen=True, gc=False):
    """The model calls a tool. `arguments` is JSON."""

    response: int
    tool_call: int
    name: str
    arguments: str = ""


class ModelToolCalled(Event, frozen=True, gc=False):
    """The model calls a tool that its own server carries out. `name` is SERVER.TOOL, `arguments` is JSON."""

    response: int
    tool_call: int
    name: str
    arguments: str = ""


class ModelToolAnswered(Event, frozen=True, gc=False):
    """Such a tool has answered, and the answer is in the model's conversation. `is_error`: the server says no."""

    tool_call: int
    output: str
    is_error: bool = False


class AnswerTaken(Event, frozen=True, gc=False):
    """The answer of a tool is in the model's conversation: responses that begin later know it."""

    tool_call: int


class TellingTaken(Event, frozen=True, gc=False):
    """What was told under this number is in the model's conversation: responses that begin later know it."""

    number: int


class Truncated(Event, frozen=True, gc=False):
    """The model confirms where it cut an utterance."""

    utterance: int
    heard_ms: int


class Fault(Event, frozen=True, gc=False):
    """The model reports an error. `request` is the number of the failed Ask, 0: none. `code` is for the log only."""

    kind: FaultKind
    request: int = 0
    code: str = ""


ModelEvent = (
    CallerSpeaks
    | CallerSilent
    | TurnTaken
    | CallerWords
    | ResponseBegan
    | ResponseEnded
    | Speech
    | SpeechEnded
    | Words
    | ToolCalled
    | ModelToolCalled
    | ModelToolAnswered
    | AnswerTaken
    | TellingTaken
    | Truncated
    | Fault
)
SessionEvent = SessionReady | SessionLost | DialFailed


# --- commands -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """Make a response of this purpose. `request` numbers the Asks of a call; a Fault repeats it."""

    request: int
    purpose: Purpose


@dataclass(frozen=True)
class Cancel:
    """Stop making a response. Sent at most once for each response."""

    response: int


@dataclass(frozen=True)
class Truncate:
    """Only `heard_ms` of the utterance were heard."""

    utterance: int
    heard_ms: int


@dataclass(frozen=True)
class Forget:
    """Nothing of the utterance was heard."""

    utterance: int


@dataclass(frozen=True)
class ForgetTurn:
    """The caller said nothing: the turn is an echo of the AI."""

    turn: int


@dataclass(frozen=True)
class Tell:
    """Words that were said before this session, or outside of it; or a note about the call, which nobody said.

    `number` counts what was told; `after` is the telling whose place these words take (0: they come last).
    """

    number: int
    role: Literal["caller", "ai", "note"]
    text: str
    after: int = 0


@dataclass(frozen=True)
class TellCall:
    """A tool that was called before this session. `arguments` is JSON; `number` counts what was told, as in Tell."""

    number: int
    name: str
    arguments: str


@dataclass(frozen=True)
class TellAnswer:
    """The answer of the tool call that was told as `number`."""

    number: int
    output: str


@dataclass(frozen=True)
class Untell:
    """Forget the words that were told under this number."""

    number: int


@dataclass(frozen=True)
class AnswerTool:
    """The answer of a tool."""

    tool_call: int
    output: str


@dataclass(frozen=True)
class HearAudio:
    """Caller audio that the session has missed."""

    data: bytes


ModelCommand = (
    Ask | Cancel | Truncate | Forget | ForgetTurn | Tell | TellCall | TellAnswer | Untell | AnswerTool | HearAudio
)


class Model(Protocol):
    """A session as a call uses it. Writing never waits; a session that is gone drops what is written to it."""

    @property
    def ready(self) -> SessionReady | None:
        """The session's event after it accepted the settings; None before."""

    def tell(self, command: ModelCommand) -> None: ...

    def hear(self, audio: bytes) -> None:
        """The caller's next audio. Only once `ready`."""

    def close(self) -> None: ...


class Receiver(Protocol):
    """Who gets the events of a session."""

    def event(self, event: ModelEvent | SessionReady) -> None: ...

    def gone(self, *, refused: bool) -> None:
        """The session ended without `close`, or did not come; `refused`: a retry would fail, too. Nothing follows."""
