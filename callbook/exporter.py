"""`/metrics` on the private port: the metrics of all processes of this cell, for Prometheus.

callbook serves them because reading and formatting take about a millisecond, which no process that handles frames has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared import pages
from shared.metrics import Definition


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

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for path in sorted(self._directory.glob("*.page")):
            try:
                process, definitions, cells = pages.read(path)
            except (OSError, ValueError):
                continue
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
