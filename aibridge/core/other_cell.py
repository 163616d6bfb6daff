"""A conversation from another cell: what its story has to become before it continues here.

The line, the media socket and the speech stay behind. The ear of the caller played on until the other cell was lost;
how much of the last utterance that was follows from when the ear began it, both in that cell's wall time.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from . import story
from .owed_and_retry import Owed
from .story import LineMemory, Said, Story

# mu-law at 8 kHz.
BYTES_PER_MS: Final = 8


def continued(memory: bytes, left_ms: int) -> bytes:
    """The memory with which the conversation goes on here. The other cell was last known to live at `left_ms`."""
    told, line = story.decode(memory)
    turns = tuple(_heard(said, left_ms) for said in told.turns)
    states = {**told.states}
    states.pop("line", None)  # this cell's line is a new one
    was, last = (told.turns[-1], turns[-1]) if turns else (Said(), Said())
    broke_off = was.role == "ai" and was.heard_bytes is None and (last.heard_bytes or 0) < last.made_bytes
    if broke_off and states.get("owed", Owed.NOTHING.name) == Owed.NOTHING.name:
        # The model goes on where the caller's ear stopped.
        states["owed"] = Owed.CONTINUE.name
    settled: Story = structs.replace(told, turns=turns, states=states)
    # Times of that machine's monotonic clock, and its line's utterances, mean nothing here. The numbers continue.
    return story.encode(settled, LineMemory({}, line.last_utterance, line.last_turn))


def _heard(said: Said, left_ms: int) -> Said:
    """An utterance that was being heard: the ear had played it until `left_ms`, and never more than was made."""
    if said.role not in ("ai", "tones") or said.heard_bytes is not None:
        return said
    played = (left_ms - said.began_ms - said.gap_ms) * BYTES_PER_MS if said.began_ms else 0
    heard = max(0, min(said.made_bytes, played))
    return structs.replace(said, heard_bytes=heard, ended_ms=max(left_ms, said.began_ms))
