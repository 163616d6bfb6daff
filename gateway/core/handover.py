"""The messages that give a call to a worker: at the call's start, after a restart, and in place of a failed worker.

For each call a gateway keeps what a successor needs: the plan, the last memory of the conversation, how far the call's
frames came, and (in the shell) the caller audio that the former worker has not confirmed.
"""

from __future__ import annotations

from typing import Final

from shared.messages import CallEnded, CallStarted, FollowCall, LineLost

from .call import Call
from .commands import Command, Log, MoveAudio, ToWorker

# 24,000 characters of conversation are replayed at most; a little more for their frame.
MEMORY_MAX_BYTES: Final = 262_144


def remember(call: Call, memory: bytes) -> None:
    """Keep a conversation's memory for a successor. Beyond MEMORY_MAX_BYTES, the memory before stays."""
    if len(memory) <= MEMORY_MAX_BYTES:
        call.memory = memory


def announce(call: Call, gateway: str) -> list[Command]:
    """Announce a call to its worker, and whether a browser phone follows it."""
    started = CallStarted(
        call.number,
        gateway,
        call.token_id,
        call.call_sid,
        call.stream_sid,
        call.started_ns,
        call.plan,
        call.handovers,
        call.memory,
        call.returned,
    )
    followed = [ToWorker(call.worker, FollowCall(call.number))] if call.followed else []
    return [ToWorker(call.worker, started), *followed]


def give_again(call: Call, gateway: str, worker: int) -> list[Command]:
    """Give a call to its restarted worker, or to another worker, which also gets the unconfirmed caller audio."""
    before, call.worker = call.worker, worker
    call.handovers += 1
    goes_on = Log(f"call call_sid={call.call_sid} call={call.number:x} goes on at worker={worker}")
    if before == worker:
        return [*announce(call, gateway), *(ToWorker(worker, key) for key in call.keys), goes_on]
    return [
        # A stalled worker reads this when it resumes; txpacer no longer listens to it.
        ToWorker(before, CallEnded(call.number, "moved")),
        *announce(call, gateway),
        *(ToWorker(worker, key) for key in call.keys),
        MoveAudio(call.number, before, worker),
        goes_on,
    ]


def line_lost(call: Call, epoch: int) -> ToWorker:
    """Another txpacer answers: tell the worker of a call how far the call's frames came."""
    frames, heard = call.frames, call.heard
    since_mark = heard.frames_since_mark(frames.frames)
    lost = LineLost(call.number, epoch, tuple(heard.marks), since_mark, frames.seq, frames.last_wire_ns)
    return ToWorker(call.worker, lost)
