"""`/metrics` on the private port: the pages of all processes of this cell, for Prometheus.

Served here because reading and formatting take about a millisecond, which no process with frames in its hands has.
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.metrics import PagesCollector


def metrics_route(directory: Path) -> Route:
    """GET /metrics over every page in `directory`, in the format that the scraper asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PagesCollector(directory))

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    return Route("/metrics", metrics)
