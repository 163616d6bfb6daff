"""Media sockets over the real port: a call from its handshake to its end."""

from __future__ import annotations

import asyncio
import base64
from time import monotonic_ns
from typing import Any

from shared.messages import CLEAR, CallEnded, CallerDtmf, CloseLine, FirstFrameSent, HangUp, MarkHeard

FRAME = bytes(range(160))


async def received(connection: Any) -> Any:
    import json

    return json.loads(await asyncio.wait_for(connection.recv(), 5))


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
            assert await cell.bridge.next(CallerDtmf) == CallerDtmf(started.call, "5")
            await socket.send(cell.twilio.text("stop", stop={"accountSid": "AC", "callSid": "CAone"}))
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "stop")
            assert await cell.pacer.next(CloseLine) == CloseLine(started.call)
        assert cell.gateway.media.calls == {}

    run(scenario)


def test_frames_leave_as_documented_and_the_first_one_is_announced(run):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            cell.frames(monotonic_ns(), (started.call, 0, FRAME + FRAME[::-1], 3))
            for audio in (FRAME, FRAME[::-1]):
                payload = base64.b64encode(audio).decode()
                assert await received(socket) == {"event": "media", "streamSid": "MZ1", "media": {"payload": payload}}
            assert await received(socket) == {"event": "mark", "streamSid": "MZ1", "mark": {"name": "0.3"}}
            assert (await cell.ack()).late == ()
            assert (await cell.bridge.next(FirstFrameSent)).call == started.call
            cell.frames(monotonic_ns(), (started.call, 2, FRAME, 0))
            await received(socket)
            await cell.ack()
            await socket.send(cell.twilio.text("mark", mark={"name": "0.3"}))
            heard = await cell.bridge.next(MarkHeard)  # and no second FirstFrameSent before it
            assert (heard.call, heard.generation, heard.utterance) == (started.call, 0, 3)
        assert cell.gateway.metrics.frames_sent.value == 3
        assert cell.gateway.metrics.frame_lateness.count == 3

    run(scenario)


def test_a_clear_bumps_the_generation_of_later_marks(run):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            cell.frames(monotonic_ns(), (started.call, 0, b"", CLEAR), (started.call, 0, FRAME, 4))
            assert await received(socket) == {"event": "clear", "streamSid": "MZ1"}
            await received(socket)
            assert (await received(socket))["mark"]["name"] == "1.4"

    run(scenario)


def test_hang_up_waits_for_the_mark_and_the_redirect_then_hangs_up(run):
    async def scenario(cell):
        async with cell.call("CAbye") as (socket, started):
            cell.frames(monotonic_ns(), (started.call, 0, FRAME, 1))
            await received(socket)
            await received(socket)
            await cell.bridge.next(FirstFrameSent)
            cell.bridge.send(HangUp(started.call, True, 1))
            await cell.until(lambda: cell.gateway.media.calls[started.call].hang_up_after == 1)
            await socket.send(cell.twilio.text("mark", mark={"name": "0.1"}))
            await cell.bridge.next(MarkHeard)
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "hung-up")
            await asyncio.wait_for(socket.wait_closed(), 5)
            assert socket.close_code == 1000
        assert "<Response><Hangup /></Response>" in await cell.twilio.voice("CAbye", resume=True)

    run(scenario)
