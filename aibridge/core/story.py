"""The story: the portable half of a conversation, enough to go on anywhere; and the line's memory beside it.

The story holds who said what and what of it was heard, the plan, and the state of each region: what is owed, the
goodbye, a pause, a caller who speaks. Its times are wall time, because no other machine shares our monotonic clock. The
line's memory makes sense inside this cell only: it says which utterance numbers txpacer knows.

The gateway keeps both, per call, as bytes that it does not read, and hands them back with the call. The encoding is
MessagePack. A newer version may add fields; unknown fields are ignored. An unreadable story is an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, TypeVar

import msgpack
import msgspec

from shared.plan import CallOrder, CallPlan, HangUp

from .history import REPLAY_CHARACTERS

VERSION: Final = 1
T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """One turn. Times are milliseconds of the Unix epoch."""

    number: int = 0
    # "caller" or "ai", and the number of the caller's turn or of the AI's utterance.
    role: str = "caller"
    ref: int = 0
    text: str = ""
    # 0: never began, or not ended yet.
    began_ms: int = 0
    ended_ms: int = 0
    # The AI's: bytes made, bytes heard (None while it is being heard), how long the ear waited inside it, and the bytes
    # whose words `text` holds (0: all).
    made_bytes: int = 0
    heard_bytes: int | None = None
    gap_ms: int = 0
    text_bytes: int = 0


@dataclass(frozen=True)
class Story:
    """Everything that a successor needs, on any machine."""

    plan: CallPlan = field(default_factory=CallPlan)
    turns: tuple[Said, ...] = ()
    # The name of each region's state, by the region's name.
    states: dict[str, str] = field(default_factory=dict)
    # The purpose of the requested or active response, and whether some of it was spoken.
    purpose: str = ""
    has_spoken: bool = False
    # What the goodbye hands the call on to.
    order: CallOrder = field(default_factory=HangUp)


@dataclass(frozen=True)
class LineMemory:
    """What a successor in the same cell needs to know about the line."""

    # The purpose of each utterance that is not known to be heard to its end.
    purposes: dict[int, str] = field(default_factory=dict)
    # The highest numbers drawn.
    last_utterance: int = 0
    last_turn: int = 0
    # The utterance that was being heard when the media socket began, and how many bytes of it were heard before.
    base: tuple[int, int] = (0, 0)


def shortened(turns: tuple[Said, ...]) -> tuple[Said, ...]:
    """The last turns: as many as a new session is told."""
    first, left = len(turns), REPLAY_CHARACTERS
    while first and (left := left - len(turns[first - 1].text)) >= 0:
        first -= 1
    return turns[first:]


def encode(story: Story, line: LineMemory) -> bytes:
    """Story and line memory as bytes for `decode`."""
    told = {each.name: getattr(story, each.name) for each in fields(story)}
    told |= {
        "version": VERSION,
        "plan": msgspec.to_builtins(story.plan),
        "turns": [asdict(said) for said in story.turns],
        "order": msgspec.to_builtins(story.order),
    }
    encoded: bytes = msgpack.packb({"story": told, "line": asdict(line)})
    return encoded


def decode(data: bytes) -> tuple[Story, LineMemory]:
    """Story and line memory of `encode`. Never raises: unreadable bytes give empty ones."""
    try:
        whole = msgpack.unpackb(data, strict_map_key=False)
        told = dict(whole["story"])
        told["turns"] = [_known(Said, said) for said in told["turns"]]
        story = msgspec.convert(_known(Story, told), Story)
        line = msgspec.convert(_known(LineMemory, whole["line"]), LineMemory)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        msgpack.UnpackException,
        msgspec.MsgspecError,
    ):
        return Story(), LineMemory()
    return story, line


def _known(kind: type[Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this version knows."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in told.items() if name in names}
