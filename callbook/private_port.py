"""The private port: HTTP for the operator."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import BaseRoute

from shared.process import ConfigError
from shared.settings import Settings

from .api import refuse


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `__main__`."""
        yield


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises ConfigError when the port cannot be used."""
    host, port = settings.metrics_host, settings.metrics_port
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc
        raise ConfigError(
            f"cannot listen on {host} port {port} ({reason}); stop what uses it, or set METRICS_PORT to another one"
        ) from None


def _upgrade(**arguments: Any) -> asyncio.Protocol:
    """uvicorn's protocol for a WebSocket. Its library is loaded at the first one: most cells never have any."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**arguments)


class PrivatePort:
    """Serves `routes` on `listener` until it is closed."""

    def __init__(self, listener: socket.socket, routes: Sequence[BaseRoute], *, host: str) -> None:
        self._listener = listener
        middleware = []
        if _is_loopback(host):
            # A foreign page in this machine's browser must not read call records under a name of its own (DNS
            # rebinding).
            allowed = ["localhost", "127.0.0.1", "[::1]", host]
            middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=allowed))
        app = Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: refuse})
        # A redirect would be built from the request's Host.
        app.router.redirect_slashes = False
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                ws=_upgrade,  # type: ignore[arg-type]  # annotated as a class, used as a callable
                # Pages only listen, and browsers compress no mu-law.
                ws_max_size=1_024,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def close(self) -> None:
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
