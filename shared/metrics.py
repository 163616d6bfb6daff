"""Metrics as plain memory writes: each process owns one page of doubles, another process exports all pages.

A page is a file on a memory file system that its process maps and writes in place; nothing is locked, formatted or sent
when something is counted (how much that is: docs/pacing.md). The exporter reads the same files whenever Prometheus
asks. A page is made anew at each start of its process, which keeps it locked; one that is not locked belongs to nobody
any more and is skipped, so a restart leaves no stale series behind.

Labels take their values from a fixed list that is written down with the metric, so their number is bounded, and no
label can ever hold a call id.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

HEADER_BYTES = 16_384  # JSON: process name, and the definitions; padded with spaces


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
        """How many doubles it takes: a histogram has one a bucket, +Inf and the sum, for each label value."""
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
    """Counts observations in buckets, in the metric's own unit (seconds, nearly always)."""

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
    """The metrics of one process. `Page.create` maps a file; `Page.in_memory` serves tests and tools."""

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

    @classmethod
    def create(cls, directory: Path, process: str, definitions: Sequence[Definition]) -> Page:
        """Make `directory`/`process`.page, empty, in place of one that an earlier process left."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        size = sum(d.cells() for d in definitions)
        header = json.dumps({"process": process, "definitions": [_as_json(d) for d in definitions]}).encode()
        if len(header) > HEADER_BYTES:
            raise ValueError(
                f"the metric definitions of {process} take {len(header)} bytes, {HEADER_BYTES} is the limit"
            )
        path = directory / f"{process}.page"
        temporary = directory / f".{process}.{os.getpid()}"
        temporary.write_bytes(header.ljust(HEADER_BYTES) + bytes(8 * size))
        with temporary.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # It keeps a duplicate of the descriptor, and with it the lock.
            mapped = mmap.mmap(file.fileno(), HEADER_BYTES + 8 * size)
        temporary.replace(path)
        return cls(definitions, memoryview(mapped)[HEADER_BYTES:].cast("d"))

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


def _as_json(definition: Definition) -> list[object]:
    return [
        definition.kind,
        definition.name,
        definition.help,
        definition.label,
        list(definition.values),
        list(definition.buckets),
    ]


class PagesCollector:
    """A prometheus_client collector over every live page in `directory`. Series carry the label `process`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for path in sorted(self._directory.glob("*.page")):
            try:
                data = _read_if_alive(path)
                header = json.loads(data[:HEADER_BYTES])
            except (OSError, ValueError):
                continue
            cells = memoryview(data)[HEADER_BYTES:].cast("d")
            at = 0
            for kind, name, help_text, label, values, buckets in header["definitions"]:
                definition = Definition(kind, name, help_text, label, tuple(values), tuple(buckets))
                family = families.get(name)
                if family is None:
                    family = families[name] = _family(definition)
                each = definition.cells() // max(1, len(definition.values))
                for value in definition.values or ("",):
                    labels = [header["process"], value] if label else [header["process"]]
                    _add(family, definition, labels, cells[at : at + each])
                    at += each
        yield from families.values()


def _read_if_alive(path: Path) -> bytes:
    """The bytes of a page that its process still holds. Raises OSError when it does not."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read()
    raise ProcessLookupError(f"{path} belongs to no process")


def _family(definition: Definition) -> Metric:
    labels = ["process", definition.label] if definition.label else ["process"]
    name = f"twentyms_{definition.name}"
    if definition.kind == "counter":
        return CounterMetricFamily(name, definition.help, labels=labels)
    if definition.kind == "gauge":
        return GaugeMetricFamily(name, definition.help, labels=labels)
    return HistogramMetricFamily(name, definition.help, labels=labels)


def _add(family: Metric, definition: Definition, labels: list[str], cells: memoryview[float]) -> None:
    if isinstance(family, HistogramMetricFamily):
        total = 0.0
        buckets = []
        for bound, count in zip([*map(str, definition.buckets), "+Inf"], cells, strict=False):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, sum_value=cells[-1])
    elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
        family.add_metric(labels, cells[0])
