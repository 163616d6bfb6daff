"""What shared/websocket.py uses of websockets beyond its documentation: an update that breaks one fails here."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Event

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Watched(ServerConnection):
    """Notes the frames that the library processes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.frames: list[Frame] = []
        self.has_frame = asyncio.Event()

    def process_event(self, event: Event) -> None:
        super().process_event(event)
        if isinstance(event, Frame):
            self.frames.append(event)
            self.has_frame.set()


def parameters(method: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(method).parameters)


# What it is, why it is needed, and whether it is as expected on an open connection that has received "waiting".
INTERNALS: Final[dict[str, tuple[str, Callable[[Watched], bool]]]] = {
    "Connection is an asyncio.Protocol": (
        "data_received, eof_received and connection_lost are overridden to read frames before the library does",
        lambda c: isinstance(c, asyncio.Protocol) and parameters(Connection.data_received) == ["self", "data"],
    ),
    "Connection.process_event(event)": (
        "overridden to put fragments together; called once for each frame, with Frame(opcode, data, fin)",
        lambda c: [(f.opcode, f.data, f.fin) for f in c.frames] == [(Opcode.TEXT, b"waiting", True)],
    ),
    "Connection.recv_messages.frames": (
        "its length says whether `recv` would return at once",
        lambda c: len(c.recv_messages.frames) == 1,
    ),
    "Connection.drain_waiters, recv_messages.frames.queue": (
        "replaced by lists to save memory",
        lambda c: not c.drain_waiters and len(c.recv_messages.frames.queue) == 1,
    ),
    "fewer than 30 attributes": (
        "with its own in slots, an object does not need a dictionary of its own",
        lambda c: len(vars(c)) < 30,
    ),
    "Connection.transport": ("frames are written to it directly", lambda c: isinstance(c.transport, asyncio.Transport)),
    "Connection.send_data()": (
        "sends the close frame that `protocol.fail` made",
        lambda c: parameters(c.send_data) == [],
    ),
    "Connection.request.headers": (
        "cleared after the handshake to save memory",
        lambda c: c.request is not None and callable(c.request.headers.clear),
    ),
    "Connection.protocol, protocol.state": ("nothing is sent unless it is OPEN", lambda c: c.protocol.state is OPEN),
    "protocol.side": ("a client masks what it sends", lambda c: c.protocol.side is SERVER),
    "protocol.max_size": (
        "a longer message goes to the library, which refuses it",
        lambda c: c.protocol.max_size == 77,
    ),
    "protocol.parser_exc": ("set when the peer broke the protocol", lambda c: c.protocol.parser_exc is None),
    "protocol.close_rcvd, close_sent, close_rcvd_then_sent": (
        "the exception names them before the closing handshake is complete",
        lambda c: c.protocol.close_rcvd is c.protocol.close_sent is c.protocol.close_rcvd_then_sent is None,
    ),
    "protocol.fail(code, reason)": (
        "a message that is not UTF-8 is answered with 1007",
        lambda c: parameters(c.protocol.fail) == ["code", "reason"],
    ),
}


@pytest.mark.parametrize("name", INTERNALS)
async def test_websockets_still_has_the_internal_that_shared_websocket_uses(name: str) -> None:
    reason, is_as_expected = INTERNALS[name]
    found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def look(connection: ServerConnection) -> None:
        assert isinstance(connection, Watched)
        await connection.has_frame.wait()
        found.set_result(is_as_expected(connection))

    async with (
        serve(look, "127.0.0.1", 0, create_connection=Watched, compression=None, max_size=77) as server,
        connect(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", compression=None) as client,
    ):
        await client.send("waiting")
        assert await found, f"{name} changed; shared/websocket.py relies on it: {reason}"


def test_apply_mask_masks_with_a_key_of_four_bytes() -> None:
    from shared.websocket import apply_mask

    assert apply_mask(b"\x01\x02\x03\x04\x05", b"\x01\x01\x01\x01") == b"\x00\x03\x02\x05\x04"


def test_client_and_server_connections_derive_from_the_connection_that_is_mixed_in() -> None:
    assert issubclass(ClientConnection, Connection)
    assert issubclass(ServerConnection, Connection)
