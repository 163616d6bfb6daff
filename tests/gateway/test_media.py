"""Media sockets over the real port: a call from its handshake to its end."""

from __future__ import annotations

import asyncio
import base64
import json
from time import monotonic_ns
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import Close, Frame, Opcode

from gateway.core import plans
from gateway.core.cell import SILENT_NS
from gateway.core.media_streams import Kind
from gateway.core.tokens import Tokens, shared_key
from shared.facts import StreamBegan
from shared.messages import (
    CLEAR,
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
    RefuseCall,
    WorkerState,
)
from shared.plan import CallPlan, Fallback, HangUp

from .conftest import AUTH_TOKEN

CONNECTED = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})

FRAME = bytes(range(160))

INVALID_UTF8 = Frame(Opcode.TEXT, b"\xff").serialize(mask=True)
UNMASKED = Frame(Opcode.TEXT, b"{}").serialize(mask=False)


async def received(connection: Any) -> Any:
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
            cell.bridge.send(EndCall(started.call, HangUp(), 1))
            await cell.until(lambda: cell.gateway.media.calls[started.call].hang_up_after == 1)
            await socket.send(cell.twilio.text("mark", mark={"name": "0.1"}))
            await cell.bridge.next(MarkHeard)
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "hung-up")
            await asyncio.wait_for(socket.wait_closed(), 5)
            assert socket.close_code == 1000
        assert "<Response><Hangup /></Response>" in await cell.twilio.voice("CAbye", resume=True)

    run(scenario)


def test_frames_that_arrive_late_are_named_in_the_acknowledgement(run):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            cell.frames(monotonic_ns() - 19_000_000, (started.call, 0, FRAME, 0))
            on_time = await cell.ack()
            cell.frames(monotonic_ns() - 21_000_000, (started.call, 1, FRAME * 2, 0), (12345, 7, FRAME, 0))
            late = await cell.ack()
            assert late.late == ((started.call, 1),)
            assert late.wire_ns > on_time.wire_ns
            assert len([await received(socket) for _ in range(3)]) == 3
        metrics = cell.gateway.metrics
        assert metrics.frames_unknown_call.value == 1
        assert metrics.wire_gap.count == 1

    run(scenario)


def test_a_gap_inside_an_utterance_is_a_stall_and_one_behind_it_or_a_pause_is_not(run):
    async def scenario(cell):
        async with cell.call() as (_, started):
            call = cell.gateway.media.calls[started.call]
            cell.frames(monotonic_ns(), (started.call, 0, FRAME, 0))
            await cell.ack()
            call.last_wire_ns -= 301_000_000
            cell.frames(monotonic_ns(), (started.call, 1, FRAME, 1))
            await cell.ack()
            assert cell.gateway.metrics.tx_stall.value == 1
            call.last_wire_ns -= 301_000_000
            cell.frames(monotonic_ns(), (started.call, 2, FRAME, 0))
            await cell.ack()
            assert cell.gateway.metrics.tx_stall.value == 1
            call.last_wire_ns -= 301_000_000
            cell.frames(monotonic_ns(), (started.call, 4, FRAME, 0))  # a number was left out: a pause
            await cell.ack()
            assert cell.gateway.metrics.tx_stall.value == 1
            assert cell.gateway.metrics.wire_gap.count == 1

    run(scenario)


def test_a_stall_on_the_wire_is_counted_and_nothing_else_happens(run, caplog):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            call = cell.gateway.media.calls[started.call]
            cell.frames(monotonic_ns(), (started.call, 0, FRAME, 0))
            await received(socket)
            await cell.ack()
            await cell.bridge.next(FirstFrameSent)
            call.last_wire_ns -= 5_000_000_000
            caplog.clear()
            cell.frames(monotonic_ns(), (started.call, 1, FRAME, 0))
            assert (await received(socket))["event"] == "media"
            assert (await cell.ack()).late == ()
            assert cell.gateway.metrics.tx_stall.value == 1
            assert caplog.records == []
            assert cell.bridge.inbox.empty()
            assert cell.pacer.inbox.empty()
            assert started.call in cell.gateway.media.calls

    with caplog.at_level("DEBUG", logger="gateway"):
        run(scenario)


@pytest.mark.parametrize("mark", [0, 1])
def test_what_a_socket_does_not_take_is_told_until_it_does(run, mark):
    """Which frame waits, without a further write if an utterance ended; and in the end all are there, in order."""

    async def scenario(cell):
        async with cell.call() as (socket, started):
            call = cell.gateway.media.calls[started.call]
            transport = call.connection.transport
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
            assert number == started.call
            frame = len(call.connection.frame(call.outbound.media(FRAME)))
            assert abs((seq - waiting) * frame - transport.get_write_buffer_size()) < frame
            socket.transport.resume_reading()
            texts = [await received(socket) for _ in range(seq + (seq // 1_000 if mark else 0))]
            frames = [base64.b64decode(text["media"]["payload"]) for text in texts if text["event"] == "media"]
            assert frames == [n.to_bytes(2) * 80 for n in range(seq)]
            await cell.until(lambda: not call.stuck_since_ns)

    run(scenario)


def test_a_caller_who_does_not_read_delays_nobody(run):
    async def scenario(cell):
        async with cell.call("CAslow") as (slow, stuck), cell.call("CAfast") as (fast, started):
            slow.transport.pause_reading()
            call = cell.gateway.media.calls[stuck.call]
            for batch in range(20):
                call.last_wire_ns -= 60_000_000  # as if it were behind its pace
                cell.frames(
                    monotonic_ns(), (stuck.call, batch * 1_000, FRAME * 1_000, 0), (started.call, batch, FRAME, 0)
                )
                await cell.ack()
                await received(fast)
            assert call.connection.transport.get_write_buffer_size() > 0
            assert cell.gateway.metrics.slow_sends.value > 0
            slow.transport.abort()

    run(scenario)


def test_a_socket_that_is_lost_ends_its_call_once_and_takes_no_frame_with_it(run):
    async def scenario(cell):
        async with cell.call("CAgone") as (socket, gone), cell.call("CAhere") as (fast, started):
            socket.transport.abort()
            for seq in range(20):
                cell.frames(monotonic_ns(), (gone.call, seq, FRAME, 0), (started.call, seq, FRAME, 0))
                await received(fast)
            await cell.until(lambda: gone.call not in cell.gateway.media.calls)
        ended = []
        while len(ended) < 2:
            message = await asyncio.wait_for(cell.bridge.inbox.get(), 5)
            if isinstance(message, CallEnded):
                ended.append((message.call, message.reason))
        assert ended == [(gone.call, "lost"), (started.call, "lost")]
        assert cell.gateway.media.calls == {}

    run(scenario)


def test_a_lost_call_comes_back_as_the_same_conversation(run):
    async def scenario(cell):
        async with cell.call("CAback") as (socket, _):
            socket.transport.abort()
            assert (await cell.bridge.next(CallEnded)).reason == "lost"
        assert "<Connect>" in await cell.twilio.voice("CAback", resume=True)
        assert (await cell.bridge.next(CallOffered)).resumed

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


def test_a_call_whose_order_is_the_fallback_gets_the_fallback_when_twilio_comes_back(run):
    async def scenario(cell):
        async with cell.call("CAfail") as (socket, started):
            cell.bridge.send(EndCall(started.call, Fallback(), 0))
            assert (await cell.bridge.next(CallEnded)).reason == "hung-up"
            await asyncio.wait_for(socket.wait_closed(), 5)
        assert "<Say>" in await cell.twilio.voice("CAfail", resume=True)

    run(scenario)


def test_a_socket_with_a_token_used_elsewhere_goes_and_says_nothing_of_the_call(run):
    async def scenario(cell):
        async with cell.call("CAtwo") as (socket, started):
            cell.bridge.send(RefuseCall(started.call))
            await cell.bridge.next(CallEnded)
            assert await _closed_with(socket) == 1008
        assert cell.gateway.metrics.starts_refused["used"].value == 1
        assert "<Connect>" in await cell.twilio.voice("CAtwo", resume=True)

    run(scenario)


def test_how_a_call_ended_at_another_gateway_is_known_here(run):
    async def scenario(cell):
        cell.bridge.send(CallOver("CAbye", HangUp()), CallOver("CAfail", Fallback()), CallTaken("CAother"))
        cell.bridge.answer = WorkerState(0, True, 1)
        await cell.until(lambda: cell.gateway.cell.calls(monotonic_ns()) == 1)
        assert "<Response><Hangup /></Response>" in await cell.twilio.voice("CAbye", resume=True)
        assert "<Say>" in await cell.twilio.voice("CAfail", resume=True)

    run(scenario)


def test_a_worker_that_lost_a_call_has_no_say_in_it(run):
    async def scenario(cell):
        await cell.until(lambda: cell.gateway.metrics.workers_ready.value == 2)
        cell.bridges[1].answer = WorkerState(1, True, 5)
        await cell.until(lambda: cell.gateway.cell.calls(monotonic_ns()) == 5)
        async with cell.call() as (_, started):
            call = cell.gateway.media.calls[started.call]
            stranger = cell.bridges[1]
            stranger.send(
                EndCall(started.call, HangUp(), 0), CallMemory(started.call, b"x"), CallNote(started.call, b"{}")
            )
            await cell.until(lambda: cell.gateway.metrics.bus_foreign.value == 3)
            cell.bridge.send(CallMemory(started.call, b"mine"))
            await cell.until(lambda: call.memory == b"mine")
            assert started.call in cell.gateway.media.calls

    run(scenario, workers=2)


def test_a_goodbye_without_its_mark_is_closed_after_silence_only(run, monkeypatch):
    monkeypatch.setattr("gateway.media.MARK_S", 0.3)

    async def scenario(cell):
        async with cell.call() as (socket, started):
            cell.bridge.send(EndCall(started.call, HangUp(), 1))
            spoken_until = monotonic_ns() + 600_000_000
            seq = 0
            while monotonic_ns() < spoken_until:
                cell.frames(monotonic_ns(), (started.call, seq, FRAME, 0))
                await received(socket)
                await cell.ack()
                seq += 1
                await asyncio.sleep(0.02)  # the pace of speech
            assert started.call in cell.gateway.media.calls
            await cell.bridge.next(FirstFrameSent)
            assert (await cell.bridge.next(CallEnded)).reason == "hung-up"
            assert monotonic_ns() > spoken_until + 200_000_000

    run(scenario)


def test_marks_of_before_a_clear_do_not_hang_up(run):
    async def scenario(cell):
        async with cell.call() as (socket, started):
            cell.frames(monotonic_ns(), (started.call, 0, b"", CLEAR))
            await cell.ack()
            cell.bridge.send(EndCall(started.call, HangUp(), 2))
            for name in ("0.2", "elsewhere", "1.1"):
                await socket.send(cell.twilio.text("mark", mark={"name": name}))
            assert (await cell.bridge.next(MarkHeard)).generation == 0
            assert (await cell.bridge.next(MarkHeard)).utterance == 1
            assert started.call in cell.gateway.media.calls
            assert cell.gateway.metrics.marks_unknown.value == 1
            await socket.send(cell.twilio.text("mark", mark={"name": "1.2"}))
            await cell.bridge.next(MarkHeard)
            assert (await cell.bridge.next(CallEnded)).reason == "hung-up"

    run(scenario)


@pytest.mark.parametrize(
    ("target", "signature", "status", "outcome"),
    [
        ("/twilio/elsewhere", None, 404, "path"),
        ("/twilio/media?token=1", None, 400, "query"),
        ("/twilio/media", "wrong", 403, "signature"),
        ("/twilio/media", "", 403, "signature"),
    ],
)
def test_a_handshake_is_refused_before_anything_is_allocated(run, target, signature, status, outcome):
    async def scenario(cell):
        with pytest.raises(InvalidStatus) as caught:
            async with cell.twilio.socket(target, signature):
                pass
        assert caught.value.response.status_code == status
        assert handshakes(cell) == {outcome: 1}

    run(scenario)


def handshakes(cell: Any) -> dict[str, float]:
    return {outcome: c.value for outcome, c in cell.gateway.metrics.handshakes.items() if c.value}


def test_a_signed_handshake_that_is_none_is_not_accepted(run):
    async def scenario(cell):
        url = "ws" + cell.twilio.origin.removeprefix("http") + "/twilio/media"
        reader, writer = await asyncio.open_connection("127.0.0.1", cell.twilio.port)
        writer.write(
            b"GET /twilio/media HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: no key\r\nX-Twilio-Signature: %b\r\n\r\n"
            % cell.twilio.sign(url, {}).encode()
        )
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 400")
        writer.close()
        assert handshakes(cell) == {}
        async with cell.twilio.socket():
            await cell.until(lambda: handshakes(cell) == {"accepted": 1})

    run(scenario)


def test_a_slash_behind_the_path_is_the_same_path(run):
    async def scenario(cell):
        async with cell.twilio.socket("/twilio/media/") as socket:
            await socket.send(CONNECTED)

    run(scenario)


def test_a_draining_gateway_waits_for_live_calls(run):
    async def scenario(cell):
        async with cell.call("CAlive") as (socket, started):
            draining = asyncio.create_task(cell.gateway.drain(20))
            await cell.until(lambda: cell.gateway.media.draining)
            assert "<Say>" in await cell.twilio.voice("CAnew")
            assert "<Connect>" in await cell.twilio.voice("CAlive", resume=True)
            cell.bridge.send(CallTaken("CAlive"))
            cell.frames(monotonic_ns(), (started.call, 0, FRAME, 0))
            await received(socket)
            assert not draining.done()
        await asyncio.wait_for(draining, 5)
        await asyncio.wait_for(cell.gateway.drain(20), 1)

    run(scenario)


def test_a_call_that_was_offered_before_the_drain_is_taken(run):
    async def scenario(cell):
        parameters = await cell.twilio.parameters("CA1")
        await cell.bridge.next(CallOffered)
        draining = asyncio.create_task(cell.gateway.drain(20))
        await cell.until(lambda: cell.gateway.media.draining)
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            await socket.send(cell.twilio.start_text("CA1", parameters))
            assert (await cell.bridge.next(CallStarted)).call_sid == "CA1"
            assert not draining.done()
        await asyncio.wait_for(draining, 5)

    run(scenario)


@pytest.mark.parametrize(("others", "reason"), [(0, "hung-up"), (1, "lost")])
def test_when_the_time_to_drain_is_over_calls_are_ended_or_left_to_another_gateway(run, others, reason):
    async def scenario(cell):
        cell.bridge.answer = WorkerState(0, True, 0, 0, others)
        await cell.until(lambda: cell.gateway.cell.another_gateway_takes_calls(monotonic_ns()) == bool(others))
        async with cell.call() as (socket, started):
            await cell.gateway.drain(0)
            await cell.gateway.close()
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, reason)
            await asyncio.wait_for(socket.wait_closed(), 5)

    run(scenario)


def test_a_draining_gateway_leaves_the_port_to_another_one_for_as_long_as_there_is_one(run):
    async def scenario(cell):
        async def reaches() -> str:
            try:
                return await cell.twilio.voice("CAnew")
            except ConnectionRefusedError:
                return "refused"

        async with asyncio.timeout(10), cell.call():
            proxy, kept = await asyncio.open_connection("127.0.0.1", cell.twilio.port)
            kept.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" in await proxy.readline()
            cell.bridge.answer = WorkerState(0, True, 0, 0, 1)
            await cell.until(lambda: cell.gateway.cell.another_gateway_takes_calls(monotonic_ns()))
            draining = asyncio.create_task(cell.gateway.drain(20))
            await cell.until(lambda: cell.gateway.media.draining)
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


def test_calls_that_nobody_serves_get_the_fallback(run, monkeypatch):
    monkeypatch.setattr("gateway.core.cell.SILENT_NS", 300_000_000)
    monkeypatch.setattr("gateway.media._SWEEP_S", 0.05)

    async def scenario(cell):
        async with cell.call("CAalone") as (socket, started):
            cell.bridge.answer = None
            await cell.until(lambda: not cell.gateway.cell.worker_is_there(0, monotonic_ns()))
            assert started.call in cell.gateway.media.calls
            assert await _closed_with(socket) == 1000
        assert "<Say>" in await cell.twilio.voice("CAalone", resume=True)

    run(scenario, model_reconnect_seconds=1)


async def _closed_with(socket: Any) -> int:
    await asyncio.wait_for(socket.wait_closed(), 5)
    code: int = socket.close_code
    return code


def test_no_token_no_call(run):
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
                    assert await _closed_with(stranger) == 1008
                assert refused[reason].value == 1
            assert cell.bridge.inbox.empty()
            cell.twilio.account_sid = "AC" + "9" * 32
            async with cell.twilio.socket() as stranger:
                await stranger.send(CONNECTED)
                await stranger.send(cell.twilio.start_text("CAfirst", used))
                assert await _closed_with(stranger) == 1008
            assert refused["forged"].value == 2

    run(scenario)


def test_a_socket_without_start_is_closed(run, monkeypatch):
    monkeypatch.setattr("gateway.media.START_S", 0.05)

    async def scenario(cell):
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            assert await _closed_with(socket) == 1008
        assert cell.gateway.metrics.starts_refused["timeout"].value == 1

    run(scenario)


def test_sockets_without_start_are_bounded(run):
    async def scenario(cell):
        async with cell.twilio.socket():
            with pytest.raises(InvalidStatus) as caught:
                async with cell.twilio.socket():
                    pass
            assert caught.value.response.status_code == 503

    run(scenario, max_calls=1)


@pytest.mark.parametrize(
    ("message", "code", "kind"),
    [
        ('{"event":"media","streamSid":"MZ2","media":{"payload":""}}', 1008, Kind.WRONG_STREAM),
        ("x" * 70_000, 1009, Kind.OVERSIZED),
        (INVALID_UTF8, 1007, Kind.INVALID_UTF8),
        (UNMASKED, 1002, Kind.FRAMING),
    ],
)
def test_a_meaningless_call_alone_is_ended(run, message, code, kind):
    async def scenario(cell):
        async with cell.call("CAother") as (_, other):
            async with cell.call("CAbad") as (socket, started):
                if isinstance(message, str):
                    await socket.send(message)
                else:
                    socket.transport.write(message)
                assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "lost")
                assert await _closed_with(socket) == code
            assert list(cell.gateway.media.calls) == [other.call]
        assert cell.gateway.metrics.violations[kind].value == 1

    run(scenario)


@pytest.mark.parametrize(("data", "kind"), [(INVALID_UTF8, Kind.INVALID_UTF8), (UNMASKED, Kind.FRAMING)])
def test_what_is_no_websocket_message_is_counted_before_start_too(run, data, kind):
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
)
def test_a_call_whose_peer_neither_closes_nor_reads_is_over_at_once(run, monkeypatch, data):
    monkeypatch.setattr("gateway.port.CLOSE_S", 0.2)

    async def scenario(cell):
        async with cell.call() as (socket, started):
            call = cell.gateway.media.calls[started.call]
            socket.transport.pause_reading()
            socket.transport.write(data)
            async with asyncio.timeout(0.5):
                assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "lost")
                await call.connection.wait_closed()
            socket.transport.abort()

    run(scenario)


def test_nonsense_is_counted_and_the_call_goes_on(run):
    async def scenario(cell):
        async with cell.call() as (socket, _):
            for nonsense in ("{", b"\x00\x01", "[" * 60_000, '{"event":"weather"}', CONNECTED):
                await socket.send(nonsense)
            await socket.send(cell.twilio.media_text(b"\x05" * 160))
            assert await cell.caller_audio(160) == b"\x05" * 160
        counted = {kind.value: c.value for kind, c in cell.gateway.metrics.violations.items() if c.value}
        assert counted == {"malformed": 2, "binary": 1, "unknown_event": 1, "wrong_order": 1}

    run(scenario)


def test_a_call_goes_to_the_worker_that_dialled_ahead_and_to_another_when_it_is_gone(run):
    async def scenario(cell):
        cell.bridges[0].answer = WorkerState(0, True, 5)
        await cell.until(lambda: cell.gateway.metrics.workers_ready.value == 2)
        cell.bridges[0].send(WorkerState(0, True, 5))
        await cell.until(lambda: cell.gateway.cell.pick(monotonic_ns()) == 1)
        parameters = await cell.twilio.parameters("CA1")
        await cell.bridges[1].next(CallOffered)
        cell.bridges[1].answer = None
        gone_ns = monotonic_ns() + SILENT_NS
        cell.bridges[1].link.close()
        await cell.until(lambda: not cell.gateway.cell.worker_is_there(1, monotonic_ns()))
        assert monotonic_ns() < gone_ns + 1_000_000_000
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            await socket.send(cell.twilio.start_text("CA1", parameters))
            assert (await cell.bridges[0].next(CallStarted)).call_sid == "CA1"

    run(scenario, workers=2)


def test_what_a_caller_says_while_the_worker_is_gone_moves_on_with_the_call(run):
    async def scenario(cell):
        await cell.until(lambda: cell.gateway.metrics.workers_ready.value == 2)
        cell.bridges[1].answer = WorkerState(1, True, 5)
        await cell.until(lambda: cell.gateway.cell.pick(monotonic_ns()) == 0)
        cell.bridges[1].send(WorkerState(1, True, 5))
        async with cell.call("CAone") as (socket, started):
            cell.bridges[0].answer = None
            cell.bridges[0].link.close()
            (call,) = cell.gateway.media.calls.values()
            # Until ZeroMQ knows that it is gone, nothing is refused.
            await cell.until(lambda: not call.bridge.link.send(()))
            await socket.send(cell.twilio.media_text(b"\x05" * 160))
            again = await cell.bridges[1].next(CallStarted)
            assert (again.call, again.handover) == (started.call, 1)
            assert await cell.caller_audio(160, bridge=cell.bridges[1]) == b"\x05" * 160
            await socket.send(cell.twilio.media_text(b"\x06" * 160))
            assert await cell.caller_audio(160, bridge=cell.bridges[1]) == b"\x06" * 160

    run(scenario, workers=2)


def test_what_a_worker_that_stopped_has_not_read_moves_on_with_the_call(run):
    async def scenario(cell):
        await cell.until(lambda: cell.gateway.metrics.workers_ready.value == 2)
        cell.bridges[1].answer = WorkerState(1, True, 5)
        await cell.until(lambda: cell.gateway.cell.pick(monotonic_ns()) == 0)
        async with cell.call("CAone") as (socket, started):
            await socket.send(cell.twilio.media_text(b"\x04" * 160))
            assert await cell.caller_audio(160) == b"\x04" * 160
            (call,) = cell.gateway.media.calls.values()
            await cell.until(lambda: not any(call.number in batch for batch in call.bridge._sent))
            await cell.until(lambda: not call.bridge._unconfirmed)
            cell.bridges[0].answer = None
            said = [bytes([n]) * 160 for n in range(10)]
            for chunk in said:
                await socket.send(cell.twilio.media_text(chunk))
            # ZeroMQ has taken it all.
            assert await cell.caller_audio(1_600) == b"".join(said)
            await cell.until(lambda: call.worker == 1)
            again = await cell.bridges[1].next(CallStarted)
            assert (again.call, again.handover) == (started.call, 1)
            assert await cell.caller_audio(1_600, bridge=cell.bridges[1]) == b"".join(said)
            await socket.send(cell.twilio.media_text(b"\x20" * 160))
            assert await cell.caller_audio(160, bridge=cell.bridges[1]) == b"\x20" * 160

    run(scenario, workers=2)


def test_what_a_worker_that_died_has_not_read_is_told_to_the_one_that_comes_back(run):
    async def scenario(cell):
        async with cell.call("CAone") as (socket, started):
            cell.bridge.answer = None
            await socket.send(cell.twilio.media_text(b"\x05" * 160))
            assert await cell.caller_audio(160) == b"\x05" * 160
            cell.bridge.answer = WorkerState(0, True, 0, epoch=1)
            again = await cell.bridge.next(CallStarted)
            assert (again.call, again.handover) == (started.call, 1)
            assert await cell.caller_audio(160) == b"\x05" * 160
            await socket.send(cell.twilio.media_text(b"\x06" * 160))
            assert await cell.caller_audio(160) == b"\x06" * 160

    run(scenario)


def _from_another_gateway(cell, call_sid, plan):
    """The `<Parameter>`s of a call whose webhook another gateway of the cell answered."""
    packed = plans.pack(plan)
    tokens = Tokens(shared_key(AUTH_TOKEN))
    token, _ = tokens.mint(0, call_sid, cell.twilio.account_sid, monotonic_ns(), packed_plan=packed, resumed=True)
    return plans.parameters(token, packed)


def test_a_socket_brings_the_plan_that_another_gateway_made(run):
    async def scenario(cell):
        noted = []
        cell.gateway._courier.note = cell.gateway._chronicle._note = noted.append
        variables = {"name": "Zoë", "notes": "x" * 2_000}
        plan = CallPlan("inbound", cell.twilio.account_sid, "+15550001", "+15550002", "sales", variables)
        parameters = _from_another_gateway(cell, "CA1", plan)
        assert all(len(name) + len(value) <= 500 for name, value in parameters.items())
        for shown in (parameters | {"plan1": parameters["plan2"]}, {"token": parameters["token"]}):
            async with cell.twilio.socket() as socket:
                await socket.send(CONNECTED)
                await socket.send(cell.twilio.start_text("CA1", shown))
                assert await _closed_with(socket) == 1008
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


def test_a_gateway_that_meets_no_worker_is_not_the_end_of_a_call(run, monkeypatch):
    monkeypatch.setattr("gateway.__main__.MEET_S", 0.0)

    async def scenario(cell):
        cell.bridge.answer = None
        await cell.until(lambda: not cell.gateway.cell.worker_is_there(0, monotonic_ns()))
        # Another gateway of the cell, which knew the worker, had answered the webhook.
        parameters = _from_another_gateway(cell, "CA1", CallPlan())
        async with cell.twilio.socket() as socket:
            await socket.send(CONNECTED)
            await socket.send(cell.twilio.start_text("CA1", parameters))
            await socket.wait_closed()
        assert cell.gateway.metrics.starts_refused["no_worker"].value == 1
        cell.bridge.answer = WorkerState(0, True, 0)
        await cell.until(lambda: cell.gateway.cell.worker_is_ready(0, monotonic_ns()))
        assert "<Stream" in await cell.twilio.voice("CA1", resume=True)

    run(scenario)
