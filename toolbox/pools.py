"""The child processes of one source of tools, as its pool (toolbox/core/pool.py) commands."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from time import monotonic_ns
from typing import Final, Protocol

from .child import Child
from .config import Source
from .core.commands import Close, Halt, Kill, Lost, PoolCommand, Run, Spawn
from .core.pool import Pool
from .pipe import CannotStart, Ended, Offer, Offered, RunTool, Setup, StopTool

logger = logging.getLogger("toolbox")

# Calls that a child of our own code runs at the same time. The limits of the tools are lower.
SHARED_PLACES: Final = 256


class Owner(Protocol):
    """Who gives a pool its calls."""

    def run(self, number: int) -> RunTool:
        """The call `number` is given to a child now."""

    def ended(self, number: int, outcome: str, output: str) -> None: ...

    def lost(self, number: int) -> None: ...

    def offers_changed(self) -> None: ...

    def child_started(self) -> None: ...

    def child_gone(self, *, was_killed: bool, was_ready: bool) -> None: ...


class Children:
    """`offers` are the tools of the source: those of its predecessor until a child has told them; none while no child
    can be started.
    """

    def __init__(
        self,
        source: Source,
        owner: Owner,
        *,
        env: Mapping[str, str],
        memory_mb: int,
        processes_max: int,
        offers: tuple[Offer, ...] = (),
    ) -> None:
        self.source = source
        self.offers = offers
        # Whether its tools are known, or known to be missing.
        self.is_settled = False
        self._owner = owner
        self._env = env
        self._memory_mb = memory_mb
        is_python = source.kind == "python"
        self._pool = Pool(places=1 if is_python else SHARED_PLACES, children_max=processes_max if is_python else 1)
        self._children: dict[int, Child] = {}
        self._killed: set[int] = set()
        self._ready: set[int] = set()
        # The last reason why a child could not start, so that the log has it once.
        self._reason = ""

    @property
    def is_over(self) -> bool:
        return self._pool.is_over

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(child.pid for child in self._children.values())

    def due_ns(self) -> int | None:
        return self._pool.due_ns()

    def tick(self) -> None:
        self._do(self._pool.tick(monotonic_ns()))

    def want(self, number: int) -> None:
        self._do(self._pool.want(number, monotonic_ns()))

    def withdraw(self, number: int) -> None:
        self._do(self._pool.withdraw(number, monotonic_ns()))

    def retire(self) -> None:
        self._do(self._pool.retire(monotonic_ns()))

    def kill(self) -> None:
        for child in list(self._children.values()):
            child.kill()

    def _do(self, commands: Sequence[PoolCommand]) -> None:
        for command in commands:
            match command:
                case Spawn(name):
                    self._spawn(name)
                case Run(name, number):
                    self._children[name].send(self._owner.run(number))
                case Halt(name, number):
                    self._children[name].send(StopTool(number))
                case Close(name):
                    self._children[name].close()
                case Kill(name):
                    self._killed.add(name)
                    self._children[name].kill()
                case Lost(number):
                    self._owner.lost(number)

    def _spawn(self, name: int) -> None:
        try:
            self._children[name] = Child(
                self.source.kind,
                Setup(self.source.config, self._memory_mb),
                self._env,
                on_message=lambda message: self._on_message(name, message),
                on_gone=lambda: self._on_gone(name),
                on_line=lambda line: logger.info("%s: %s", self.source.label, line),
            )
        except OSError as exc:
            self._complain(f"a process could not be started ({exc.strerror})")
            self._do(self._pool.gone(name, monotonic_ns()))
            return
        self._owner.child_started()

    def _on_message(self, name: int, message: Offered | CannotStart | Ended) -> None:
        match message:
            case Offered(tools):
                self._reason = ""
                self._ready.add(name)
                self._do(self._pool.ready(name, monotonic_ns()))
                self._settle(tools)
            case CannotStart(reason):
                self._complain(reason)
            case Ended(number, outcome, output, is_last) if self._pool.runs(name, number):
                self._owner.ended(number, outcome, output)
                self._do(self._pool.ended(name, number, monotonic_ns(), is_last=is_last))

    def _on_gone(self, name: int) -> None:
        del self._children[name]
        self._do(self._pool.gone(name, monotonic_ns()))
        self._owner.child_gone(was_killed=name in self._killed, was_ready=name in self._ready)
        self._killed.discard(name)
        self._ready.discard(name)
        if self._pool.is_failing:
            self._settle(())

    def _complain(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            logger.error("%s cannot be used: %s", self.source.label, reason)

    def _settle(self, offers: tuple[Offer, ...]) -> None:
        is_news = offers != self.offers or not self.is_settled
        self.offers, self.is_settled = offers, True
        if is_news:
            self._owner.offers_changed()
