"""A whole gateway: its start, its draining, and calls without a worker."""

from __future__ import annotations

import asyncio
from time import monotonic_ns

import pytest
from websockets.frames import Frame, Opcode

from shared.liveness import PEER_SILENT_S
from shared.messages import (
    CallEnded,
    CallOffered,
    CallStarted,
    CallTaken,
    WorkerState,
)
from shared.plan import CallPlan

from .conftest import CONNECTED, FRAME, closed_with, from_another_gateway, received

INVALID_UTF8 = Frame(Opcode.TEXT, b"\xff").serialize(mask=True)
UNMASKED = Frame(Opcode.TEXT, b"{}").serialize(mask=False)


def test_a_draining_gateway_waits_for_live_calls(run):
    async def scenario(cell):
        async with cell.call("CAlive") as (socket, started):
            draining = asyncio.create_task(cell.gateway.drain(20))
            await cell.until(lambda: cell.gateway.calls.offers.draining)
            assert "<Say>" in await cell.twilio.voice("CAnew")
            assert "<Connect>" in await cell.twilio.voice("CAlive", resume=True)
            cell.bridge.send(CallTaken("CAlive"))
            cell.frames(monotonic_ns(), (started.call, 0, FRAME, 0))
            await received(socket)
            assert not draining.done()
        await asyncio.wait_for(draining, 5)
        await asyncio.wait_for(cell.gateway.drain(20), 1)

    run(scenario)


def test_a_draining_gateway_whose_cell_is_gone_waits_for_no_call(run, monkeypatch):
    monkeypatch.setattr("gateway.core.neighbours.SILENT_NS", 300_000_000)

    async def scenario(cell):
        async with cell.call():
            draining = asyncio.create_task(cell.gateway.drain(20))
            await asyncio.sleep(0.4)
            assert not draining.done()
            for peer in (cell.pacer, *cell.bridges):
                peer.answer = None
            await asyncio.wait_for(draining, 2)
            assert not cell.gateway.calls.is_idle

    run(scenario)


def test_a_call_that_was_offered_before_the_drain_may_begin(run):
    async def scenario(cell):
        parameters = await cell.twilio.parameters("CA1")
        await cell.bridge.next(CallOffered)
        draining = asyncio.create_task(cell.gateway.drain(20))
        await cell.until(lambda: cell.gateway.calls.offers.draining)
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            await socket.send(cell.twilio.start_text("CA1", parameters))
            assert (await cell.bridge.next(CallStarted)).call_sid == "CA1"
            assert not draining.done()
        await asyncio.wait_for(draining, 5)

    run(scenario)


@pytest.mark.parametrize(("others", "reason"), [(0, "hung-up"), (1, "lost")])
def test_after_the_time_to_drain_calls_are_ended_or_left_to_another_gateway(run, others, reason):
    async def scenario(cell):
        cell.bridge.answer = WorkerState(0, True, 0, 0, others)
        await cell.until(
            lambda: cell.gateway.calls.neighbours.another_gateway_takes_calls(monotonic_ns()) == bool(others)
        )
        async with cell.call() as (socket, started):
            await cell.gateway.drain(0)
            await cell.gateway.close()
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, reason)
            await asyncio.wait_for(socket.wait_closed(), 5)

    run(scenario)


def test_after_the_time_to_drain_calls_go_on_in_another_cell_one_by_one(run):
    async def scenario(cell):
        async with cell.call("CA1") as (first, one), cell.call("CA2") as (second, two):
            await cell.gateway.drain(0)
            closing = asyncio.create_task(cell.gateway.close())
            assert await cell.bridge.next(CallEnded) == CallEnded(one.call, "lost")
            # Twilio's redirect: another cell has to answer it.
            status, twiml = await cell.twilio.post(
                "/twilio/voice?resume=1&cell=here&worker=0", CallSid="CA1", AccountSid=cell.twilio.account_sid
            )
            assert (status, "<Say>" in twiml) == (503, True)
            assert await cell.bridge.next(CallEnded) == CallEnded(two.call, "lost")
            assert [await closed_with(socket) for socket in (first, second)] == [1000, 1000]
            await closing

    run(scenario, cell="here", fleet="on")


def test_a_draining_gateway_leaves_the_port_to_another_gateway_while_there_is_one(run):
    async def scenario(cell):
        async def reaches() -> str:
            try:
                return await cell.twilio.voice("CAnew")
            except ConnectionRefusedError:
                return "refused"
            except ConnectionResetError:  # it was not accepted yet when the port was closed
                return "reset"

        async with asyncio.timeout(10), cell.call():
            proxy, kept = await asyncio.open_connection("127.0.0.1", cell.twilio.port)
            kept.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" in await proxy.readline()
            cell.bridge.answer = WorkerState(0, True, 0, 0, 1)
            await cell.until(lambda: cell.gateway.calls.neighbours.another_gateway_takes_calls(monotonic_ns()))
            draining = asyncio.create_task(cell.gateway.drain(20))
            await cell.until(lambda: cell.gateway.calls.offers.draining)
            assert "<Connect>" in await reaches()
            while await reaches() != "refused":  # noqa: ASYNC110 - no message tells
                await asyncio.sleep(0.01)
            await proxy.read()  # to its end
            kept.close()
            cell.bridge.send(CallTaken("CAnew"))
            cell.bridge.answer = WorkerState(0, True, 0, 0, 0)
            while "<Say>" not in await reaches():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.wait_for(draining, 5)

    run(scenario)


def test_calls_without_a_worker_get_the_fallback(run, monkeypatch):
    monkeypatch.setattr("gateway.core.neighbours.SILENT_NS", 300_000_000)
    monkeypatch.setattr("gateway.gateway.SWEEP_S", 0.05)

    async def scenario(cell):
        async with cell.call("CAalone") as (socket, started):
            cell.bridge.answer = None
            await cell.until(lambda: not cell.gateway.calls.neighbours.worker_is_there(0, monotonic_ns()))
            assert started.call in cell.gateway.calls.by_number
            assert await closed_with(socket) == 1000
        assert "<Say>" in await cell.twilio.voice("CAalone", resume=True)

    run(scenario, model_reconnect_seconds=1)


def test_calls_without_txpacer_get_the_fallback(run, monkeypatch):
    monkeypatch.setattr("gateway.core.neighbours.SILENT_NS", 300_000_000)
    monkeypatch.setattr("gateway.core.calls.PACER_GONE_S", PEER_SILENT_S + 1)
    monkeypatch.setattr("gateway.gateway.SWEEP_S", 0.05)

    async def scenario(cell):
        async with cell.call("CAsilent") as (socket, started):
            cell.pacer.answer = None
            await cell.until(lambda: not cell.gateway.calls.neighbours.pacer_is_there(monotonic_ns()))
            assert started.call in cell.gateway.calls.by_number
            assert await closed_with(socket) == 1000
            assert (await cell.bridge.next(CallEnded)).reason == "hung-up"
        assert "<Say>" in await cell.twilio.voice("CAsilent", resume=True)

    run(scenario)


def test_a_new_gateway_without_a_worker_does_not_end_a_returning_call(run, monkeypatch):
    monkeypatch.setattr("gateway.gateway.MEET_S", 0.0)

    async def scenario(cell):
        cell.bridge.answer = None
        await cell.until(lambda: not cell.gateway.calls.neighbours.worker_is_there(0, monotonic_ns()))
        # Another gateway of the cell, which knew the worker, had answered the webhook.
        parameters = from_another_gateway(cell, "CA1", CallPlan())
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            await socket.send(cell.twilio.start_text("CA1", parameters))
            await socket.wait_closed()
        assert cell.gateway.metrics.starts_refused["no_worker"].value == 1
        cell.bridge.answer = WorkerState(0, True, 0)
        await cell.until(lambda: cell.gateway.calls.neighbours.worker_is_ready(0, monotonic_ns()))
        assert "<Stream" in await cell.twilio.voice("CA1", resume=True)

    run(scenario)
