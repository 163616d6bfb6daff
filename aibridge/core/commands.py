"""The conversation's commands, except those to the model (models/port.py). The shell carries them out in order."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from shared.plan import CallOrder

from ..models.port import ModelCommand

# --- to the session's shell ---


@dataclass(frozen=True)
class DialModel:
    """Open another session, and report its outcome to the conversation.

    `agent` is the name of the agent to whom the call is handed off; "": the call's own.
    """

    agent: str = ""


@dataclass(frozen=True)
class ForgoSession:
    """Close the dialled session; nobody wants it any more."""


@dataclass(frozen=True)
class LeaveSession:
    """Close the call's session, which has stopped answering."""


@dataclass(frozen=True)
class UseSession:
    """Make the dialled session the call's session; close the one before."""


# --- to the line ---


class Speak(msgspec.Struct, frozen=True, gc=False):
    """Send audio to the line. The only command that comes with every delta."""

    utterance: int
    data: bytes


@dataclass(frozen=True)
class EndSpeech:
    """No more audio of an utterance comes."""

    utterance: int


@dataclass(frozen=True)
class WithdrawSpeech:
    """Pace nothing more of the utterances up to `through`."""

    through: int
    clear: bool


@dataclass(frozen=True)
class PauseSpeech:
    """Pace nothing until ResumeSpeech or a withdrawal: the caller may be interrupting."""


@dataclass(frozen=True)
class ResumeSpeech:
    """Go on with the next frame."""


# --- to toolbox ---


@dataclass(frozen=True)
class CallTool:
    """Carry out a tool. `tool_call` names the call within the conversation; `arguments` is JSON.

    `asked_of`: the incarnation of toolbox that a predecessor asked; 0: none.
    """

    tool_call: int
    name: str
    arguments: str
    asked_of: int = 0
    # The caller's last entry on the keypad, for the tool alone.
    digits: str = field(default="", repr=False)


@dataclass(frozen=True)
class CancelTool:
    """Nobody waits for this call any more."""

    tool_call: int


# --- to the gateway ---


@dataclass(frozen=True)
class TellStory:
    """Leave the story with the gateway at once: a successor must know what has just happened."""


@dataclass(frozen=True)
class EndCall:
    """Hand the call on once `after_utterance` was heard (0: at once)."""

    order: CallOrder
    after_utterance: int
    reason: str


Command = (
    ModelCommand
    | DialModel
    | ForgoSession
    | LeaveSession
    | UseSession
    | Speak
    | EndSpeech
    | WithdrawSpeech
    | PauseSpeech
    | ResumeSpeech
    | CallTool
    | CancelTool
    | TellStory
    | EndCall
)
