"""Caller audio of a call whose aibridge worker is gone, stalled or new."""

from __future__ import annotations

from time import monotonic_ns

from websockets.frames import Frame, Opcode

from gateway.core.neighbours import SILENT_NS
from shared.messages import (
    CallOffered,
    CallStarted,
    WorkerState,
)

from .conftest import CONNECTED

INVALID_UTF8 = Frame(Opcode.TEXT, b"\xff").serialize(mask=True)
UNMASKED = Frame(Opcode.TEXT, b"{}").serialize(mask=False)


def test_a_call_goes_to_the_worker_that_dialled_ahead_or_to_another_one_if_that_is_gone(run):
    async def scenario(cell):
        cell.bridges[0].answer = WorkerState(0, True, 5)
        await cell.until(lambda: cell.gateway.metrics.workers_ready.value == 2)
        cell.bridges[0].send(WorkerState(0, True, 5))
        await cell.until(lambda: cell.gateway.calls.neighbours.pick(monotonic_ns()) == 1)
        parameters = await cell.twilio.parameters("CA1")
        await cell.bridges[1].next(CallOffered)
        cell.bridges[1].answer = None
        gone_ns = monotonic_ns() + SILENT_NS
        cell.bridges[1].link.close()
        await cell.until(lambda: not cell.gateway.calls.neighbours.worker_is_there(1, monotonic_ns()))
        assert monotonic_ns() < gone_ns + 1_000_000_000
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            await socket.send(cell.twilio.start_text("CA1", parameters))
            assert (await cell.bridges[0].next(CallStarted)).call_sid == "CA1"

    run(scenario, workers=2)


def test_caller_audio_without_a_worker_moves_to_the_successor(run):
    async def scenario(cell):
        await cell.until(lambda: cell.gateway.metrics.workers_ready.value == 2)
        cell.bridges[1].answer = WorkerState(1, True, 5)
        await cell.until(lambda: cell.gateway.calls.neighbours.pick(monotonic_ns()) == 0)
        cell.bridges[1].send(WorkerState(1, True, 5))
        async with cell.call("CAone") as (socket, started):
            cell.bridges[0].answer = None
            cell.bridges[0].link.close()
            (media,) = cell.gateway.media.sockets.values()
            # ZeroMQ refuses nothing until it knows that the worker is gone.
            await cell.until(lambda: not media.bridge.link.send(()))
            await socket.send(cell.twilio.media_text(b"\x05" * 160))
            again = await cell.bridges[1].next(CallStarted)
            assert (again.call, again.handover) == (started.call, 1)
            assert await cell.caller_audio(160, bridge=cell.bridges[1]) == b"\x05" * 160
            await socket.send(cell.twilio.media_text(b"\x06" * 160))
            assert await cell.caller_audio(160, bridge=cell.bridges[1]) == b"\x06" * 160

    run(scenario, workers=2)


def test_caller_audio_that_a_stalled_worker_has_not_read_moves_to_the_successor(run):
    async def scenario(cell):
        await cell.until(lambda: cell.gateway.metrics.workers_ready.value == 2)
        cell.bridges[1].answer = WorkerState(1, True, 5)
        await cell.until(lambda: cell.gateway.calls.neighbours.pick(monotonic_ns()) == 0)
        async with cell.call("CAone") as (socket, started):
            await socket.send(cell.twilio.media_text(b"\x04" * 160))
            assert await cell.caller_audio(160) == b"\x04" * 160
            (media,) = cell.gateway.media.sockets.values()
            await cell.until(lambda: not media.bridge._unacknowledged)
            cell.bridges[0].answer = None
            said = [bytes([n]) * 160 for n in range(10)]
            for chunk in said:
                await socket.send(cell.twilio.media_text(chunk))
            # ZeroMQ has accepted all messages.
            assert await cell.caller_audio(1_600) == b"".join(said)
            await cell.until(lambda: media.call.worker == 1)
            again = await cell.bridges[1].next(CallStarted)
            assert (again.call, again.handover) == (started.call, 1)
            assert await cell.caller_audio(1_600, bridge=cell.bridges[1]) == b"".join(said)
            await socket.send(cell.twilio.media_text(b"\x20" * 160))
            assert await cell.caller_audio(160, bridge=cell.bridges[1]) == b"\x20" * 160

    run(scenario, workers=2)


def test_caller_audio_that_a_killed_worker_has_not_read_goes_to_the_restarted_worker(run):
    async def scenario(cell):
        async with cell.call("CAone") as (socket, started):
            cell.bridge.answer = None
            await socket.send(cell.twilio.media_text(b"\x05" * 160))
            assert await cell.caller_audio(160) == b"\x05" * 160
            cell.bridge.restart()
            cell.bridge.answer = WorkerState(0, True, 0, epoch=1)
            again = await cell.bridge.next(CallStarted)
            assert (again.call, again.handover) == (started.call, 1)
            assert await cell.caller_audio(160) == b"\x05" * 160
            await socket.send(cell.twilio.media_text(b"\x06" * 160))
            assert await cell.caller_audio(160) == b"\x06" * 160

    run(scenario)
