"""A Realtime session against a server that the test plays itself."""

from __future__ import annotations

import asyncio
from typing import Any

from openai import AsyncOpenAI
from websockets.asyncio.server import ServerConnection, serve

from aibridge.session import Session


def test_a_session_that_the_server_closes_is_over_even_if_its_socket_stays_open() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def close_halfway(connection: ServerConnection) -> None:
            connection.transport.pause_reading()
            connection.protocol.send_close(1001, "session expired")
            connection.send_data()
            await ended.wait()
            connection.transport.abort()

        nothing: Any = lambda *_: None  # noqa: E731
        async with serve(close_halfway, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with AsyncOpenAI(api_key="sk-test", base_url=f"http://127.0.0.1:{port}/v1") as client:
                session = Session(
                    client,
                    model="m",
                    config={"type": "realtime"},
                    request_id="CA1",
                    on_event=nothing,
                    on_malformed=nothing,
                )
                try:
                    # The closing handshake may take a second.
                    await asyncio.wait_for(session.run(), 0.5)
                finally:
                    ended.set()

    asyncio.run(scenario())
