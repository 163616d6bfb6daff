"""Whole text messages go past the library, everything else through it, however the bytes arrive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close, Frame, Opcode

from shared.websocket import DirectConnection

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class DirectServer(DirectConnection, ServerConnection):
    pass


class DirectClient(DirectConnection, ClientConnection):
    pass


class Heard(list[tuple[bytes, bool]]):
    """Takes messages until one says "end"."""

    def __call__(self, data: bytes, is_text: bool) -> str | None:
        self.append((data, is_text))
        return "ended" if data == b"end" else None


async def on_both_ends(
    client: Callable[[DirectClient], Awaitable[Any]],
    server: Callable[[DirectServer], Awaitable[Any]],
    *,
    close_timeout: float = 5.0,
) -> tuple[Any, Any]:
    """Run both, each with its end of one connection; what they return, or the exceptions they raise."""
    served: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def serve_one(connection: ServerConnection) -> None:
        assert isinstance(connection, DirectServer)
        served.set_result((await asyncio.gather(server(connection), return_exceptions=True))[0])

    options: dict[str, Any] = {"compression": None, "close_timeout": close_timeout}
    async with serve(serve_one, "127.0.0.1", 0, create_connection=DirectServer, max_size=4_096, **options) as s:
        port = next(iter(s.sockets)).getsockname()[1]
        connection = await connect(f"ws://127.0.0.1:{port}", create_connection=DirectClient, **options)
        assert isinstance(connection, DirectClient)
        async with connection:
            mine = (await asyncio.gather(client(connection), return_exceptions=True))[0]
        return mine, await served


@pytest.mark.parametrize("size", [0, 1, 125, 126, 4_000])
async def test_messages_of_any_length_arrive_in_order_both_ways(size: int) -> None:
    texts = [b"a" * size, "\u00fc".encode(), b"end"]

    async def send(connection: DirectConnection) -> Heard:
        heard = Heard()
        connection.send_now(texts[0])
        connection.send_all(texts[1:])
        assert await connection.receive_each(heard) == "ended"
        return heard

    assert await on_both_ends(send, send) == ([(text, True) for text in texts],) * 2


async def test_a_long_message_to_a_client_is_one_message() -> None:
    async def client(connection: DirectClient) -> Heard:
        heard = Heard()
        await connection.receive_each(heard)
        return heard

    async def server(connection: DirectServer) -> None:
        connection.send_all([b"x" * 100_000, b"end"])
        await connection.wait_closed()

    assert (await on_both_ends(client, server))[0] == [(b"x" * 100_000, True), (b"end", True)]


async def test_messages_arrive_whole_wherever_the_network_splits_them() -> None:
    rng = random.Random(3)
    texts = [bytes(rng.choices(b"abc", k=rng.choice((0, 5, 130, 3_000)))) for _ in range(200)]

    async def client(connection: DirectClient) -> None:
        stream = b"".join(Frame(Opcode.TEXT, text).serialize(mask=True) for text in [*texts, b"end"])
        while stream:
            n = rng.choice((1, 2, 3, 7, 400, 9_000))
            connection.transport.write(stream[:n])
            stream = stream[n:]
            await asyncio.sleep(0)
        await connection.wait_closed()

    async def server(connection: DirectServer) -> Heard:
        heard = Heard()
        await connection.receive_each(heard)
        return heard

    assert [data for data, _ in (await on_both_ends(client, server))[1]] == [*texts, b"end"]


async def test_empty_fragments_without_end_cost_nothing() -> None:
    async def client(connection: DirectClient) -> None:
        connection.transport.write(Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True))
        # A ping may come between the fragments of a message.
        connection.transport.write(Frame(Opcode.PING, b"").serialize(mask=True))
        connection.transport.write(Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * 10_000)
        connection.transport.write(Frame(Opcode.CONT, b"end").serialize(mask=True))
        await connection.wait_closed()

    async def server(connection: DirectServer) -> tuple[Heard, int]:
        heard = Heard()
        most = 0
        feed = connection.data_received

        def watch(data: bytes) -> None:
            nonlocal most
            feed(data)
            most = max(most, len(connection._fragments or ()))

        connection.data_received = watch  # type: ignore[method-assign]
        await connection.receive_each(heard)
        return heard, most

    assert (await on_both_ends(client, server))[1] == ([(b"end", True)], 0)


async def test_fragments_pings_and_binary_messages_go_through_the_library() -> None:
    async def client(connection: DirectClient) -> None:
        await connection.send(["in ", "three ", "parts"])
        await (await connection.ping())
        await connection.send(b"\0\1")
        connection.send_now(b"end")
        await connection.wait_closed()

    async def server(connection: DirectServer) -> Heard:
        heard = Heard()
        await connection.receive_each(heard)
        return heard

    heard = (await on_both_ends(client, server))[1]
    assert heard == [(b"in three parts", True), (b"\0\1", False), (b"end", True)]


async def test_messages_that_came_before_the_receiver_are_not_lost() -> None:
    async def client(connection: DirectClient) -> None:
        connection.send_all([b"first", b"second", b"third", b"end"])
        await connection.wait_closed()

    async def server(connection: DirectServer) -> tuple[object, Heard]:
        first = await connection.recv()
        heard = Heard()
        await connection.receive_each(heard)
        return first, heard

    first, heard = (await on_both_ends(client, server))[1]
    assert first == "first"
    assert [data for data, _ in heard] == [b"second", b"third", b"end"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=True), 1007),
        (Frame(Opcode.TEXT, b"x" * 5_000).serialize(mask=True), 1009),
        (Frame(Opcode.TEXT, b"not masked").serialize(mask=False), 1002),
        (Frame(Opcode.CONT, b"of nothing").serialize(mask=True), 1002),
        (b"\xc1\x80\0\0\0\0", 1002),
    ],
    ids=["invalid UTF-8", "too long", "not masked", "continues nothing", "reserved bit"],
)
async def test_a_protocol_error_gets_the_same_close_code_as_from_the_library(data: bytes, code: int) -> None:
    async def client(connection: DirectClient) -> None:
        connection.send_now(b"good")
        connection.transport.write(data)
        await connection.wait_closed()

    async def server(connection: DirectServer) -> Heard:
        heard = Heard()
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.receive_each(heard)
        assert caught.value.sent is not None
        assert caught.value.sent.code == code
        return heard

    assert (await on_both_ends(client, server))[1] == [(b"good", True)]


CLOSING = [
    (Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=True), 1007),
    (Frame(Opcode.TEXT, b"x" * 5_000).serialize(mask=True), 1009),
    (Frame(Opcode.TEXT, b"not masked").serialize(mask=False), 1002),
    (Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True), 1000),
    (b"", 0),  # the end of the stream, without a word
]


@pytest.mark.parametrize(
    ("data", "code"), CLOSING, ids=["invalid UTF-8", "too long", "not masked", "close", "end of the stream"]
)
async def test_receiving_ends_at_once_although_the_peer_keeps_the_connection_and_reads_nothing(
    data: bytes, code: int
) -> None:
    ended = asyncio.Event()

    async def client(connection: DirectClient) -> None:
        connection.transport.pause_reading()
        if data:
            connection.transport.write(data)
        else:
            connection.transport.write_eof()
        await ended.wait()
        connection.transport.abort()

    async def server(connection: DirectServer) -> None:
        # More than the kernel takes: it could not even say that it closes.
        connection.send_all([b"x" * 100_000] * 100)
        try:
            with pytest.raises(ConnectionClosed) as caught:
                await asyncio.wait_for(connection.receive_each(Heard()), 1)
            assert (caught.value.sent.code if caught.value.sent else 0) == code
            assert isinstance(caught.value, ConnectionClosedOK) == (code == 1000)
            await asyncio.wait_for(connection.wait_closed(), 1)
        finally:
            ended.set()

    assert (await on_both_ends(client, server, close_timeout=0.05))[1] is None


async def test_a_client_is_told_at_once_that_the_server_closes() -> None:
    ended = asyncio.Event()

    async def client(connection: DirectClient) -> int:
        try:
            with pytest.raises(ConnectionClosedOK) as caught:
                await asyncio.wait_for(connection.receive_each(Heard()), 1)
            await asyncio.wait_for(connection.wait_closed(), 1)
        finally:
            ended.set()
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code

    async def server(connection: DirectServer) -> None:
        connection.transport.pause_reading()
        connection.protocol.send_close(1001)
        connection.send_data()
        await ended.wait()
        connection.transport.abort()

    assert (await on_both_ends(client, server, close_timeout=0.05))[0] == 1001


async def test_receiving_ends_with_the_connection_or_with_the_receivers_own_error() -> None:
    async def client(connection: DirectClient) -> None:
        connection.send_now(b"boom")
        await connection.close()

    def explode(_data: bytes, _is_text: bool) -> None:
        raise ZeroDivisionError

    async def fails(connection: DirectServer) -> None:
        await connection.receive_each(explode)

    async def waits(connection: DirectServer) -> None:
        await connection.receive_each(Heard())

    assert isinstance((await on_both_ends(client, fails))[1], ZeroDivisionError)
    assert isinstance((await on_both_ends(client, waits))[1], ConnectionClosedOK)
