"""Metrics as plain memory writes: definitions, and the counters, gauges and histograms of one process.

The page of a process is one array of doubles. Counting writes into it and does nothing else: no lock, no formatting, no
I/O (docs/pacing.md has the cost). `shared/pages.py` puts the array into a file that callbook exports.

The values of a label are a fixed list in the metric's definition. The number of series is therefore bounded, and no
label can hold a call's id.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class Definition:
    """One metric: `name` without the `twentyms_` prefix and, for a counter, without `_total`."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def cells(self) -> int:
        """Doubles on a page. For each label value, a histogram has one per bucket, one for +Inf and one for the sum."""
        each = len(self.buckets) + 2 if self.kind == "histogram" else 1
        return each * max(1, len(self.values))


def counter(name: str, help: str, label: str = "", values: tuple[str, ...] = ()) -> Definition:
    return Definition("counter", name, help, label, values)


def gauge(name: str, help: str, label: str = "", values: tuple[str, ...] = ()) -> Definition:
    return Definition("gauge", name, help, label, values)


def histogram(
    name: str, help: str, buckets: tuple[float, ...], label: str = "", values: tuple[str, ...] = ()
) -> Definition:
    return Definition("histogram", name, help, label, values, buckets)


class Counter:
    """Only ever rises."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: memoryview[float], at: int) -> None:
        self._cells = cells
        self._at = at

    def inc(self, by: float = 1.0) -> None:
        self._cells[self._at] += by

    @property
    def value(self) -> float:
        return float(self._cells[self._at])


class Gauge:
    """Goes up and down."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: memoryview[float], at: int) -> None:
        self._cells = cells
        self._at = at

    def set(self, value: float) -> None:
        self._cells[self._at] = value

    def inc(self, by: float = 1.0) -> None:
        self._cells[self._at] += by

    @property
    def value(self) -> float:
        return float(self._cells[self._at])


class Histogram:
    """Counts observations in buckets, in the metric's own unit, usually seconds."""

    __slots__ = ("_at", "_buckets", "_cells", "_sum_at")

    def __init__(self, cells: memoryview[float], at: int, buckets: Sequence[float]) -> None:
        self._cells = cells
        self._at = at
        self._buckets = buckets
        self._sum_at = at + len(buckets) + 1

    def observe(self, value: float, times: int = 1) -> None:
        cells = self._cells
        cells[self._at + bisect_left(self._buckets, value)] += times
        cells[self._sum_at] += value * times

    @property
    def count(self) -> int:
        return int(sum(self._cells[self._at : self._sum_at]))


class Page:
    """The metrics of one process. `shared.pages.create` maps a file; `Page.in_memory` serves tests and tools."""

    def __init__(self, definitions: Sequence[Definition], cells: memoryview[float]) -> None:
        self._cells = cells
        self._at: dict[str, tuple[Definition, int]] = {}
        at = 0
        for definition in definitions:
            self._at[definition.name] = (definition, at)
            at += definition.cells()

    @classmethod
    def in_memory(cls, definitions: Sequence[Definition]) -> Page:
        size = sum(d.cells() for d in definitions)
        return cls(definitions, memoryview(bytearray(8 * size)).cast("d"))

    def counter(self, name: str, value: str = "") -> Counter:
        return Counter(self._cells, self._find("counter", name, value)[1])

    def gauge(self, name: str, value: str = "") -> Gauge:
        return Gauge(self._cells, self._find("gauge", name, value)[1])

    def histogram(self, name: str, value: str = "") -> Histogram:
        definition, at = self._find("histogram", name, value)
        return Histogram(self._cells, at, definition.buckets)

    def _find(self, kind: str, name: str, value: str) -> tuple[Definition, int]:
        definition, at = self._at[name]
        if definition.kind != kind:
            raise TypeError(f"{name} is a {definition.kind}, not a {kind}")
        if definition.label:
            at += definition.values.index(value) * (definition.cells() // len(definition.values))
        elif value:
            raise ValueError(f"{name} has no label")
        return definition, at


# --- what every process, or every process with an event loop, measures ----------------------------------------------

GC_PAUSE: Final = histogram(
    "gc_pause_seconds",
    "Garbage collections, by how long they took",
    (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
)
REALTIME: Final = gauge("realtime_scheduling", "1 when the process runs under SCHED_FIFO")
# uvloop's clock has steps of 1 ms, so smaller buckets would say nothing.
LOOP_LAG: Final = histogram(
    "loop_lag_seconds",
    "How late a timer of the event loop fired",
    (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
)
LOOP_TASKS: Final = gauge("loop_tasks", "Tasks that live on the event loop, once a second")
FACTS: Final = (
    counter("facts_noted", "Facts about calls that were queued for callbook"),
    counter("facts_lost", "Facts that were dropped, oldest first, because callbook stayed away too long"),
    counter("facts_refused_sends", "Sends that callbook was too busy, or not there, to take; they are repeated"),
    counter("facts_undecodable", "Answers of callbook that are not of this version"),
)
