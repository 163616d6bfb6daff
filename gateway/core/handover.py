"""What a worker is told of a call when it gets it: at its start, after a restart, and in the place of a failed worker.

A gateway keeps for each call what a successor needs: the plan, the last memory of the conversation, how far the call's
frames came, and (in the shell) caller audio that the worker before has not confirmed.
"""

from __future__ import annotations

from typing import Final

from shared.messages import CallEnded, CallStarted, FollowCall, LineLost

from .call import Call
from .commands import Command, MoveAudio, ToWorker

# 24,000 characters of conversation are replayed at most; a little more for their frame.
MEMORY_MAX_BYTES: Final = 262_144


def remember(call: Call, memory: bytes) -> None:
    """Keep what a call's worker wants its successor to know; beyond MEMORY_MAX_BYTES, what it said before stays."""
    if len(memory) <= MEMORY_MAX_BYTES:
        call.memory = memory


def announce(call: Call, gateway: str) -> list[Command]:
    """Tell a call to its worker, and whether somebody follows it."""
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
    )
    followed = [ToWorker(call.worker, FollowCall(call.number))] if call.followed else []
    return [ToWorker(call.worker, started), *followed]


def hand_over(call: Call, gateway: str, worker: int) -> list[Command]:
    """Give a call whose worker is gone to another one, with the caller audio that was not confirmed."""
    before, call.worker = call.worker, worker
    call.handovers += 1
    return [
        # A stalled worker reads this when it resumes; txpacer does not listen to it any more.
        ToWorker(before, CallEnded(call.number, "moved")),
        *announce(call, gateway),
        MoveAudio(call.number, before, worker),
    ]


def line_lost(call: Call, epoch: int) -> ToWorker:
    """Tell the worker of a call how far its frames came, because another txpacer answers than before."""
    frames, heard = call.frames, call.heard
    since_mark = heard.frames_since_mark(frames.frames)
    lost = LineLost(call.number, epoch, tuple(heard.marks), since_mark, frames.seq, frames.last_wire_ns)
    return ToWorker(call.worker, lost)
