"""What a file of Python tools uses: `from twentyms import CallContext, ToolError, tool`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

# The attribute of a function that is a tool.
MARK: Final = "__twentyms_tool__"


class ToolError(Exception):
    """Raise it to tell the model, in words, why the tool could not do it. The text of other exceptions stays here."""


@dataclass(frozen=True)
class CallContext:
    """The phone call that a tool runs for. A parameter of this type is filled in, and the model does not know of it."""

    call_sid: str
    # Of this call of the tool: an idempotency key for your own systems.
    call_id: str
    agent: str
    direction: Literal["inbound", "outbound"]
    # As the carrier writes them: E.164, a SIP address, or "" when it does not say.
    from_number: str
    to_number: str
    variables: Mapping[str, str] = field(default_factory=dict)
    # What the caller entered last on the phone's keypad; "": nothing. It may be secret: log none of it.
    digits: str = field(default="", repr=False)


@dataclass(frozen=True)
class Options:
    """Of one tool."""

    name: str = ""
    deadline_s: float = 10.0
    concurrency: int = 8
    side_effect: bool = True
    on_interruption: Literal["continue", "cancel"] = "continue"
    cancellable: bool = True

    def __post_init__(self) -> None:
        if not 0.1 <= self.deadline_s <= 120:
            raise ValueError("deadline_s has to be between 0.1 and 120")
        if not 1 <= self.concurrency <= 1_000:
            raise ValueError("concurrency has to be between 1 and 1000")
        if self.on_interruption not in ("continue", "cancel"):
            raise ValueError('on_interruption has to be "continue" or "cancel"')
        if self.on_interruption == "cancel" and not self.cancellable:
            raise ValueError('on_interruption="cancel" needs cancellable=True')


@overload
def tool(function: F, /) -> F: ...


@overload
def tool(
    *,
    name: str = "",
    deadline_s: float = 10.0,
    concurrency: int = 8,
    side_effect: bool = True,
    on_interruption: Literal["continue", "cancel"] = "continue",
    cancellable: bool = True,
) -> Callable[[F], F]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Let the model call this function, plain or async. The model knows its type hints and its docstring.

    `deadline_s`: when the model is told that it took too long. `concurrency`: calls of it at the same time, in all
    conversations. `side_effect=False`: it only looks something up, so a call whose outcome is unknown may be repeated.
    `on_interruption="cancel"`: it stops when the caller interrupts the AI. `cancellable=False`: it goes on even when
    the caller hangs up. `name`: what the model calls it, if not as the function.
    """
    chosen = Options(**options)

    def mark(marked: Callable[..., Any]) -> Callable[..., Any]:
        setattr(marked, MARK, chosen)
        return marked

    return mark(function) if function is not None else mark
