"""Spans to an OpenTelemetry collector, as protobuf over HTTP. Imported only with OTEL_EXPORTER_OTLP_ENDPOINT.

The exporter of the OpenTelemetry SDK reads its settings from the environment alone, waits in a thread for as long as a
collector trickles, and does not look at the spans that a collector rejects. So only the message types are a library's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final
from urllib.parse import unquote

import httpx2
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.process import ConfigError
from shared.settings import Settings

from .core.spans import Span, Value, spans_of, trace_id
from .due import FIRST_RETRY_S, Claimed, Due
from .metrics import Metrics
from .models import TraceExport

logger = logging.getLogger("callbook")

POLL_S: Final = 2.0
# From connecting to the end of the answer, however slowly it comes.
TIMEOUT_S: Final = 10.0
# Of an answer, which is a few bytes.
ANSWER_MAX_BYTES: Final = 64 * 1024
# The last attempt is about 40 minutes after the first.
ATTEMPTS_MAX: Final = 10
# OTLP 1.x, "Failures": a request that was refused with any other status must not be repeated.
RETRIED: Final = frozenset({429, 502, 503, 504})

CONTENT: Final = {"content-type": "application/x-protobuf"}

_KINDS: Final = {
    "server": trace_pb2.Span.SPAN_KIND_SERVER,
    "client": trace_pb2.Span.SPAN_KIND_CLIENT,
    "internal": trace_pb2.Span.SPAN_KIND_INTERNAL,
}


@dataclass(frozen=True)
class Collector:
    url: str
    headers: httpx2.Headers
    # What its traces say about this service.
    resource: Mapping[str, Value]


def collector(settings: Settings, cell: str) -> Collector:
    """The collector that the settings name. Raises ConfigError."""
    headers = _pairs_of("OTEL_EXPORTER_OTLP_HEADERS", settings.otel_exporter_otlp_headers)
    if not all(value.isascii() and value.isprintable() for value in headers.values()):
        raise ConfigError("OTEL_EXPORTER_OTLP_HEADERS has a value that a header cannot hold; correct it")
    resource = {
        "service.version": version("twentyms"),
        "service.instance.id": cell,
        **_pairs_of("OTEL_RESOURCE_ATTRIBUTES", settings.otel_resource_attributes),
        "service.name": settings.otel_service_name,
    }
    return Collector(_traces_url(settings.otel_exporter_otlp_endpoint), httpx2.Headers(headers | CONTENT), resource)


def _traces_url(endpoint: str) -> str:
    try:
        url = httpx2.URL(endpoint.rstrip("/") + "/v1/traces")
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://localhost:4318; correct it, or leave it empty"
        )
    return str(url)


def _pairs_of(variable: str, text: str) -> dict[str, str]:
    """The pairs in `name=value,name=value`, whose values may be percent-encoded. Raises ConfigError."""
    pairs = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        name, separator, value = pair.partition("=")
        if not separator or not name.strip() or not name.isascii():
            raise ConfigError(f"{variable} must be name=value, several separated by commas; correct it")
        pairs[name.strip()] = unquote(value.strip())
    return pairs


def request(spans: Sequence[trace_pb2.Span], resource: Mapping[str, Value]) -> bytes:
    scope = InstrumentationScope(name="twentyms", version=version("twentyms"))
    scoped = trace_pb2.ScopeSpans(scope=scope, spans=spans)
    whole = trace_pb2.ResourceSpans(resource=Resource(attributes=_pairs(resource)), scope_spans=[scoped])
    data: bytes = ExportTraceServiceRequest(resource_spans=[whole]).SerializeToString()
    return data


def encode(call_sid: str, spans: Sequence[Span]) -> list[trace_pb2.Span]:
    trace = trace_id(call_sid)
    return [_span(trace, span) for span in spans]


def _span(trace: bytes, span: Span) -> trace_pb2.Span:
    status = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR, message=span.error) if span.error else None
    return trace_pb2.Span(
        trace_id=trace,
        span_id=span.span_id,
        parent_span_id=span.parent_id,
        name=span.name,
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_pairs(span.attributes),
        status=status,
    )


def _pairs(attributes: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in attributes.items()]


def _value(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=value)


class Traces:
    """`run` exports each ended call until it is cancelled. A retry repeats the same ids."""

    def __init__(
        self,
        engine: Engine,
        *,
        to: Collector,
        words: bool,
        metrics: Metrics,
        first_retry_s: float = FIRST_RETRY_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._collector = to
        self._due = Due(engine, TraceExport, attempts_max=ATTEMPTS_MAX, first_retry_s=first_retry_s)
        self._words = words
        self._metrics = metrics
        self._timeout_s = timeout_s
        # Whether the last attempt failed: the log tells only of changes.
        self._is_failing = False
        # The pause between two looks for calls that ended.
        self.poll_s = POLL_S

    async def run(self) -> None:
        async with httpx2.AsyncClient(timeout=self._timeout_s, follow_redirects=False) as client:
            while True:
                if due := await self._due.claim():
                    with suppress(SQLAlchemyError):  # the writer reports that the database is down
                        await self._export(client, due)
                else:
                    await asyncio.sleep(self.poll_s)

    async def _export(self, client: httpx2.AsyncClient, due: Sequence[Claimed]) -> None:
        """Send these calls in one request. One that is refused for good is repeated for each call alone."""
        data, fit = await asyncio.to_thread(self._encode, due)
        if unfit := [each for each in due if each not in fit]:
            await self._settle(unfit, "no trace can be made of its record", accepted=False, final=True)
        if not fit:
            return
        accepted = final = False
        try:
            async with asyncio.timeout(self._timeout_s):
                outcome, accepted, final = await self._post(client, data)
        except (httpx2.HTTPError, OSError, TimeoutError, DecodeError) as exc:
            outcome = type(exc).__name__
        if final and len(fit) > 1:
            for each in fit:
                await self._export(client, [each])
            return
        await self._settle(fit, outcome, accepted=accepted, final=final)

    async def _settle(self, due: Sequence[Claimed], outcome: str, *, accepted: bool, final: bool) -> None:
        for state in await self._due.settle(due, outcome, accepted=accepted, final=final):
            self._metrics.traces["failed" if state == "due" else state.replace("-", "_")].inc()
        if accepted and self._is_failing:
            logger.info("traces are accepted again")
        elif not accepted and not self._is_failing:
            logger.warning(
                "call %s: its trace was not accepted (%s); see OTEL_EXPORTER_OTLP_ENDPOINT. "
                "Further failures are only counted: twentyms_callbook_traces_total",
                due[0].call_sid,
                outcome,
            )
        self._is_failing = not accepted

    def _encode(self, due: Sequence[Claimed]) -> tuple[bytes, list[Claimed]]:
        """The request, and the calls that are in it."""
        spans, fit = [], []
        for each in due:
            try:
                spans += encode(each.call_sid, spans_of(each.call, words=self._words))
            except (LookupError, TypeError, ValueError):
                continue  # one odd record must not end callbook
            fit.append(each)
        return request(spans, self._collector.resource), fit

    async def _post(self, client: httpx2.AsyncClient, data: bytes) -> tuple[str, bool, bool]:
        """The outcome in words, whether it was accepted, and whether another attempt would not help."""
        url, headers = self._collector.url, self._collector.headers
        async with client.stream("POST", url, content=data, headers=headers) as answer:
            outcome = f"HTTP {answer.status_code}"
            if not answer.is_success:
                return outcome, False, answer.status_code not in RETRIED
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_MAX_BYTES:
                    return f"{outcome}, too long an answer", False, False
        rejected = 0
        if answer.headers.get("content-type", "").startswith("application/x-protobuf"):
            rejected = ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
        if rejected:
            return f"{rejected} spans rejected", False, True
        return outcome, True, False
