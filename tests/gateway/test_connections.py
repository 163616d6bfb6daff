"""Slow, silent and flooding peers at the real port: each is cut alone, and counted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from gateway import connections
from gateway.core.media_streams import Violation
from gateway.core.stalls import UNREAD_NS
from shared.messages import CallEnded

FRAME = bytes(range(160))


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def is_cut(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"GET /twilio/media HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n",
        b"POST /twilio/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nCallSi",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /heal",  # the second request of a connection
    ],
)
def test_a_request_that_never_ends_is_cut(run, monkeypatch, beginning):
    monkeypatch.setattr(connections, "REQUEST_S", 0.1)

    async def scenario(cell):
        reader, writer = await opened(cell.twilio.port)
        writer.write(beginning)
        if beginning.endswith(b"GET /heal"):
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
        assert await is_cut(reader) or beginning.startswith(b"POST")
        await cell.until(lambda: cell.gateway.metrics.half_open_ended.value == 1)
        writer.close()

    run(scenario)


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "requests",
    [
        HEALTH * 1_000,  # more than the buffers hold: the answer that does not fit waits for room
        HEALTH * 250,
        HEALTH * 250 + HEALTH.replace(b"Host", b"Connection: close\r\nHost"),
        HEALTH * 250 + b"no request\r\n\r\n",
    ],
)
def test_a_peer_that_requests_and_never_reads_is_cut(run, monkeypatch, requests):
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)

    async def scenario(cell):
        loop = asyncio.get_running_loop()
        cell.gateway._port._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            peer.setblocking(False)
            await loop.sock_connect(peer, ("127.0.0.1", cell.twilio.port))
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(loop.sock_sendall(peer, requests), 5)
            await cell.until(lambda: cell.gateway.metrics.half_open_ended.value == 1)
        assert (await cell.twilio.request("GET", "/healthz"))[0] == 200
        await cell.until(lambda: not cell.gateway._port._half_open)

    run(scenario)


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_peer_that_reads_may_send_any_number_of_requests(run, monkeypatch, size):
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)

    async def scenario(cell):
        reader, writer = await opened(cell.twilio.port)
        ends = asyncio.get_running_loop().time() + 0.5
        while asyncio.get_running_loop().time() < ends:
            writer.write(HEALTH * (1 + size // 150))
            for _ in range(1 + size // 150):
                await reader.readuntil(b"ok\n")
        writer.close()
        assert cell.gateway.metrics.half_open_ended.value == 0

    run(scenario)


def test_too_many_half_open_connections_cut_the_oldest_and_never_a_webhook(run, monkeypatch):
    monkeypatch.setattr(connections, "HALF_OPEN_MAX", 20)

    async def scenario(cell):
        slow = [await opened(cell.twilio.port) for _ in range(60)]
        for _, writer in slow:
            writer.write(b"GET / HTTP/1.1\r\n")
        assert await cell.twilio.parameters("CAone")
        assert await is_cut(slow[0][0])
        assert cell.gateway.metrics.half_open_ended.value >= 40
        for _, writer in slow:
            writer.close()

    run(scenario)


def test_headers_beyond_16_kib_are_refused(run):
    async def scenario(cell):
        reader, writer = await opened(cell.twilio.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 20_000)
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400")
        writer.close()
        assert (await cell.twilio.request("GET", "/healthz"))[0] == 200

    run(scenario)


@pytest.mark.parametrize("kind", ["message", "ping", "fragment"])
def test_a_flood_ends_only_its_own_call(run, kind):
    async def scenario(cell):
        async with cell.call() as (quiet, _), cell.call() as (loud, started):
            with contextlib.suppress(ConnectionClosed, ConnectionResetError):
                for n in range(4_000):
                    if kind == "message":
                        await loud.send('{"event":"soon"}')
                    elif kind == "ping":
                        await loud.ping()
                    else:
                        loud.protocol.send_text(b"", fin=False) if n == 0 else loud.protocol.send_continuation(
                            b"", fin=False
                        )
                        loud.send_data()
            while not isinstance(ended := await asyncio.wait_for(cell.bridge.inbox.get(), 5), CallEnded):
                pass
            assert ended == CallEnded(started.call, "lost")
            assert cell.gateway.metrics.violations[Violation.FLOOD].value == 1
            await quiet.send(cell.twilio.media_text(FRAME))
            assert await cell.caller_audio(160) == FRAME

    run(scenario)


def test_audio_faster_than_real_time_ends_its_call(run):
    async def scenario(cell):
        async with cell.call() as (loud, started):
            with contextlib.suppress(ConnectionClosed):
                for _ in range(10):
                    await loud.send(cell.twilio.media_text(bytes(40_000)))
            while not isinstance(ended := await asyncio.wait_for(cell.bridge.inbox.get(), 5), CallEnded):
                pass
            assert ended == CallEnded(started.call, "lost")
            assert cell.gateway.metrics.violations[Violation.FLOOD].value == 1

    run(scenario)


def test_a_silent_media_socket_is_given_up(run, monkeypatch):
    monkeypatch.setattr("gateway.core.calls.IDLE_NS", 200_000_000)
    monkeypatch.setattr("gateway.gateway.SWEEP_S", 0.05)

    async def scenario(cell):
        async with cell.call() as (_, started):
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "lost")
            assert cell.gateway.metrics.calls_cut["idle"].value == 1

    run(scenario)


def test_a_media_socket_that_is_not_read_has_a_bounded_buffer_and_is_given_up(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.core.stalls.UNREAD_NS", 500_000_000)
    monkeypatch.setattr("gateway.gateway.SWEEP_S", 0.05)

    async def scenario(cell: Any) -> None:
        async with cell.call() as (quiet, other), cell.call() as (deaf, started):
            deaf.transport.pause_reading()
            deaf.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection = cell.gateway.media.sockets[started.call].connection
            seq = 0
            async with asyncio.timeout(15):
                while started.call in cell.gateway.calls.by_number:
                    entries = ((started.call, seq, FRAME * 10, 0), (other.call, seq, FRAME, 0))
                    cell.frames(monotonic_ns(), *entries)
                    await asyncio.wait_for(quiet.recv(), 1)
                    seq += 10
                    await asyncio.sleep(0.002)
            assert cell.gateway.metrics.calls_cut["unread"].value == 1
            assert connection.transport.is_closing()
            deaf.transport.abort()

    run(scenario)


def test_a_media_socket_that_is_read_during_silence_is_not_given_up(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.gateway.SWEEP_S", 0.01)

    async def scenario(cell: Any) -> None:
        async with cell.call() as (_, started):
            frames = cell.gateway.calls.by_number[started.call].frames
            # As after a hiccup that ended with the last frame of an utterance.
            frames.stuck_since_ns = monotonic_ns() - 2 * UNREAD_NS
            await cell.until(lambda: frames.stuck_since_ns == 0)
            assert started.call in cell.gateway.calls.by_number

    run(scenario)
