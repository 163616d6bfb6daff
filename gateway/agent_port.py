"""The port of HAProxy's agent check: one line for each connection, which is closed at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast


class _Answer(asyncio.Protocol):
    """Reads nothing: the line fits into the kernel's buffer, so no peer can make the gateway wait."""

    def __init__(self, line: Callable[[], str]) -> None:
        self._line = line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        writer = cast(asyncio.WriteTransport, transport)
        writer.write(self._line().encode() + b"\n")
        writer.close()


class AgentPort:
    """Owns `listener`. All gateways of the cell may listen on one port: each answers for the whole cell."""

    def __init__(self, listener: socket.socket, line: Callable[[], str]) -> None:
        self._listener = listener
        self._line = line
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Answer(self._line), sock=self._listener)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._listener.close()
