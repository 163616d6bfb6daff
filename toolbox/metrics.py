"""The metrics of toolbox. Names omit `twentyms_`. Labels are names of tools: a fixed list, made at the start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shared.metrics import GC_PAUSE, LOOP_LAG, LOOP_TASKS, Definition, Page, counter, gauge, histogram

# For tools that came later, or beyond the bound.
OTHER: Final = "other"
# The names stand in the header of the page once for each metric (shared/pages.py), which has room for 16 kB.
NAMES_MAX: Final = 40
NAME_CHARS_MAX: Final = 1_200
_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0)
# The counter of each outcome.
_COUNTED: Final = {
    "done": "done",
    "failed": "failed",
    "refused": "refused",
    "busy": "busy",
    "unavailable": "busy",
    "timeout": "timeouts",
    "cancelled": "cancelled",
    "crashed": "crashed",
    "unknown": "crashed",
}


def bounded(names: Iterable[str]) -> tuple[str, ...]:
    """The names that get series of their own."""
    chosen: list[str] = []
    for name in sorted(set(names)):
        if len(chosen) < NAMES_MAX and sum(map(len, chosen)) + len(name) <= NAME_CHARS_MAX:
            chosen.append(name)
    return (*chosen, OTHER)


def definitions(tools: tuple[str, ...]) -> tuple[Definition, ...]:
    return (
        histogram("toolbox_seconds", "Calls of tools, from the request to the answer", _SECONDS, "tool", tools),
        counter("toolbox_done", "Calls that the tool answered", "tool", tools),
        counter("toolbox_failed", "Calls that raised, or that a server refused", "tool", tools),
        counter("toolbox_refused", "Calls whose arguments or name did not fit", "tool", tools),
        counter("toolbox_busy", "Calls that were not begun: no room, or the tool is not available", "tool", tools),
        counter("toolbox_timeouts", "Calls that were stopped at their deadline", "tool", tools),
        counter("toolbox_cancelled", "Calls that were stopped because nobody needed the answer", "tool", tools),
        counter("toolbox_crashed", "Calls whose process ended, or that a former toolbox may have begun", "tool", tools),
        gauge("toolbox_calls", "Calls of tools that wait or run"),
        gauge("toolbox_children", "Processes that run tools"),
        counter("toolbox_kills", "Processes that were killed: they did not stop in time"),
        counter(
            "toolbox_failed_starts", "Processes whose tools could not be loaded, or whose MCP server did not answer"
        ),
        counter("toolbox_undecodable", "Messages of aibridge that are not of this version"),
        counter("toolbox_dropped", "Messages that aibridge was too busy, or not there, to take; they are repeated"),
        GC_PAUSE,
        LOOP_LAG,
        LOOP_TASKS,
    )


class Metrics:
    """Handles to `definitions(tools)` on one page."""

    def __init__(self, page: Page, tools: tuple[str, ...]) -> None:
        self._seconds = {name: page.histogram("toolbox_seconds", name) for name in tools}
        self._outcomes = {
            (name, outcome): page.counter(f"toolbox_{counted}", name)
            for name in tools
            for outcome, counted in _COUNTED.items()
        }
        self.calls = page.gauge("toolbox_calls")
        self.children = page.gauge("toolbox_children")
        self.kills = page.counter("toolbox_kills")
        self.failed_starts = page.counter("toolbox_failed_starts")
        self.undecodable = page.counter("toolbox_undecodable")
        self.dropped = page.counter("toolbox_dropped")

    def note(self, tool: str, outcome: str, seconds: float) -> None:
        name = tool if tool in self._seconds else OTHER
        self._seconds[name].observe(seconds)
        self._outcomes[name, outcome].inc()
