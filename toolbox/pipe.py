"""The messages between toolbox and its children, and their frames on the socket between them.

A frame is its length (4 bytes, big-endian) and a MessagePack array. A child is not trusted: toolbox kills one that
sends a frame that is too long or does not decode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

# The list of the tools of a large MCP server; an answer is cut to 8,000 characters.
FRAME_MAX: Final = 1_000_000

Kind = Literal["python", "http", "mcp"]


class Setup(msgspec.Struct, frozen=True, array_like=True, tag="setup"):
    """The first message to a child."""

    config: bytes  # JSON; its type depends on the kind (toolbox/config.py)
    memory_mb: int  # that its tools may take


class Context(msgspec.Struct, frozen=True, array_like=True):
    """What a tool may know of the phone call."""

    call_sid: str
    call_id: str
    agent: str
    direction: str
    from_number: str
    to_number: str
    variables: dict[str, str]
    digits: str = ""


class RunTool(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    number: int
    tool: str
    arguments: str
    context: Context


class StopTool(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    number: int


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """A tool that a child can run."""

    name: str
    description: str
    parameters: str  # a JSON schema
    deadline_s: float = 10.0
    concurrency: int = 8
    side_effect: bool = True
    on_interruption: Literal["continue", "cancel"] = "continue"
    cancellable: bool = True


class Offered(msgspec.Struct, frozen=True, array_like=True, tag="offered"):
    """From a child that is ready, and when its tools have changed."""

    tools: tuple[Offer, ...]


class CannotStart(msgspec.Struct, frozen=True, array_like=True, tag="cannot-start"):
    """From a child that ends at once."""

    reason: str


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    number: int
    outcome: Literal["done", "failed", "refused"]
    output: str
    is_last: bool = False  # the child ends now: its memory is full


ToChild = Setup | RunTool | StopTool
FromChild = Offered | CannotStart | Ended

_encoder: Final = msgspec.msgpack.Encoder()


class BrokenFrameError(ValueError):
    """The other end does not speak this protocol."""


def frame(message: Any) -> bytes:
    data = _encoder.encode(message)
    return len(data).to_bytes(4, "big") + data


class Frames:
    """Puts the messages of one end together again. `types`: ToChild or FromChild."""

    def __init__(self, types: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(types)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that are complete with `data`. Raises BrokenFrameError."""
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if end > FRAME_MAX:
                raise BrokenFrameError("a frame is too long")
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[4:end])
            del self._buffer[:end]
            try:
                yield self._decoder.decode(body)
            except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
                raise BrokenFrameError("not a message") from exc
