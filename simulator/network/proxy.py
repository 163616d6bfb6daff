"""A TCP proxy that stalls: it reads at once and hands on late, as every TLS proxy in front of a slow path does.

`python -m simulator.network.proxy --port 9001 --to 127.0.0.1:8080 --stall 400 --stall-every 8000` delays and stalls
both directions of each connection; `--direction` limits that to one. It needs no privileges. Bytes are never lost or
reordered: a loss on the far side of a proxy looks like a stall to whoever reads.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import signal
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

import uvloop

from shared.isolation import exact_timers

from .path import Path, PathBehaviour

Direction = Literal["both", "to-caller", "from-caller"]
_CHUNK_BYTES: Final = 65_536


class _Side(asyncio.Protocol):
    """One connection's one end: what it reads goes to the other end when the path says so."""

    def __init__(self, path: Path | None) -> None:
        """`path` is that of what this end reads; None: no delay."""
        self._path = path
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._path is None:
            self._give(data)
            return
        # Nothing is lost here: what the path would lose comes with the next packet that it carries.
        at_ns = self._path.carry(time.monotonic_ns()) or time.monotonic_ns()
        self._waiting.append((at_ns, data))
        self._arm()

    def connect(self, other: _Side) -> None:
        """The other end is there."""
        self.other = other
        early, self._early = self._early, []
        for data in early:
            self._give(data)

    def _arm(self) -> None:
        if self._timer is None and self._waiting:
            wait_s = max(0, self._waiting[0][0] - time.monotonic_ns()) / 1e9
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._hand_on)

    def _hand_on(self) -> None:
        self._timer = None
        now_ns = time.monotonic_ns()
        while self._waiting and self._waiting[0][0] <= now_ns:
            self._give(self._waiting.popleft()[1])
        self._arm()

    def _give(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # What is under way still arrives; then the other end is closed.
        if self.other is not None and self.other.transport is not None:
            for _, data in self._waiting:
                self._give(data)
            self.other.transport.close()


class StallingProxy:
    """An asynchronous context manager: listens on `port` of loopback (0: any, which `port` then tells) for `to`."""

    def __init__(
        self,
        to: tuple[str, int],
        behaviour: PathBehaviour,
        *,
        port: int = 0,
        direction: Direction = "both",
        seed: int = 1,
    ) -> None:
        self._to = to
        self._behaviour = behaviour
        self.port = port
        self._direction = direction
        self._seeds = itertools.count(2 * seed, 2)
        self._began_ns = time.monotonic_ns()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> StallingProxy:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    def _path(self, towards: Direction, seed: int) -> Path | None:
        """All connections stall together, as those of one link do."""
        if self._direction not in ("both", towards):
            return None
        return Path(self._behaviour, seed=seed, began_ns=self._began_ns)

    def _accept(self) -> _Side:
        seed = next(self._seeds)
        caller = _Side(self._path("from-caller", seed))
        task = asyncio.get_running_loop().create_task(self._dial(caller, seed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return caller

    async def _dial(self, caller: _Side, seed: int) -> None:
        loop = asyncio.get_running_loop()
        server = _Side(self._path("to-caller", seed + 1))
        try:
            await loop.create_connection(lambda: server, *self._to)
        except OSError:
            if caller.transport is not None:
                caller.transport.close()
            return
        server.connect(caller)
        caller.connect(server)


async def _serve(proxy: StallingProxy) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with proxy:
        print(f"listening on 127.0.0.1:{proxy.port}", flush=True)
        await stop.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m simulator.network.proxy", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1 (default: any free port)")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="where each connection leads")
    parser.add_argument("--delay", type=float, default=0.0, metavar="MS", help="one way")
    parser.add_argument("--jitter", type=float, default=0.0, metavar="MS", help="up to this much more")
    parser.add_argument("--stall", type=float, default=0.0, metavar="MS", help="nothing passes for this long")
    parser.add_argument("--stall-every", type=float, default=0.0, metavar="MS", help="how often that happens")
    parser.add_argument("--direction", choices=("both", "to-caller", "from-caller"), default="both")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    host, _, port = options.to.rpartition(":")
    exact_timers()
    behaviour = PathBehaviour(options.delay, options.jitter, 0.0, 1, options.stall, options.stall_every)
    proxy = StallingProxy(
        (host, int(port)), behaviour, port=options.port, direction=options.direction, seed=options.seed
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(proxy))


if __name__ == "__main__":
    from shared.process import run

    run("network", main)
