"""What the conversation wants done, the model's part apart (models/port.py). The shell carries it out, in order."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from shared.plan import CallOrder

from ..models.port import ModelCommand

# --- to the session's shell ---


@dataclass(frozen=True)
class DialModel:
    """Open another session. What becomes of it is told to the conversation."""


@dataclass(frozen=True)
class LeaveSession:
    """The call's session answers no more: close it."""


@dataclass(frozen=True)
class UseSession:
    """The dialled session is the call's from here on; close the one before."""


# --- to the line ---


class Speak(msgspec.Struct, frozen=True, gc=False):
    """Audio for the line. The only command that comes with every delta."""

    utterance: int
    data: bytes


@dataclass(frozen=True)
class EndSpeech:
    """No more audio of an utterance comes."""

    utterance: int


@dataclass(frozen=True)
class WithdrawSpeech:
    """Pace nothing more of all utterances up to `through`."""

    through: int
    clear: bool


@dataclass(frozen=True)
class PauseSpeech:
    """Pace nothing until ResumeSpeech or a withdrawal: the caller may be interrupting."""


@dataclass(frozen=True)
class ResumeSpeech:
    """Go on with the next frame."""


# --- to the gateway ---


@dataclass(frozen=True)
class EndCall:
    """Hand the call on once `after_utterance` was heard (0: at once)."""

    order: CallOrder
    after_utterance: int
    reason: str


Command = (
    ModelCommand
    | DialModel
    | LeaveSession
    | UseSession
    | Speak
    | EndSpeech
    | WithdrawSpeech
    | PauseSpeech
    | ResumeSpeech
    | EndCall
)
