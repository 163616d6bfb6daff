"""What the core of a worker needs of its process. Nothing here waits. Times are ns of the monotonic clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from shared.facts import Fact
from shared.messages import Message
from shared.plan import CallPlan

from ..models.port import Model, Numbers, Receiver
from .agent import Agent
from .call_config import OnAnswer
from .commands import CallTool
from .tools import ToolRule


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

    def tools(self, agent: Agent) -> Mapping[str, ToolRule]:
        """The tools of an agent that toolbox carries out, by name."""

    @property
    def toolbox_epoch(self) -> int:
        """The incarnation of toolbox that was heard last; 0: none."""

    def call_tool(self, call_sid: str, agent: str, plan: CallPlan, command: CallTool) -> None:
        """Let toolbox carry out a tool. Its answer, or an error instead, comes back exactly once."""

    def cancel_tool(self, call_sid: str, tool_call: int) -> None: ...

    def cancel_tools(self, call_sid: str) -> None:
        """The caller hung up: cancel all tools of the call that may be."""

    def reconfigure(self, session: Model, agent: Agent) -> None:
        """Give a session that has not spoken other words, or another voice, of its agent."""

    def ask_config(self, call_sid: str, question: dict[str, Any], then: OnAnswer) -> None:
        """Ask CALL_CONFIG_URL, and call `then` with the body of its answer."""

    def plan(self, call: Timed) -> None:
        """Call `advance` at `due_ns`, which has changed; None: never."""

    def ended(self, call: int) -> None:
        """The worker has this call no longer."""
