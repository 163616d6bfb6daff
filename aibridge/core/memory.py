"""A conversation in a few kilobytes, for the worker that takes it over when this one is dead.

The gateway keeps it, per call, and hands it back with the call; it never looks inside. What the model said last may
still be in the line then: txpacer knows how far that has come, and which utterance it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .history import REPLAY_CHARACTERS, Turn
from .ledger import Ledger

# Utterances of the dead worker that this does not know yet, at most: what was begun within the last second or two.
NUMBERS_AHEAD = 1_000


class Memory(msgspec.Struct, frozen=True):
    """What one worker tells the next."""

    turns: list[Turn] = []
    # Which turns the utterances are that were not known to be heard.
    items: dict[int, str] = {}
    last_utterance: int = 0
    # In the midst of a turn, whose words only the dead session heard.
    caller_speaks: bool = False
    # The utterance in whose midst the call's media socket began, and how many bytes of it were heard before.
    base: tuple[int, int] = (0, 0)


def remember(turns: list[Turn], ledger: Ledger, *, caller_speaks: bool, base: tuple[int, int] = (0, 0)) -> bytes:
    """A conversation as `recall` takes it: no more turns of it than a fresh session is told."""
    items = {u.number: u.item_id for u in ledger.open()}
    first, left = len(turns), REPLAY_CHARACTERS
    while first and (left := left - len(turns[first - 1].text)) >= 0:
        first -= 1
    return msgspec.msgpack.encode(Memory(turns[first:], items, ledger.last, caller_speaks, base))


def recall(data: bytes) -> Memory:
    """Never raises: a memory that cannot be read is an empty one."""
    try:
        memory: Memory = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Memory()
    return memory


_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Memory)
