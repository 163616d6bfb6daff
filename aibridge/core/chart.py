"""Statecharts: a region of a conversation is a state, and a table moves it.

A table maps `(state, event)` to `(next state, acts)`. A pair that is missing in the table is illegal: it is counted and
changes nothing. A pair without effect is an event that the region ignores.

`as_markdown` prints a table; docs/conversation.md holds these prints, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Generic, TypeAlias, TypeVar

from shared.metrics import Counter

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)
A = TypeVar("A", bound=Enum)

Table: TypeAlias = Mapping[tuple[S, E], tuple[S, tuple[A, ...]]]


class Chart(Generic[S, E, A]):
    """One region of one call."""

    __slots__ = ("_illegal", "_table", "state")

    def __init__(self, table: Table[S, E, A], state: S, illegal: Counter) -> None:
        self._table = table
        self.state = state
        self._illegal = illegal

    def step(self, event: E) -> tuple[A, ...]:
        """Move by `event` and return the acts. An illegal event is counted and has none."""
        row = self._table.get((self.state, event))
        if row is None:
            self._illegal.inc()
            return ()
        self.state, acts = row
        return acts

    def allows(self, event: E) -> bool:
        return (self.state, event) in self._table


def stays(states: Iterable[S], *events: E) -> dict[tuple[S, E], tuple[S, tuple[A, ...]]]:
    """Rows for events that these states ignore."""
    return {(state, event): (state, ()) for state in states for event in events}


def becomes(states: Iterable[S], event: E, then: S, *acts: A) -> dict[tuple[S, E], tuple[S, tuple[A, ...]]]:
    """Rows for an event that leads from each of these states to the same state."""
    return {(state, event): (then, acts) for state in states}


def as_markdown(table: Table[S, E, A]) -> str:
    """The table as Markdown: rows with the same event and effect share a line, ignored events share the last one."""
    lines: dict[tuple[E, S | None, tuple[A, ...]], list[str]] = {}
    ignored: dict[E, list[str]] = {}
    for (state, event), (then, acts) in table.items():
        if then is state and not acts:
            ignored.setdefault(event, []).append(_words(state))
        else:
            lines.setdefault((event, then, acts), []).append(_words(state))
    rows = ["| event | in state | next state | acts |", "|---|---|---|---|"]
    for (event, next_state, acts), states in lines.items():
        done = ", ".join(map(_words, acts)) or "-"
        rows.append(f"| {_words(event)} | {', '.join(states)} | {_words(next_state)} | {done} |")
    if ignored:
        quiet = "; ".join(f"{_words(event)} in {', '.join(states)}" for event, states in ignored.items())
        rows += ["", f"Without effect: {quiet}."]
    return "\n".join(rows)


def _words(member: Enum | None) -> str:
    return "" if member is None else member.name.lower().replace("_", " ")
