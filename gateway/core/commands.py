"""The core's commands. The shell carries them out in order, and decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from shared.facts import Fact
from shared.messages import Message
from shared.plan import CallOrder

from .hangup import Close


class ToWorker(NamedTuple):
    """Send a message to an aibridge worker."""

    worker: int
    message: Message


class ToPacer(NamedTuple):
    """Send a message to txpacer."""

    message: Message


class EarEcho(NamedTuple):
    """Tell txpacer that Twilio echoed the mark before frame `seq`."""

    call: int
    seq: int
    at_ns: int


class MoveAudio(NamedTuple):
    """Send the caller audio that one worker has not confirmed, and all further audio, to another worker."""

    call: int
    before: int
    after: int


class CloseSocket(NamedTuple):
    """Close a call's media socket in this way, without waiting for the peer."""

    call: int
    close: Close


class Release(NamedTuple):
    """A call is over: forget its socket, and the audio that its worker has not confirmed."""

    call: int
    worker: int


class Note(NamedTuple):
    """Send a fact to callbook."""

    fact: Fact


class ShowNote(NamedTuple):
    """Show a note about a call to the browser phone that follows it."""

    call: int
    note: bytes


class AnswerWebhook(NamedTuple):
    """What the webhook of this call waits for has come."""

    call_sid: str


class Recall(NamedTuple):
    """Ask callbook what other cells know of a call: RecallCall."""

    call_sid: str


class KeepStory(NamedTuple):
    """Give the newest story of a live call to callbook, for another cell."""

    call_sid: str
    story: bytes
    since_ms: int


class CloseStory(NamedTuple):
    """Tell callbook that a call ended on purpose, with this order; `story` is its last one."""

    call_sid: str
    order: CallOrder
    story: bytes
    since_ms: int


class Log(NamedTuple):
    """Write a line to the log."""

    text: str


Command: TypeAlias = (
    ToWorker
    | ToPacer
    | EarEcho
    | MoveAudio
    | CloseSocket
    | Release
    | Note
    | ShowNote
    | AnswerWebhook
    | Recall
    | KeepStory
    | CloseStory
    | Log
)
Commands: TypeAlias = Sequence[Command]
