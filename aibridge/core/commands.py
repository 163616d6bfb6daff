"""What the conversation wants done. The shell carries each out, in order, and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CreateResponse:
    """response.create. `purpose` goes into its metadata and comes back with response.created."""

    purpose: Literal["greeting", "answer"]


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
    """conversation.item.delete: nothing of it was heard."""

    item_id: str


@dataclass(frozen=True)
class AnswerFunction:
    """conversation.item.create with a function's output."""

    call_id: str
    output: str


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
class EndCall:
    """Close the media socket once `after_utterance` was heard (0: at once); without `goodbye`, to the fallback."""

    goodbye: bool
    after_utterance: int
    reason: str


Command = (
    CreateResponse
    | CancelResponse
    | TruncateItem
    | DeleteItem
    | AnswerFunction
    | Speak
    | EndSpeech
    | WithdrawSpeech
    | EndCall
)
