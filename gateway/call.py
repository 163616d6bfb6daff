"""One live call as the gateway sees it: a media socket, and how far its audio has come."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from shared.plan import CallPlan

from .connections import MediaConnection
from .core.limits import AudioRate
from .core.media_streams import Outbound
from .outbox import Outbox

# Utterances that can be partly heard at the same time, and some more.
MARKS_KEPT: Final = 16


@dataclass(eq=False, slots=True)
class Call:
    # Drawn for this socket; no two in a cell are equal.
    number: int
    call_sid: str
    connection: MediaConnection
    # The aibridge worker that holds the conversation, and the way to it.
    worker: int
    bridge: Outbox
    outbound: Outbound
    started_ns: int
    stream_sid: str
    audio_rate: AudioRate = field(default_factory=AudioRate)
    plan: CallPlan = field(default_factory=CallPlan)
    # What the worker wants its successor to know, and what it was told when the call started.
    memory: bytes = b""
    handovers: int = 0
    token_id: str = ""
    # `clear`s sent so far. Marks carry it, because Twilio also echoes the marks that a `clear` threw away.
    generation: int = 0
    # When the last frame was written; 0 before the first one.
    last_wire_ns: int = 0
    # The longest between two writes of one utterance.
    largest_gap_ns: int = 0
    # For the call's record: frames written, those that were late, and stalls.
    frames: int = 0
    late_frames: int = 0
    stalls: int = 0
    # Since when the socket has not taken what was written to it; 0 while it does.
    stuck_since_ns: int = 0
    # The next frame, if it follows the last one within one utterance; -1 when it need not.
    next_seq: int = -1
    # How far the call's frames have come, for a line that is lost: the next frame's number, frames since the last mark,
    # and of the last marks `(utterance, frames)`.
    seq: int = 0
    frames_since_mark: int = 0
    marks: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=MARKS_KEPT))
    # The last utterance of this generation that Twilio said was played.
    heard_utterance: int = 0
    # Hang up once this utterance was heard; 0: nothing of the kind was asked.
    hang_up_after: int = 0
    hang_up_timer: asyncio.TimerHandle | None = field(default=None)
    # Set once, with CallEnded; from then on nothing is sent for this call.
    ended: bool = False

    def cleared(self) -> None:
        """A `clear` was sent: marks from now on are of a new generation, and nothing of it was heard yet."""
        self.generation += 1
        self.heard_utterance = 0
        self.next_seq = -1
