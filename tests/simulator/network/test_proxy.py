"""A proxy that stalls: bytes pass whole, in order and late, in both directions."""

from __future__ import annotations

import asyncio
import time

from simulator.network.path import PathBehaviour
from simulator.network.proxy import StallingProxy
from tests.on_a_loop import on_a_loop


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@on_a_loop
async def test_bytes_pass_whole_and_in_order_after_the_delay_of_each_direction():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with StallingProxy(server.sockets[0].getsockname(), PathBehaviour(delay_ms=15, jitter_ms=5)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        sent_ns = time.monotonic_ns()
        pieces = [n.to_bytes(4, "big") * 500 for n in range(200)]
        for piece in pieces:
            writer.write(piece)
        whole = b"".join(pieces)
        assert await reader.readexactly(len(whole)) == whole
        assert time.monotonic_ns() - sent_ns >= 30_000_000
        writer.close()
        assert await reader.read() == b""
    server.close()


@on_a_loop
async def test_what_comes_in_a_stall_passes_at_its_end():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    behaviour = PathBehaviour(stall_ms=60, stall_every_ms=100)
    async with StallingProxy(server.sockets[0].getsockname(), behaviour, direction="from-caller") as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        stall_ns = proxy.began_ns + 100_000_000
        await asyncio.sleep((stall_ns + 5_000_000 - time.monotonic_ns()) / 1e9)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert time.monotonic_ns() >= stall_ns + 60_000_000
        writer.close()
        assert await reader.read() == b""
    server.close()


@on_a_loop
async def test_a_server_that_is_not_there_closes_the_callers_connection():
    async with StallingProxy(("127.0.0.1", 1), PathBehaviour()) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
