"""One scenario: a call, and the conditions that its verdict must meet, forced faults included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.settings import Settings
from simulator.carrier.caller import Step
from simulator.carrier.dial import Callee
from simulator.carrier.speakerphone import Speakerphone
from simulator.model.behaviour import Behaviour

from .cell.cell import Cell
from .cell.toolbox import VirtualTool
from .verdict import Fault, FaultKind, Verdict

Sessions = list[dict[str, Any]]


@dataclass(frozen=True)
class Expected:
    """Faults that a scenario forces: of this kind and key, between `count` times, each of an amount within `amount`.

    A missing forced fault is a problem, like an unexpected fault.
    """

    kind: FaultKind
    key: str = ""
    # At least and at most.
    count: tuple[int, int] = (1, 1)
    amount: tuple[float, float] = (1, 1)

    def settle(self, faults: Sequence[Fault]) -> tuple[list[Fault], list[str]]:
        """The faults of other kinds, and the problems with those of this kind."""
        mine = [each for each in faults if each.kind == self.kind and each.key.startswith(self.key)]
        least, most = self.amount
        wrong = [f"{each.text} (expected: {least:g} to {most:g})" for each in mine if not least <= each.amount <= most]
        if not self.count[0] <= len(mine) <= self.count[1]:
            wrong.append(
                f"{len(mine)} faults of the kind `{self.kind}`; {self.count[0]} to {self.count[1]} are forced."
            )
        return [each for each in faults if each not in mine], wrong


@dataclass(frozen=True)
class Scenario:
    """One call, and the conditions that its verdict must meet. `behaviours` are the model's, session after session."""

    name: str
    script: tuple[Step, ...]
    behaviours: tuple[Behaviour, ...] = (Behaviour(),)
    # Settings by their name in the environment; both kinds of run take them.
    env: dict[str, str] = field(default_factory=dict)
    # Fields of the agent's file.
    agent: dict[str, Any] = field(default_factory=dict)
    forced: tuple[Expected, ...] = ()
    # Barge-ins that must happen (None: any number), and protected ones among them that must not.
    interruptions: int | None = None
    # A further condition for the verdict: returns a sentence when it is not met.
    also: Callable[[Verdict, Sessions], str] | None = None
    # Accidents of virtual time, (ms after the answer, what happens); such a scenario is not run live.
    events: tuple[tuple[float, Callable[[Cell], None]], ...] = ()
    ring_ms: float = 300
    speakerphone: Speakerphone | None = None
    virtual_only: bool = False
    # The tools of virtual time; such a scenario is not run live.
    tools: dict[str, VirtualTool] = field(default_factory=dict)
    # Whom the agent can connect the caller to; such a scenario is not run live.
    callees: dict[str, Callee] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        values = {name.lower(): value for name, value in self.env.items()}
        return Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]  # pydantic reads the strings

    def problems(self, verdict: Verdict, sessions: Sessions, *, tolerance_ms: int) -> list[str]:
        settings = self.settings
        faults = verdict.faults(lead_ms=settings.tx_lead_ms, tolerance_ms=tolerance_ms, barge_in=settings.barge_in)
        wrong: list[str] = []
        for expected in self.forced:
            faults, more = expected.settle(faults)
            wrong += more
        found = [*(each.text for each in faults), *wrong]
        happened = sum(each.effective_ns is not None for each in verdict.interruptions)
        if self.interruptions is not None and happened != self.interruptions:
            found.append(f"{happened} interruptions took effect; {self.interruptions} should have.")
        if self.also is not None and (text := self.also(verdict, sessions)):
            found.append(text)
        return verdict.with_remark(found)
