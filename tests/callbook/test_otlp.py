"""The export of traces, with a receiver that decodes what it gets."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from sqlalchemy import update
from sqlalchemy.orm import Session

from callbook import models
from callbook.__main__ import check
from callbook.core.prices import Prices
from callbook.core.spans import trace_id
from callbook.metrics import DEFINITIONS, Metrics
from callbook.models import TraceExport
from callbook.otlp import Traces, collector
from callbook.records import Records
from shared.facts import Noted, StreamBegan, StreamEnded, Turn
from shared.metrics import Page
from shared.process import ConfigError
from shared.settings import read_settings

SID = "CA" + "1" * 32
OTHER = "CA" + "2" * 32
REJECTED = ExportTraceServiceResponse(partial_success={"rejected_spans": 2}).SerializeToString()
# It answers, byte by byte, and never ends.
TRICKLES = "trickles"


def write_call(engine, *, tool_outcome="done", sid=SID, source=1):
    records = Records(prices=Prices(""), traces=True, cell="c")
    with Session(engine) as session, session.begin():
        facts = [
            StreamBegan(sid, f"MZ{source}", "AC1", "+15550001111", "+2", False, 1_000, 1_100),
            Turn(sid, "c-1", 1, "caller", 1_200, 1_300, "Five.", "Five.", 100, 100, False),
            Turn(sid, "t-1", 2, "tool", 1_300, 1_400, "ok", "ok", 0, 0, False, "book", "{}", tool_outcome),
            StreamEnded(sid, f"MZ{source}", 2_000, "stop", 5, 0, 0, 0),
        ]
        records.write(session, [Noted(source, seq, fact) for seq, fact in enumerate(facts, 1)])


def export(engine, answers, *, calls=1, **options):
    """Export the calls to a collector that gives `answers` in turn. Returns the requests, the row and the metrics."""
    got, ended = [], []
    left = list(answers)

    async def receive(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        data = await reader.readexactly(int(headers["content-length"]))
        got.append((head[0], headers, ExportTraceServiceRequest.FromString(data)))
        answer = left.pop(0)
        status, body = answer if isinstance(answer, tuple) else (200, b"")
        length = 100 if answer == TRICKLES else len(body)
        writer.write(b"HTTP/1.1 %d X\r\nContent-Type: application/x-protobuf\r\n" % status)
        writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (length, body))
        with suppress(OSError):
            while answer == TRICKLES:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        ended.append(answer)

    async def scenario():
        server = await asyncio.start_server(receive, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        if not answers:
            server.close()
        metrics = Metrics(Page.in_memory(DEFINITIONS))
        settings = read_settings(
            otel_exporter_otlp_endpoint=f"http://127.0.0.1:{port}/otel/",
            otel_exporter_otlp_headers="Authorization=Basic%20a2V5,Content-Type=nonsense",
            otel_service_name="voice",
            otel_resource_attributes=" team = phones%20and%20doors ,",
        )
        traces = Traces(
            engine,
            to=collector(settings, "cell-1"),
            words=False,
            metrics=metrics,
            first_retry_s=0.001,
            **options,
        )
        traces.poll_s = 0.02
        running = asyncio.create_task(traces.run())
        async with asyncio.timeout(10):
            while sum(metrics.traces[outcome].value for outcome in ("delivered", "given_up")) < calls:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        async with asyncio.timeout(10):
            while len(ended) < len(got):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()
        return metrics

    metrics = asyncio.run(scenario())
    return got, row(engine), {outcome: counter.value for outcome, counter in metrics.traces.items()}


def row(engine, sid=SID):
    with Session(engine) as session:
        return session.get_one(TraceExport, sid)


def test_calls_that_ended_together_are_one_request_with_a_trace_for_each(engine):
    write_call(engine)
    write_call(engine, sid=OTHER, source=2)
    ((_, _, request),), _, counted = export(engine, [(200, b"")], calls=2)
    spans = request.resource_spans[0].scope_spans[0].spans
    assert {span.trace_id for span in spans} == {trace_id(SID), trace_id(OTHER)}
    assert counted["delivered"] == 2


def test_a_call_that_a_collector_refuses_does_not_cost_another_call_its_trace(engine):
    write_call(engine)
    write_call(engine, sid=OTHER, source=2)
    got, _, counted = export(engine, [(400, b""), (400, b""), (200, b"")], calls=2)
    assert [len({span.trace_id for span in each[2].resource_spans[0].scope_spans[0].spans}) for each in got] == [
        2,
        1,
        1,
    ]
    assert sorted(row(engine, sid).state for sid in (SID, OTHER)) == ["delivered", "given-up"]
    assert (counted["delivered"], counted["given_up"]) == (1, 1)


def test_a_collector_gets_each_call_that_ended_as_one_trace(engine):
    write_call(engine, tool_outcome="timeout")
    ((request_line, headers, request),), exported, counted = export(engine, [(200, b"")])
    assert request_line == "POST /otel/v1/traces HTTP/1.1"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["authorization"] == "Basic a2V5"
    (whole,) = request.resource_spans
    resource = {each.key: each.value.string_value for each in whole.resource.attributes}
    assert resource.pop("service.version")
    assert resource == {"service.name": "voice", "service.instance.id": "cell-1", "team": "phones and doors"}
    spans = {span.name: span for span in whole.scope_spans[0].spans}
    assert set(spans) == {"invoke_agent", "media stream", "caller speaks", "execute_tool book"}
    assert {span.trace_id for span in spans.values()} == {trace_id(SID)}
    root, tool = spans["invoke_agent"], spans["execute_tool book"]
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (1_000_000_000, 2_000_000_000)
    assert tool.parent_span_id == root.span_id
    assert (tool.status.code, tool.status.message) == (Status.STATUS_CODE_ERROR, "timeout")
    assert (exported.state, exported.outcome, counted["delivered"]) == ("delivered", "HTTP 200", 1)


def test_a_busy_collector_gets_the_same_spans_again(engine, caplog):
    write_call(engine)
    with caplog.at_level(logging.INFO):
        got, exported, counted = export(engine, [(503, b""), (429, b""), (200, b"")])
    assert (exported.state, exported.attempts) == ("delivered", 3)
    assert got[0][2] == got[1][2] == got[2][2]
    assert (counted["failed"], counted["delivered"]) == (2, 1)
    # One line when it begins to fail, one when it works again.
    assert [record.levelname for record in caplog.records if record.name == "callbook"] == ["WARNING", "INFO"]
    assert SID in caplog.text
    assert "1555" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((401, b""), "HTTP 401"),
        ((302, b""), "HTTP 302"),
        ((500, b""), "HTTP 500"),
        ((200, REJECTED), "2 spans rejected"),
    ],
)
def test_a_collector_that_refuses_gets_no_further_request(engine, answer, outcome):
    write_call(engine)
    got, exported, counted = export(engine, [answer])
    assert (len(got), exported.state, exported.outcome, counted["given_up"]) == (1, "given-up", outcome, 1)


@pytest.mark.parametrize(
    ("bad", "outcome"), [(TRICKLES, "TimeoutError"), ((200, b"<html>"), "DecodeError"), ((200, b"x" * 70_000), "long")]
)
def test_a_collector_that_answers_nonsense_is_tried_again(engine, bad, outcome, caplog):
    write_call(engine)
    _, exported, counted = export(engine, [bad, (200, b"")], timeout_s=0.3)
    assert (exported.state, counted["failed"]) == ("delivered", 1)
    assert outcome in caplog.text


def test_traces_for_a_collector_that_is_gone_are_given_up_in_the_end(engine):
    write_call(engine)
    got, exported, counted = export(engine, [])
    assert (got, exported.state, exported.outcome, exported.attempts) == ([], "given-up", "ConnectError", 10)
    assert (counted["failed"], counted["given_up"]) == (9, 1)


def test_a_record_that_no_trace_can_be_made_of_is_given_up_and_the_others_are_exported(engine):
    write_call(engine)
    write_call(engine, sid=OTHER, source=2)
    with Session(engine) as session, session.begin():
        # No version of this program writes such a role.
        session.execute(update(models.Turn).where(models.Turn.call_sid == SID).values(role="nobody"))
    got, exported, _ = export(engine, [(200, b"")], calls=2)
    assert (len(got), exported.state, row(engine, OTHER).state) == (1, "given-up", "delivered")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://localhost:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Bearer abc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=a%0Ab"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=%C3%A9"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,=c"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_its_name(variable, value):
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", variable: value}
    with pytest.raises(ConfigError, match=variable) as refused:
        check(read_settings(**{name.lower(): each for name, each in settings.items()}))
    assert "Bearer" not in str(refused.value)


def test_an_export_without_its_extra_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "callbook.otlp", None)
    with pytest.raises(ConfigError, match=r"twentyms\[traces\]"):
        check(read_settings(otel_exporter_otlp_endpoint="http://localhost:4318"))
