"""toolbox in virtual time: it carries out each call once, and answers whoever asks, after a fixed time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aibridge.core.tools import ToolRule

from .clock import Clock

Key = tuple[str, int]


@dataclass(frozen=True)
class VirtualTool:
    """A tool that answers after `after_ms`; None: never. `says` is its answer; "": its name and the call's number."""

    after_ms: float | None = 200
    rule: ToolRule = field(default_factory=lambda: ToolRule(10_000_000_000))
    says: str = ""


class VirtualToolbox:
    """`ask` takes a call's key and who gets the answer. `done` counts the calls that were carried out."""

    def __init__(self, clock: Clock, tools: Mapping[str, VirtualTool]) -> None:
        self.tools = tools
        self.done: Counter[Key] = Counter()
        # How often each call was carried out, by its arguments.
        self.effects: Counter[str] = Counter()
        # The caller's keys that each call was given.
        self.digits: dict[Key, str] = {}
        self._clock = clock
        self._answers: dict[Key, str] = {}
        self._asking: dict[Key, Callable[[str], None]] = {}

    def ask(self, key: Key, name: str, arguments: str, digits: str, answer: Callable[[str], None]) -> None:
        self.digits.setdefault(key, digits)
        is_known = key in self._asking
        self._asking[key] = answer
        if key in self._answers:
            answer(self._answers[key])
        elif not is_known and (after_ms := self.tools[name].after_ms) is not None:
            self._clock.after(after_ms, lambda: self._carry_out(key, name, arguments))

    def cancel(self, key: Key) -> None:
        self._answers.setdefault(key, "cancelled")

    def _carry_out(self, key: Key, name: str, arguments: str) -> None:
        if key not in self._answers:
            self.done[key] += 1
            self.effects[arguments] += 1
            self._answers[key] = self.tools[name].says or f"{name} says {key[1]}"
        self._asking[key](self._answers[key])
