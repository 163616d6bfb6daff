"""Frames on the media sockets: what leaves, what is acknowledged, and sockets that accept no data."""

from __future__ import annotations

import asyncio
import base64
from time import monotonic_ns

import pytest
from websockets.frames import Frame, Opcode

from gateway.core.path import FAR_NS
from shared.messages import (
    CLEAR,
    CallEnded,
    FirstFrameSent,
    MarkHeard,
    PathSeen,
)

from .conftest import FRAME, received

INVALID_UTF8 = Frame(Opcode.TEXT, b"\xff").serialize(mask=True)
UNMASKED = Frame(Opcode.TEXT, b"{}").serialize(mask=False)


def test_frames_leave_as_documented_and_the_first_one_is_announced(run):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            cell.frames(monotonic_ns(), (started.call, 0, FRAME + FRAME[::-1], 3))
            for audio in (FRAME, FRAME[::-1]):
                payload = base64.b64encode(audio).decode()
                assert await received(socket) == {"event": "media", "streamSid": "MZ1", "media": {"payload": payload}}
            assert await received(socket) == {"event": "mark", "streamSid": "MZ1", "mark": {"name": "0.3.2"}}
            assert (await cell.ack()).late == ()
            assert (await cell.bridge.next(FirstFrameSent)).call == started.call
            cell.frames(monotonic_ns(), (started.call, 2, FRAME, 0))
            await received(socket)
            await cell.ack()
            await socket.send(cell.twilio.text("mark", mark={"name": "0.3.2"}))
            heard = await cell.bridge.next(MarkHeard)  # and no second FirstFrameSent before it
            assert (heard.call, heard.generation, heard.utterance) == (started.call, 0, 3)
        assert cell.gateway.metrics.frames_sent.value == 3
        assert cell.gateway.metrics.frame_lateness.count == 3

    run(scenario)


def test_on_a_path_that_may_lose_segments_a_burst_is_one_message(run):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            path = cell.gateway.calls.by_number[started.call].path
            path.answered(path.ping(monotonic_ns() - FAR_NS), monotonic_ns())
            assert path.is_far
            cell.frames(monotonic_ns(), (started.call, 0, FRAME + FRAME[::-1], 0), (started.call, 2, FRAME, 0))
            for audio in (FRAME + FRAME[::-1], FRAME):
                assert base64.b64decode((await received(socket))["media"]["payload"]) == audio

    run(scenario)


def test_a_clear_raises_the_generation_of_later_marks(run):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            cell.frames(monotonic_ns(), (started.call, 0, b"", CLEAR), (started.call, 0, FRAME, 4))
            assert await received(socket) == {"event": "clear", "streamSid": "MZ1"}
            await received(socket)
            assert (await received(socket))["mark"]["name"] == "1.4.1"

    run(scenario)


def test_frames_that_arrive_late_are_named_in_the_acknowledgement(run):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            cell.frames(monotonic_ns() - 19_000_000, (started.call, 0, FRAME, 0))
            on_time = await cell.ack()
            cell.frames(monotonic_ns() - 21_000_000, (started.call, 1, FRAME * 2, 0), (12345, 7, FRAME, 0))
            late = await cell.ack()
            assert (late.late, late.stuck) == (((started.call, 1),), False)
            assert late.wire_ns > on_time.wire_ns
            assert len([await received(socket) for _ in range(3)]) == 3
        metrics = cell.gateway.metrics
        assert metrics.frames_unknown_call.value == 1
        assert metrics.wire_gap.count == 1

    run(scenario)


def test_a_stall_on_the_wire_is_counted_and_nothing_else_happens(run, caplog):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            frames = cell.gateway.calls.by_number[started.call].frames
            cell.frames(monotonic_ns(), (started.call, 0, FRAME, 0))
            await received(socket)
            await cell.ack()
            await cell.bridge.next(FirstFrameSent)
            frames.last_wire_ns -= 5_000_000_000
            caplog.clear()
            cell.frames(monotonic_ns(), (started.call, 1, FRAME, 0))
            assert (await received(socket))["event"] == "media"
            assert (await cell.ack()).late == ()
            assert cell.gateway.metrics.tx_stall.value == 1
            assert caplog.records == []
            assert cell.bridge.inbox.empty()
            assert cell.pacer.inbox.empty()
            assert started.call in cell.gateway.calls.by_number

    with caplog.at_level("DEBUG", logger="gateway"):
        run(scenario)


@pytest.mark.parametrize("mark", [0, 1])
def test_the_first_unsent_frame_of_a_stuck_socket_is_reported_until_it_leaves(run, mark):
    """The report needs no further write, also after the end of an utterance; in the end all frames arrive in order."""

    async def scenario(cell):
        async with cell.call() as (socket, started):
            media = cell.gateway.media.sockets[started.call]
            transport = media.connection.transport
            socket.transport.pause_reading()
            seq = 0

            async def write(count):
                nonlocal seq
                audio = b"".join(n.to_bytes(2) * 80 for n in range(seq, seq + count))
                cell.frames(monotonic_ns(), (started.call, seq, audio, mark))
                seq += count
                return await cell.ack()

            while not transport.get_write_buffer_size():
                await write(1_000)
            if not mark:
                await write(1)
            first = await cell.ack()
            again = await cell.ack()
            assert again.wire_ns > first.wire_ns
            ((number, waiting),) = again.late
            assert again.stuck
            assert number == started.call
            frame = len(media.connection.frame(media.outbound.media(FRAME)))
            assert abs((seq - waiting) * frame - transport.get_write_buffer_size()) < frame
            socket.transport.resume_reading()
            texts = [await received(socket) for _ in range(seq + (seq // 1_000 if mark else 0))]
            frames = [base64.b64decode(text["media"]["payload"]) for text in texts if text["event"] == "media"]
            assert frames == [n.to_bytes(2) * 80 for n in range(seq)]
            await cell.until(lambda: not media.frames.stuck_since_ns)

    run(scenario)


def test_a_media_socket_that_is_not_read_delays_no_other_call(run):
    async def scenario(cell):
        async with cell.call("CAslow") as (slow, stuck), cell.call("CAfast") as (fast, started):
            slow.transport.pause_reading()
            media = cell.gateway.media.sockets[stuck.call]
            for batch in range(20):
                media.frames.last_wire_ns -= 60_000_000  # as if the write were 60 ms late
                cell.frames(
                    monotonic_ns(), (stuck.call, batch * 1_000, FRAME * 1_000, 0), (started.call, batch, FRAME, 0)
                )
                await cell.ack()
                await received(fast)
            assert media.connection.transport.get_write_buffer_size() > 0
            assert cell.gateway.metrics.slow_sends.value > 0
            slow.transport.abort()

    run(scenario)


def test_a_lost_socket_ends_its_call_once_and_costs_no_other_call_a_frame(run):
    async def scenario(cell):
        async with cell.call("CAgone") as (socket, gone), cell.call("CAhere") as (fast, started):
            socket.transport.abort()
            for seq in range(20):
                cell.frames(monotonic_ns(), (gone.call, seq, FRAME, 0), (started.call, seq, FRAME, 0))
                await received(fast)
            await cell.until(lambda: gone.call not in cell.gateway.calls.by_number)
        ended = []
        while len(ended) < 2:
            message = await asyncio.wait_for(cell.bridge.inbox.get(), 5)
            if isinstance(message, CallEnded):
                ended.append((message.call, message.reason))
        assert ended == [(gone.call, "lost"), (started.call, "lost")]
        assert cell.gateway.calls.by_number == {}

    run(scenario)


def test_twilio_is_asked_for_its_delay_by_a_ping_among_the_frames(run):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            cell.frames(monotonic_ns(), (started.call, 0, FRAME, 0))
            await cell.ack()
            ((call, delay_ns, _),) = (await cell.pacer.next(PathSeen)).pings
            assert (call, delay_ns > 0) == (started.call, True)
            cell.frames(monotonic_ns(), (started.call, 1, FRAME, 0))
            assert [(await received(socket))["event"] for _ in range(2)] == ["media", "media"]

    run(scenario)
