"""A child that runs many calls at the same time on one loop: our own code, for HTTP tools and MCP servers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

from ..core.answers import cut
from ..pipe import Ended, Frames, Offer, Offered, RunTool, StopTool, ToChild, frame

Outcome = Literal["done", "failed", "refused"]
RunCall: TypeAlias = Callable[[RunTool], Awaitable[tuple[Outcome, str]]]


class Serving:
    """Runs each call in a task of its own. `serve` returns when toolbox closes the socket."""

    def __init__(self, sock: socket.socket, run_call: RunCall) -> None:
        self._sock = sock
        self._run_call = run_call
        self._frames = Frames(ToChild)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        # Calls that toolbox asked to stop. One that is cancelled otherwise is lost with this process.
        self._stopped: set[int] = set()
        self._sending = asyncio.Lock()
        sock.setblocking(False)

    async def offer(self, tools: tuple[Offer, ...]) -> None:
        await self._send(Offered(tools))

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._sock, 65_536):
            for message in self._frames.feed(data):
                if isinstance(message, RunTool):
                    self._tasks[message.number] = asyncio.create_task(self._answer(message))
                elif isinstance(message, StopTool) and message.number in self._tasks:
                    self._stopped.add(message.number)
                    self._tasks[message.number].cancel()
        for task in self._tasks.values():
            task.cancel()

    async def _answer(self, run: RunTool) -> None:
        outcome: Outcome
        try:
            outcome, output = await self._run_call(run)
        except asyncio.CancelledError:
            if run.number not in self._stopped:
                raise
            outcome, output = "failed", ""
        except Exception as exc:
            outcome, output = "failed", f"The tool failed ({type(exc).__name__})."
        del self._tasks[run.number]
        self._stopped.discard(run.number)
        await self._send(Ended(run.number, outcome, cut(output).encode("utf-8", "replace").decode()))

    async def _send(self, message: Any) -> None:
        async with self._sending:
            await asyncio.get_running_loop().sock_sendall(self._sock, frame(message))
