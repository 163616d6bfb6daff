"""A child that is the client of one MCP server. It ends when the server does, and toolbox starts it again."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
import msgspec
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, CallToolResult, TextContent
from mcp_types import Tool as ServerTool

from ..config import McpServer
from ..pipe import CannotStart, Offer, RunTool, Setup, frame
from .limits import limit_memory
from .serving import Outcome, Serving

# How often the server is asked for its tools: they may change, and a server that does not answer is dead.
LOOK_S: Final = 10.0
LOOK_TIMEOUT_S: Final = 5.0
# For a connection; a call has its own deadline.
CONNECT_S: Final = 10.0
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")


class GoneError(Exception):
    """The server has ended, or does not answer."""


class Server:
    def __init__(self, client: Client, server: McpServer) -> None:
        self._client = client
        self._server = server
        # By the name that the model knows: the server's own.
        self._names: dict[str, str] = {}
        self.gone = asyncio.Event()

    async def offers(self) -> tuple[Offer, ...]:
        """Its tools, as far as they are wanted. Raises GoneError."""
        tools: list[ServerTool] = []
        cursor = None
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                while True:
                    page = await self._client.list_tools(cursor=cursor, cache_mode="refresh")
                    tools += page.tools
                    cursor = page.next_cursor
                    if not cursor:
                        break
        except (MCPError, TimeoutError, httpx2.HTTPError, OSError) as exc:
            raise GoneError(str(exc) or type(exc).__name__) from None
        server = self._server
        offers = {}
        for tool in tools:
            if server.only and tool.name not in server.only:
                continue
            name = _NOT_IN_A_NAME.sub("_", f"{server.name}_{tool.name}")[:64]
            self._names[name] = tool.name
            read_only = tool.annotations is not None and tool.annotations.read_only_hint is True
            offers[name] = Offer(
                name,
                tool.description or tool.title or tool.name,
                json.dumps(tool.input_schema),
                server.deadline_s,
                server.concurrency,
                not read_only if server.side_effect is None else server.side_effect,
                server.on_interruption,
                server.cancellable,
            )
        return tuple(offers.values())

    async def run(self, run: RunTool) -> tuple[Outcome, str]:
        try:
            arguments = json.loads(run.arguments or "{}")
        except ValueError:
            return "refused", "The arguments are not JSON."
        if not isinstance(arguments, dict):
            return "refused", "The arguments are not a JSON object."
        try:
            result = await self._client.call_tool(self._names[run.tool], arguments)
        except MCPError as exc:
            if exc.error.code == CONNECTION_CLOSED:
                self.gone.set()
                # The process ends before it answers, so the call is told apart from one that the server refused.
                await asyncio.Event().wait()
            return "failed", exc.error.message
        return ("failed" if result.is_error else "done"), text_of(result)


def text_of(result: CallToolResult) -> str:
    """The text of an answer. Pictures and sound are left out: the model hears the answer as text."""
    texts = [part.text for part in result.content if isinstance(part, TextContent)]
    if texts or result.structured_content is None:
        return "\n".join(texts)
    return json.dumps(result.structured_content)


@asynccontextmanager
async def connected(server: McpServer) -> AsyncIterator[Client]:
    if server.command:
        command, *arguments = server.command
        where = server.directory or None
        parameters = StdioServerParameters(command=command, args=arguments, env=server.env, cwd=where)
        async with Client(parameters) as client:
            yield client
        return
    timeout = httpx2.Timeout(CONNECT_S, read=None)
    async with (
        httpx2.AsyncClient(headers=server.headers, timeout=timeout) as http,
        Client(streamable_http_client(server.url, http_client=http)) as client,
    ):
        yield client


async def _serve(sock: socket.socket, setup: Setup) -> None:
    config = msgspec.json.decode(setup.config, type=McpServer)
    async with connected(config) as client:
        # Not before: a server that was started would inherit it, and Node.js maps more than it uses.
        limit_memory(setup.memory_mb)
        server = Server(client, config)
        serving = Serving(sock, server.run)
        offers = await server.offers()
        await serving.offer(offers)
        reading = asyncio.create_task(serving.serve())
        gone = asyncio.create_task(server.gone.wait())
        try:
            while True:
                done, _ = await asyncio.wait((reading, gone), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if reading in done:
                    return
                if gone in done:
                    raise GoneError("it ended")
                known, offers = offers, await server.offers()
                if offers != known:
                    await serving.offer(offers)
        finally:
            reading.cancel()
            gone.cancel()


def _first(exc: BaseException) -> BaseException:
    """The first exception of a group."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def main(sock: socket.socket, setup: Setup) -> None:
    try:
        asyncio.run(_serve(sock, setup))
    except Exception as exc:
        first = _first(exc)
        # A URL may hold a key.
        reason = str(first) if isinstance(first, OSError | GoneError | MCPError) else ""
        sock.setblocking(True)
        sock.sendall(frame(CannotStart(f"{type(first).__name__} {reason}".strip()[:300])))
        sys.exit(1)
