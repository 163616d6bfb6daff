"""The one public port: uvicorn answers HTTP, and hands WebSocket handshakes to the websockets library.

uvicorn's `ws=` takes any callable that returns an asyncio protocol, and websockets' ServerConnection is one. The media
sockets are therefore websockets' own connections, without ASGI in between: they can be refused before the handshake,
and a frame out and one in take 27 us instead of 48 us.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp
from websockets.asyncio.server import Server, ServerConnection
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from shared.gather import Gather
from shared.liveness import CLOSE_S, PING_S
from shared.process import ConfigError
from shared.settings import Settings

from .connections import HalfOpen, HttpConnection, MediaConnection
from .core.media_streams import MAX_MESSAGE_BYTES, Violation
from .core.metrics import Metrics

# Request line and headers. Twilio's are about 1 kB.
MAX_HEADER_BYTES: Final = 16_384
BACKLOG: Final = 1_024
# Connections that are taken from the kernel when the port closes: a flood may not hold up the frames meanwhile.
WAITING_MAX: Final = 128

# A failed handshake is the peer's mistake: it is counted where it is refused, and never a traceback in our log.
_websockets_logger = logging.getLogger("gateway.websockets")
_websockets_logger.setLevel(logging.CRITICAL)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `__main__`."""
        yield


def listen(host: str, port: int, *, shared: bool = False, setting: str = "GATEWAY_PORT") -> socket.socket:
    """The listening socket. With `shared`, the kernel spreads connections over all gateways of the cell.

    Raises ConfigError when the port, the one of `setting`, cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=shared)
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc
        also = " (and PUBLIC_URL)" if setting == "GATEWAY_PORT" else ""
        raise ConfigError(
            f"cannot listen on {host} port {port} ({reason}); stop what uses it, or set {setting}{also} to another one"
        ) from None


def is_loopback(origin: str) -> bool:
    host = urlsplit(origin).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen_host(settings: Settings) -> str:
    """GATEWAY_HOST; loopback when it was not set and nothing that comes in would be checked."""
    if settings.allow_unsigned == "on" and "gateway_host" not in settings.given:
        return "127.0.0.1"
    return settings.gateway_host


def is_private(settings: Settings) -> bool:
    """Whether only this machine can reach the port: not even a proxy on it, which would have an origin of its own."""
    return is_loopback(f"http://{listen_host(settings)}") and is_loopback(settings.origin)


class PublicPort:
    """Serves `app` over HTTP and `serve_media` over WebSockets on one listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        app: ASGIApp,
        *,
        check_media: Callable[[ServerConnection, Request], Response | None],
        serve_media: Callable[[MediaConnection], Awaitable[None]],
        metrics: Metrics,
        gather: Gather | None = None,
    ) -> None:
        self._listener = listener
        self._address = listener.getsockname()[:2]
        self._is_listening = True
        self._metrics = metrics
        self._gather = gather
        self._half_open = HalfOpen(metrics.half_open_ended)

        async def serve(connection: ServerConnection) -> None:
            assert isinstance(connection, MediaConnection)  # `_media_connection` makes no other
            await serve_media(connection)

        self._sockets = Server(serve, process_request=check_media, server_header=None, logger=_websockets_logger)
        config = uvicorn.Config(
            app,
            http=type("_HttpConnection", (HttpConnection,), {"half_open": self._half_open}),
            ws=self._media_connection,  # type: ignore[arg-type]  # annotated as a class, used as a callable
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = _Uvicorn(config)
        self._serving: asyncio.Task[None] | None = None
        # Connections of `_accept_waiting` that are being set up.
        self._accepted: set[asyncio.Task[Any]] = set()

    def _media_connection(self, **_: Any) -> MediaConnection:
        """uvicorn calls this for a request with `Upgrade: websocket`, and replays the request into the result."""
        protocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES, logger=_websockets_logger)
        connection = MediaConnection(
            protocol,
            self._sockets,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            close_timeout=CLOSE_S,
            on_flood=self._metrics.violations[Violation.FLOOD].inc,
        )
        connection.gather = self._gather
        return connection

    async def start(self) -> None:
        """Return when the port answers requests."""
        self._serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._listener]))
        while not self._uvicorn.started:
            await asyncio.sleep(0.001)
            if self._serving.done():
                await self._serving
                raise RuntimeError("uvicorn ended at its start")
        self._sockets.wrap(self._uvicorn.servers[0])

    def stop_listening(self) -> None:
        """Leave new connections to the other gateways of the cell.

        Open connections stay, except a proxy's idle ones. Call this again while draining: each answered request leaves
        another idle connection.
        """
        if self._is_listening:
            self._is_listening = False
            self._accept_waiting()
            self._uvicorn.servers[0].close()
        for connection in list(self._uvicorn.server_state.connections):
            if connection.cycle is not None:  # type: ignore[union-attr]  # all are HttpConnections
                connection.shutdown()

    def _accept_waiting(self) -> None:
        """Take the connections that wait in the kernel: it would reset them with the listening socket."""
        loop = asyncio.get_running_loop()
        for _ in range(WAITING_MAX):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # none is left
                return
            connection.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._http_connection, connection))
            self._accepted.add(task)
            task.add_done_callback(self._accepted.discard)

    def _http_connection(self) -> asyncio.Protocol:
        """What uvicorn makes for a connection that it accepts."""
        protocol: asyncio.Protocol = self._uvicorn.config.http_protocol_class(  # type: ignore[call-arg]
            config=self._uvicorn.config, server_state=self._uvicorn.server_state, app_state={}
        )
        return protocol

    async def listen_again(self) -> None:
        """No other gateway is left: accept new connections again."""
        if self._is_listening:
            return
        try:
            self._listener = listen(*self._address, shared=True)
        except ConfigError:
            return  # another process took the port
        await self._uvicorn.startup(sockets=[self._listener])
        self._sockets.wrap(self._uvicorn.servers[0])
        self._is_listening = True

    async def close(self, *, at_once: bool = False) -> None:
        """Close the port and every open socket (1001, going away); `at_once`: without waiting for the peers."""
        if self._serving is None:
            self._listener.close()
            return
        self._sockets.close()
        if at_once:
            for connection in self._sockets.handlers:
                connection.transport.abort()
            self._uvicorn.force_exit = True
        await self._sockets.wait_closed()
        self._uvicorn.should_exit = True
        await self._serving
