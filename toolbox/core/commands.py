"""What the cores ask the shell, and each other, to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from shared.messages import CallTool, ToolAnswered

# --- from the calls ---


@dataclass(frozen=True)
class Enqueue:
    """The tool has room for call `number`: have it run by its pool."""

    number: int
    pool: str
    tool: str  # its name within the pool
    ask: CallTool


@dataclass(frozen=True)
class Withdraw:
    """Call `number` is answered: its pool may forget it, or must stop it."""

    number: int
    pool: str


@dataclass(frozen=True)
class Reply:
    """Send the answer to the worker that asked last."""

    asker: str
    answer: ToolAnswered


@dataclass(frozen=True)
class Note:
    """Count and log how call `number` ended."""

    tool: str
    call_sid: str
    outcome: str
    seconds: float


# --- from a pool ---


@dataclass(frozen=True)
class Spawn:
    child: int


@dataclass(frozen=True)
class Run:
    """Give call `number` to a child."""

    child: int
    number: int


@dataclass(frozen=True)
class Halt:
    """Ask a child to stop call `number`."""

    child: int
    number: int


@dataclass(frozen=True)
class Close:
    """Let a child end by itself."""

    child: int


@dataclass(frozen=True)
class Kill:
    child: int


@dataclass(frozen=True)
class Lost:
    """No child has call `number` any more, or none will."""

    number: int


CallCommand: TypeAlias = Enqueue | Withdraw | Reply | Note
PoolCommand: TypeAlias = Spawn | Run | Halt | Close | Kill | Lost
