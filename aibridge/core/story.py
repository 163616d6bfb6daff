"""The story: the portable half of a conversation, enough to go on anywhere; and the line's memory beside it.

The story holds who said what and what of it was heard, the plan, and the state of each region: what is owed, the
goodbye, a pause, a caller who speaks. Its times are wall time, because no other machine shares our monotonic clock. The
line's memory makes sense inside this cell only: it says which utterance numbers txpacer knows.

The gateway keeps both, per call, as bytes that it does not read, and hands them back with the call. The encoding is
MessagePack. A newer version may add fields; unknown fields are ignored. An unreadable story is an empty one.
"""

from __future__ import annotations

from typing import Final

import msgpack
import msgspec

from shared.plan import CallOrder, CallPlan, HangUp

VERSION: Final = 1


class Said(msgspec.Struct, frozen=True, array_like=True):
    """One turn. Times are milliseconds of the Unix epoch. A newer version may only append fields."""

    number: int = 0
    # "caller", "ai", "tool", "keys" or "tones", and the number of the caller's turn, of the AI's utterance or of the
    # tool's call.
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
    # The tool's: `text` is its answer.
    name: str = ""
    arguments: str = ""
    # The incarnation of toolbox that was asked.
    asked_of: int = 0
    outcome: str = ""


class Story(msgspec.Struct, frozen=True):
    """Everything that a successor needs, on any machine."""

    plan: CallPlan = CallPlan()
    # The agent as the call began with it; aibridge/agent.py reads it.
    agent: bytes = b""
    # When the call began; milliseconds of the Unix epoch, 0: unknown.
    began_ms: int = 0
    turns: tuple[Said, ...] = ()
    # The name of each region's state, by the region's name.
    states: dict[str, str] = {}
    # The purpose of the requested or active response, and whether some of it was spoken.
    purpose: str = ""
    has_spoken: bool = False
    # What the goodbye hands the call on to.
    order: CallOrder = HangUp()
    # How the order ended from which the caller came back, until the model has spoken about it; "": there was none.
    returned: str = ""
    # The keys of the entry that the caller has begun, and the last entry, for the tools. Both may be secret.
    pressed: str = ""
    pressed_is_secret: bool = False
    entered: str = ""


class LineMemory(msgspec.Struct, frozen=True):
    """What a successor in the same cell needs to know about the line."""

    # The purpose of each utterance that is not known to be heard to its end.
    purposes: dict[int, str] = {}
    # The highest numbers drawn.
    last_utterance: int = 0
    last_turn: int = 0
    # The utterance that was being heard when the media socket began, and how many bytes of it were heard before.
    base: tuple[int, int] = (0, 0)
    # When the last key was pressed that is in the story; ns, monotonic.
    last_key_ns: int = 0


def encode(story: Story, line: LineMemory) -> bytes:
    """Both in one: what `decode` takes."""
    told = {
        "version": VERSION,
        "story": msgspec.to_builtins(story, builtin_types=(bytes,)),
        "line": msgspec.to_builtins(line),
    }
    encoded: bytes = msgpack.packb(told)
    return encoded


def decode(data: bytes) -> tuple[Story, LineMemory]:
    """Never raises: what cannot be read is empty. Fields of a newer version are ignored."""
    try:
        told = msgpack.unpackb(data, strict_map_key=False)
        return msgspec.convert(told["story"], Story), msgspec.convert(told["line"], LineMemory)
    except (ValueError, TypeError, KeyError, RecursionError, msgpack.UnpackException, msgspec.MsgspecError):
        return Story(), LineMemory()
