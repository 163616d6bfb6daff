"""A TCP proxy that stalls: it reads at once and hands on late, as every TLS proxy in front of a slow path does.

`twentyms simulate network proxy --port 9001 --to 127.0.0.1:8080 --stall 400 --stall-every 8000` delays and stalls both
directions of each connection; `--direction` limits that to one. It prints one line of JSON (its address, and since when
it counts stalls), and works until Ctrl-C. It needs no privileges. Bytes are never lost or reordered: a loss on the far
side of a proxy looks like a stall to whoever reads.

With `--tls`, HAProxy stands on both sides of the stalls: the first speaks TLS, the second ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Final, Literal, cast

import uvloop

from shared.isolation import exact_timers, realtime
from shared.process import ConfigError, die_with_parent

from .options import PRIORITY, add_path_options, chosen_path, path_options
from .path import Path, PathBehaviour
from .tls import ends_tls, free_port, speaks_tls

Direction = Literal["both", "to-caller", "from-caller"]
_CHUNK_BYTES: Final = 65_536


class _Side(asyncio.Protocol):
    """One connection's one end: what it reads goes to the other end when the path says so."""

    def __init__(self, path: Path | None, lateness: Callable[[int], None]) -> None:
        """`path` is that of what this end reads; None: no delay. `lateness` is told how late each piece went on, ns."""
        self._path = path
        self._lateness = lateness
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

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
            at_ns, data = self._waiting.popleft()
            self._lateness(now_ns - at_ns)
            self._give(data)
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
        # The first stall comes one period later.
        self.began_ns = time.monotonic_ns()
        # This program's own lateness, at most.
        self.late_ns = 0
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
        return Path(self._behaviour, seed=seed, began_ns=self.began_ns)

    def _late(self, late_ns: int) -> None:
        self.late_ns = max(self.late_ns, late_ns)

    def _accept(self) -> _Side:
        seed = next(self._seeds)
        caller = _Side(self._path("from-caller", seed), self._late)
        task = asyncio.get_running_loop().create_task(self._dial(caller, seed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return caller

    async def _dial(self, caller: _Side, seed: int) -> None:
        loop = asyncio.get_running_loop()
        server = _Side(self._path("to-caller", seed + 1), self._late)
        try:
            await loop.create_connection(lambda: server, *self._to)
        except OSError:
            if caller.transport is not None:
                caller.transport.close()
            return
        server.connect(caller)
        caller.connect(server)


class ProxyProcess:
    """A StallingProxy in a process of its own, while a `with` block lasts. Its lateness is known at the end."""

    def __init__(self, to: tuple[str, int], behaviour: PathBehaviour, *, seed: int = 1, tls: bool = False) -> None:
        options = (*path_options(behaviour), "--seed", str(seed), *(("--tls",) if tls else ()))
        self._command = [sys.executable, "-m", __name__, "--to", f"{to[0]}:{to[1]}", *options]
        self.port = self.began_ns = 0
        self.late_ms = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ProxyProcess:
        """Raises ConfigError when it does not come up."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ConfigError("the proxy that stalls did not come up; its error stands above")
        ready = json.loads(line)
        self.port, self.began_ns = ready["port"], ready["began_ns"]
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            out, _err = self._process.communicate()
            if out:
                self.late_ms = json.loads(out)["late_ms"]


async def _serve(proxy: StallingProxy, front: tuple[str, int] | None) -> None:
    """`front`: the address that callers see, if it is not the proxy's own."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with proxy:
        host, port = front or ("127.0.0.1", proxy.port)
        print(json.dumps({"host": host, "port": port, "began_ns": proxy.began_ns}), flush=True)
        await stop.wait()
    print(json.dumps({"late_ms": proxy.late_ns / 1e6}), flush=True)


def main(arguments: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `parser` replaces this program's name and description.

    Raises ConfigError for a port that is in use, and for `--tls` without HAProxy.
    """
    parser = parser or argparse.ArgumentParser(prog="python -m simulator.network.proxy", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1 (default: any free port)")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="where each connection leads")
    add_path_options(parser)
    parser.add_argument("--direction", choices=("both", "to-caller", "from-caller"), default="both")
    parser.add_argument("--tls", action="store_true", help="carry the bytes in TLS over the path (needs HAProxy)")
    options = parser.parse_args(arguments)
    host, _, port = options.to.rpartition(":")
    if not port.isdigit():
        parser.error(f"--to {options.to} is not HOST:PORT")
    die_with_parent()
    exact_timers()
    realtime("auto", PRIORITY)
    to, listen = (host or "127.0.0.1", int(port)), options.port
    front: tuple[str, int] | None = None
    with contextlib.ExitStack() as up:
        if options.tls:
            directory = FilePath(up.enter_context(tempfile.TemporaryDirectory(prefix="tls-")))
            inner, between, front = (("127.0.0.1", free_port()) for _ in range(3))
            front = ("127.0.0.1", listen or front[1])
            up.enter_context(ends_tls(directory, inner, to))
            up.enter_context(speaks_tls(directory, front, between))
            to, listen = inner, between[1]
        proxy = StallingProxy(to, chosen_path(options), port=listen, direction=options.direction, seed=options.seed)
        try:
            uvloop.run(_serve(proxy, front))
        except OSError as exc:
            raise ConfigError(f"cannot listen on port {listen} of 127.0.0.1 ({exc}); choose another --port") from None


if __name__ == "__main__":
    from shared.process import run

    run("network", main)
