"""What the conversation wants done. The shell carries each out, in order, and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.plan import CallOrder

from .responses import Purpose

# --- to the model ---


@dataclass(frozen=True)
class CreateResponse:
    """response.create. `purpose` goes into its metadata and comes back with response.created."""

    purpose: Purpose
    event_id: str


@dataclass(frozen=True)
class CancelResponse:
    """response.cancel: at most once for each response."""

    response_id: str


@dataclass(frozen=True)
class TruncateItem:
    """conversation.item.truncate to what was heard of it."""

    item_id: str
    content_index: int
    audio_end_ms: int


@dataclass(frozen=True)
class DeleteItem:
    """conversation.item.delete: nothing of it was heard, or it is told anew."""

    item_id: str


@dataclass(frozen=True)
class TellItem:
    """conversation.item.create: words that were said before this session, or outside of it.

    `item_id` is ours; `after` is the item to put it behind (None: at the end).
    """

    item_id: str
    role: Literal["caller", "ai"]
    text: str
    after: str | None = None


@dataclass(frozen=True)
class AnswerFunction:
    """conversation.item.create with a function's output."""

    call_id: str
    output: str


@dataclass(frozen=True)
class DeliverAudio:
    """input_audio_buffer.append: caller audio that the session has missed."""

    data: bytes


# --- to the session's shell ---


@dataclass(frozen=True)
class Dial:
    """Open another session. Its session.updated, or its failure, is told to the conversation."""


@dataclass(frozen=True)
class LeaveSession:
    """The call's session answers no more: close it."""


@dataclass(frozen=True)
class UseSession:
    """The dialled session is the call's from here on; close the one before."""


# --- to the line ---


@dataclass(frozen=True)
class Speak:
    """Audio for the line."""

    utterance: int
    data: bytes


@dataclass(frozen=True)
class EndSpeech:
    """No more audio of an utterance will come."""

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
    """Close the media socket once `after_utterance` was heard (0: at once); `order` says what follows."""

    order: CallOrder
    after_utterance: int
    reason: str


ModelCommand = CreateResponse | CancelResponse | TruncateItem | DeleteItem | TellItem | AnswerFunction
Command = (
    ModelCommand
    | DeliverAudio
    | Dial
    | LeaveSession
    | UseSession
    | Speak
    | EndSpeech
    | WithdrawSpeech
    | PauseSpeech
    | ResumeSpeech
    | EndCall
)
