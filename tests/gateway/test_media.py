"""Media sockets over the real port: a call from its handshake to its end."""

from __future__ import annotations

import asyncio
from time import monotonic_ns

import pytest
from websockets.frames import Close, Frame, Opcode

from gateway.core.hangup import Stage
from gateway.core.media_streams import Violation
from shared.facts import StreamBegan, StreamPath
from shared.messages import (
    CallEnded,
    CallerDtmf,
    CallMemory,
    CallNote,
    CallOffered,
    CallOver,
    CallStarted,
    CallTaken,
    CloseLine,
    EndCall,
    FirstFrameSent,
    MarkHeard,
    PathSamples,
    RefuseCall,
    WorkerState,
)
from shared.plan import CallPlan, Fallback, HangUp

from .conftest import CONNECTED, FRAME, closed_with, from_another_gateway, received

INVALID_UTF8 = Frame(Opcode.TEXT, b"\xff").serialize(mask=True)
UNMASKED = Frame(Opcode.TEXT, b"{}").serialize(mask=False)


def test_caller_audio_keys_and_stop_reach_the_bridge_in_order(run):
    async def scenario(cell):
        async with cell.call("CAone") as (socket, started):
            assert started.call_sid == "CAone"
            assert started.stream_sid == "MZ1"
            assert started.gateway == cell.gateway.name
            await socket.send(cell.twilio.media_text(b"\x01" * 160))
            await socket.send(cell.twilio.media_text(b"\x02" * 80))
            assert await cell.caller_audio(240) == b"\x01" * 160 + b"\x02" * 80
            await socket.send(cell.twilio.media_text(b"\x03"))
            await socket.send(cell.twilio.text("dtmf", dtmf={"track": "inbound_track", "digit": "5"}))
            assert await cell.caller_audio(1) == b"\x03"
            assert (await cell.bridge.next(CallerDtmf)).digit == "5"
            await socket.send(cell.twilio.text("stop", stop={"accountSid": "AC", "callSid": "CAone"}))
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "stop")
            assert await cell.pacer.next(CloseLine) == CloseLine(started.call)
        assert cell.gateway.calls.by_number == {}

    run(scenario)


def test_an_order_to_hang_up_waits_for_the_goodbyes_mark_and_is_the_answer_to_the_redirect(run):
    async def scenario(cell):
        async with cell.call("CAbye") as (socket, started):
            cell.frames(monotonic_ns(), (started.call, 0, FRAME, 1))
            await received(socket)
            await received(socket)
            await cell.bridge.next(FirstFrameSent)
            cell.bridge.send(EndCall(started.call, HangUp(), 1))
            await cell.until(lambda: cell.gateway.calls.by_number[started.call].stage is Stage.LEAVING)
            await socket.send(cell.twilio.text("mark", mark={"name": "0.1.1"}))
            await cell.bridge.next(MarkHeard)
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "hung-up")
            await asyncio.wait_for(socket.wait_closed(), 5)
            assert socket.close_code == 1000
        assert "<Response><Hangup /></Response>" in await cell.twilio.voice("CAbye", resume=True)

    run(scenario)


def test_a_call_whose_socket_was_lost_returns_to_the_same_conversation(run):
    async def scenario(cell):
        async with cell.call("CAback") as (socket, _):
            socket.transport.abort()
            assert (await cell.bridge.next(CallEnded)).reason == "lost"
        assert "<Connect>" in await cell.twilio.voice("CAback", resume=True)
        assert (await cell.bridge.next(CallOffered)).resumed

    run(scenario)


def test_what_the_caller_said_just_before_a_socket_was_lost_reaches_the_worker_first(run):
    async def scenario(cell):
        async with cell.call("CAlast") as (socket, started):
            await socket.send(cell.twilio.media_text(b"\x05" * 160))
            socket.transport.abort()
            assert await cell.caller_audio(160) == b"\x05" * 160
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "lost")

    run(scenario)


def test_a_second_socket_of_a_call_replaces_the_first(run):
    async def scenario(cell):
        async with cell.call("CAtwice") as (first, before):
            parameters = await cell.twilio.parameters("CAtwice")
            await cell.bridge.next(CallOffered)
            async with cell.twilio.socket() as second:
                await second.send(CONNECTED)
                await second.send(cell.twilio.start_text("CAtwice", parameters))
                assert await cell.bridge.next(CallEnded) == CallEnded(before.call, "lost")
                assert (await cell.bridge.next(CallStarted)).call == before.call + 1
                await asyncio.wait_for(first.wait_closed(), 5)

    run(scenario)


def test_a_call_with_the_order_fallback_gets_the_fallback_at_twilios_next_request(run):
    async def scenario(cell):
        async with cell.call("CAfail") as (socket, started):
            cell.bridge.send(EndCall(started.call, Fallback(), 0))
            assert (await cell.bridge.next(CallEnded)).reason == "hung-up"
            await asyncio.wait_for(socket.wait_closed(), 5)
        assert "<Say>" in await cell.twilio.voice("CAfail", resume=True)

    run(scenario)


def test_a_socket_whose_token_was_used_at_another_gateway_is_closed_and_the_call_goes_on(run):
    async def scenario(cell):
        async with cell.call("CAtwo") as (socket, started):
            cell.bridge.send(RefuseCall(started.call))
            await cell.bridge.next(CallEnded)
            assert await closed_with(socket) == 1008
        assert cell.gateway.metrics.starts_refused["used"].value == 1
        assert "<Connect>" in await cell.twilio.voice("CAtwo", resume=True)

    run(scenario)


def test_the_order_of_a_call_at_another_gateway_is_known_here(run):
    async def scenario(cell):
        cell.bridge.send(CallOver("CAbye", HangUp()), CallOver("CAfail", Fallback()), CallTaken("CAother"))
        cell.bridge.answer = WorkerState(0, True, 1)
        await cell.until(lambda: cell.gateway.calls.neighbours.calls(monotonic_ns()) == 1)
        assert "<Response><Hangup /></Response>" in await cell.twilio.voice("CAbye", resume=True)
        assert "<Say>" in await cell.twilio.voice("CAfail", resume=True)

    run(scenario)


def test_a_worker_that_lost_a_call_cannot_end_it(run):
    async def scenario(cell):
        await cell.until(lambda: cell.gateway.metrics.workers_ready.value == 2)
        cell.bridges[1].answer = WorkerState(1, True, 5)
        await cell.until(lambda: cell.gateway.calls.neighbours.calls(monotonic_ns()) == 5)
        async with cell.call() as (_, started):
            call = cell.gateway.calls.by_number[started.call]
            stranger = cell.bridges[1]
            stranger.send(
                EndCall(started.call, HangUp(), 0), CallMemory(started.call, b"x"), CallNote(started.call, b"{}")
            )
            await cell.until(lambda: cell.gateway.metrics.bus_foreign.value == 3)
            cell.bridge.send(CallMemory(started.call, b"mine"))
            await cell.until(lambda: call.memory == b"mine")
            assert started.call in cell.gateway.calls.by_number

    run(scenario, workers=2)


def test_a_socket_without_a_valid_token_begins_no_call(run):
    async def scenario(cell):
        refused = cell.gateway.metrics.starts_refused
        used = await cell.twilio.parameters("CAfirst")
        await cell.bridge.next(CallOffered)
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            await socket.send(cell.twilio.start_text("CAfirst", used))
            await cell.bridge.next(CallStarted)
            for shown, call_sid, reason in (
                ({}, "CAfirst", "no_token"),
                ({"token": "x"}, "CAfirst", "malformed"),
                (used, "CAother", "forged"),
                (used, "CAfirst", "used"),
            ):
                async with cell.twilio.socket() as stranger:
                    await stranger.send(CONNECTED)
                    await stranger.send(cell.twilio.start_text(call_sid, shown))
                    assert await closed_with(stranger) == 1008
                assert refused[reason].value == 1
            assert cell.bridge.inbox.empty()
            cell.twilio.account_sid = "AC" + "9" * 32
            async with cell.twilio.socket() as stranger:
                await stranger.send(CONNECTED)
                await stranger.send(cell.twilio.start_text("CAfirst", used))
                assert await closed_with(stranger) == 1008
            assert refused["forged"].value == 2

    run(scenario)


def test_a_socket_without_start_is_closed(run, monkeypatch):
    monkeypatch.setattr("gateway.media.START_S", 0.05)

    async def scenario(cell):
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            assert await closed_with(socket) == 1008
        assert cell.gateway.metrics.starts_refused["timeout"].value == 1

    run(scenario)


@pytest.mark.parametrize(
    ("message", "code", "kind"),
    [
        ('{"event":"media","streamSid":"MZ2","media":{"payload":""}}', 1008, Violation.WRONG_STREAM),
        ("x" * 70_000, 1009, Violation.OVERSIZED),
        (INVALID_UTF8, 1007, Violation.INVALID_UTF8),
        (UNMASKED, 1002, Violation.FRAMING),
    ],
    ids=["wrong stream", "oversized", "invalid UTF-8", "not masked"],
)
def test_a_fatal_violation_ends_only_its_own_call(run, message, code, kind):
    async def scenario(cell):
        async with cell.call("CAother") as (_, other):
            async with cell.call("CAbad") as (socket, started):
                if isinstance(message, str):
                    await socket.send(message)
                else:
                    socket.transport.write(message)
                assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "lost")
                assert await closed_with(socket) == code
            assert list(cell.gateway.calls.by_number) == [other.call]
        assert cell.gateway.metrics.violations[kind].value == 1

    run(scenario)


@pytest.mark.parametrize(
    ("data", "kind"),
    [(INVALID_UTF8, Violation.INVALID_UTF8), (UNMASKED, Violation.FRAMING)],
    ids=["invalid UTF-8", "not masked"],
)
def test_bytes_that_are_not_websockets_are_counted_before_start_too(run, data, kind):
    async def scenario(cell):
        async with cell.twilio.socket() as socket:
            socket.transport.write(data)
            await asyncio.wait_for(socket.wait_closed(), 5)
        await cell.until(lambda: cell.gateway.metrics.violations[kind].value == 1)

    run(scenario)


@pytest.mark.parametrize(
    "data",
    [
        Frame(Opcode.TEXT, b"x" * 70_000).serialize(mask=True),
        UNMASKED,
        Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True),
    ],
    ids=["oversized", "not masked", "close"],
)
def test_a_call_is_over_at_once_although_its_peer_neither_closes_nor_reads(run, monkeypatch, data):
    monkeypatch.setattr("gateway.port.CLOSE_S", 0.2)

    async def scenario(cell):
        async with cell.call() as (socket, started):
            connection = cell.gateway.media.sockets[started.call].connection
            socket.transport.pause_reading()
            socket.transport.write(data)
            async with asyncio.timeout(0.5):
                assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "lost")
                await connection.wait_closed()
            socket.transport.abort()

    run(scenario)


def test_a_violation_that_is_not_fatal_is_counted_and_the_call_goes_on(run):
    async def scenario(cell):
        async with cell.call() as (socket, _):
            for nonsense in ("{", b"\x00\x01", "[" * 60_000, '{"event":"weather"}', CONNECTED):
                await socket.send(nonsense)
            await socket.send(cell.twilio.media_text(b"\x05" * 160))
            assert await cell.caller_audio(160) == b"\x05" * 160
        counted = {kind.value: c.value for kind, c in cell.gateway.metrics.violations.items() if c.value}
        assert counted == {"malformed": 2, "binary": 1, "unknown_event": 1, "wrong_order": 1}

    run(scenario)


def test_a_socket_brings_the_plan_that_another_gateway_made(run):
    async def scenario(cell):
        noted = []
        cell.gateway.media._note = noted.append
        variables = {"name": "Zoë", "notes": "x" * 2_000}
        plan = CallPlan("inbound", cell.twilio.account_sid, "+15550001", "+15550002", "sales", variables)
        parameters = from_another_gateway(cell, "CA1", plan)
        assert all(len(name) + len(value) <= 500 for name, value in parameters.items())
        for shown in (parameters | {"plan1": parameters["plan2"]}, {"token": parameters["token"]}):
            async with cell.twilio.socket() as socket:
                await socket.send(CONNECTED)
                await socket.send(cell.twilio.start_text("CA1", shown))
                assert await closed_with(socket) == 1008
        assert cell.gateway.metrics.starts_refused["forged"].value == 2
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            await socket.send(cell.twilio.start_text("CA1", parameters))
            started = await cell.bridge.next(CallStarted)
            assert started.plan == plan
            cell.frames(monotonic_ns(), (started.call, 0, bytes(160), 0))
            await cell.bridge.next(FirstFrameSent)
        (began,) = [fact for fact in noted if isinstance(fact, StreamBegan)]
        assert (began.account_sid, began.from_number, began.to_number) == (plan.account_sid, "+15550001", "+15550002")
        assert began.resumed

    run(scenario)


def test_what_txpacer_tells_of_a_path_reaches_callbook_with_the_end_of_the_call(run):
    async def scenario(cell):
        noted = []
        cell.gateway.media._note = noted.append
        async with cell.call("CA1") as (socket, started):
            cell.frames(monotonic_ns(), (started.call, 0, bytes(160), 0))
            await cell.bridge.next(FirstFrameSent)
            cell.pacer.send(PathSamples(((started.call, 150, 40, 125, 0),)))
            await cell.ack()
            await socket.send(cell.twilio.text("stop", stop={"accountSid": "AC", "callSid": "CA1"}))
            await cell.bridge.next(CallEnded)
        (fact,) = [fact for fact in noted if isinstance(fact, StreamPath)]
        assert (fact.call_sid, fact.stream_sid, fact.samples) == ("CA1", "MZ1", ((0, 150, 40, 125, 0),))

    run(scenario)
