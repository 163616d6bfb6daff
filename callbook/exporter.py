"""`/metrics` on the private port: the metrics of all processes of this cell, for Prometheus.

callbook serves them because reading and formatting take about a millisecond, which no process that handles frames has.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared import pages
from shared.metrics import Definition, counter, gauge

CPU: Final = counter("process_cpu_seconds", "CPU time that a process of twentyms has used, user and system, seconds")
MEMORY: Final = gauge("process_resident_memory_bytes", "Memory of a process of twentyms that is in RAM, bytes")
BUILD_HELP: Final = "1, with the version of twentyms and of Python as labels"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def metrics_route(directory: Path) -> Route:
    """GET /metrics over every page in `directory`, in the format that the scraper asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PagesCollector(directory))

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    return Route("/metrics", metrics)


class PagesCollector:
    """A prometheus_client collector over every page in `directory` that a process holds.

    Every series carries the label `process`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._version = metadata.version("twentyms")

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        cpu, memory = (_family(definition) for definition in (CPU, MEMORY))
        for path in sorted(self._directory.glob("*.page")):
            try:
                process, pid, definitions, cells = pages.read(path)
            except (OSError, ValueError):
                continue
            if (usage := _usage(pid)) is not None:
                cpu.add_sample("twentyms_process_cpu_seconds_total", {"process": process}, usage[0])
                memory.add_sample("twentyms_process_resident_memory_bytes", {"process": process}, usage[1])
            at = 0
            for definition in definitions:
                family = families.get(definition.name)
                if family is None:
                    family = families[definition.name] = _family(definition)
                each = definition.cells() // max(1, len(definition.values))
                for value in definition.values or ("",):
                    labels = [process, value] if definition.label else [process]
                    _add(family, definition, labels, cells[at : at + each])
                    at += each
        yield from families.values()
        if families:
            yield cpu
            yield memory
        version = GaugeMetricFamily("twentyms_build_info", BUILD_HELP, labels=["version", "python"])
        version.add_metric([self._version, platform.python_version()], 1)
        yield version


def _usage(pid: int) -> tuple[float, int] | None:
    """CPU seconds and resident bytes of a process; None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    # proc(5), counted from the state: utime and stime are the fields 14 and 15 of the whole line.
    return (int(fields[11]) + int(fields[12])) / _TICKS, resident * _PAGE_BYTES


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
