"""What the core of a worker needs of its process. Nothing here waits. Times are ns of the monotonic clock."""

from __future__ import annotations

from typing import Any, Protocol

from shared.facts import Fact
from shared.messages import Message

from ..models.port import Model, Numbers, Receiver
from .agent import Agent
from .call_config import OnAnswer


class Log(Protocol):
    """A logging.Logger."""

    def info(self, msg: object, /, *args: object) -> None: ...
    def warning(self, msg: object, /, *args: object) -> None: ...
    def error(self, msg: object, /, *args: object) -> None: ...


class Timed(Protocol):
    """A call, as its timer sees it."""

    @property
    def due_ns(self) -> int | None: ...

    def advance(self) -> None:
        """The time `due_ns` has come."""


class Shell(Protocol):
    """Sockets, sessions and timers of a worker."""

    @property
    def now_ns(self) -> int: ...

    @property
    def log(self) -> Log: ...

    def unix_ms(self, at_ns: int) -> int:
        """The wall time of an instant."""

    def to_pacer(self, message: Message) -> None: ...

    def to_gateway(self, gateway: str, message: Message) -> None: ...

    def tell_state(self, gateway: str) -> None:
        """Answer a gateway's hello with `Calls.state`."""

    def note(self, fact: Fact) -> None:
        """Send a fact to callbook."""

    def dial(self, call_sid: str, agent: Agent, numbers: Numbers, receiver: Receiver) -> Model:
        """Open a session of this agent for a call."""

    def reconfigure(self, session: Model, agent: Agent) -> None:
        """Give a session that has not spoken other words, or another voice, of its agent."""

    def ask_config(self, call_sid: str, question: dict[str, Any], then: OnAnswer) -> None:
        """Ask CALL_CONFIG_URL, and call `then` with the body of its answer."""

    def plan(self, call: Timed) -> None:
        """Call `advance` at `due_ns`, which has changed; None: never."""

    def ended(self, call: int) -> None:
        """The worker has this call no longer."""
