"""The simulated Realtime model on a WebSocket: `python -m simulator.model.server --port 9000`.

`wss://api.openai.com/v1/realtime?model=...` becomes `ws://127.0.0.1:9000/v1/realtime?model=...`. A call is known by its
handshake header `X-Client-Request-Id`. `GET /simulator/sessions[?request_id=...]` tells what each session saw, said and
believes; `GET /healthz` says how many are open. `GET /simulator/harm?request_id=...&seconds=...` does not read a call's
sockets for this long, or cuts them (0), and says how many there were. `GET /simulator/peers` names the client's port of
each call's newest open session.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hmac
import http
import logging
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
import uvloop
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from shared.gather import Gather
from shared.websocket import DirectConnection

from ..voice import Voice
from .behaviour import Behaviour
from .session import ABNORMAL, ModelSession

# Records of ended sessions that are kept; the oldest go first.
KEPT_SESSIONS: Final = 1_000
# An append may hold 15 MiB of audio, 20 MiB in base64.
MAX_MESSAGE_BYTES: Final = 24 * 2**20
# Unread events of a client: ten minutes of audio in base64. Beyond this the socket is cut.
MAX_UNREAD_BYTES: Final = 8 * 2**20
REQUEST_ID_HEADER: Final = "X-Client-Request-Id"

# Handshakes that fail: HTTP status and OpenAI's error.
_REFUSALS: Final[dict[str, tuple[http.HTTPStatus, str, str, str]]] = {
    "key": (
        http.HTTPStatus.UNAUTHORIZED,
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    "model": (
        http.HTTPStatus.NOT_FOUND,
        "invalid_request_error",
        "model_not_found",
        "The model does not exist or you do not have access to it.",
    ),
    "rate_limit": (
        http.HTTPStatus.TOO_MANY_REQUESTS,
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached for requests.",
    ),
    "unavailable": (
        http.HTTPStatus.SERVICE_UNAVAILABLE,
        "server_error",
        "service_unavailable",
        "The server is overloaded or not ready yet.",
    ),
}


def healthy(request_id: str) -> Behaviour:
    return Behaviour()


class ModelServer:
    """Serves sessions between `async with` and its end. `behaviour_for` is asked once for each connection.

    With port 0 the system picks one: see `port`. Raises OSError when the port cannot be bound.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        behaviour_for: Callable[[str], Behaviour] = healthy,
        *,
        api_key: str = "",
        seed: int = 0,
        keeps_input: bool = False,
    ) -> None:
        """`api_key`: the only one accepted; empty: any that does not begin with sk-refused. `keeps_input`: as in
        ModelSession."""
        self.port = port
        self._host = host
        self._behaviour_for = behaviour_for
        self._api_key = api_key
        self._seed = seed
        self._keeps_input = keeps_input
        self._voice = Voice()
        self._gather = Gather()
        self._count = 0
        self._open: dict[str, _Line] = {}
        self._ended: deque[tuple[str, ModelSession]] = deque(maxlen=KEPT_SESSIONS)
        self._server: Server | None = None

    async def __aenter__(self) -> ModelServer:
        self._server = await serve(
            self._serve,
            self._host,
            self.port,
            process_request=self._process_request,
            create_connection=_Connection,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            ping_interval=None,  # answering the client's pings is enough
            close_timeout=1,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server:
            self._server.close()
            await self._server.wait_closed()

    @property
    def base_url(self) -> str:
        """What OPENAI_BASE_URL must be to talk to this server."""
        return f"http://{self._host}:{self.port}/v1"

    @property
    def open_sessions(self) -> int:
        return len(self._open)

    def records(self, request_id: str | None = None) -> list[dict[str, Any]]:
        """The records of all sessions, or of one call's, oldest first."""
        ended = [session for known, session in self._ended if request_id in (None, known)]
        live = [line.session for line in self._open.values() if request_id in (None, line.request_id)]
        # By their beginnings: a stalled client closes its session after its successor has opened one.
        return sorted((session.record() for session in ended + live), key=lambda record: record["opened_ns"])

    def peers(self) -> dict[str, int]:
        """The client's port of the newest open session of each call."""
        return {line.request_id: line.port for line in self._open.values()}

    def harm(self, request_id: str, seconds: float) -> int:
        """Cut the open sockets of a call, or do not read them for `seconds`; how many there were."""
        lines = [line for line in self._open.values() if line.request_id == request_id]
        for line in lines:
            line.harm(seconds)
        return len(lines)

    async def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        url = urlsplit(request.path)
        query = parse_qs(url.query)
        if url.path == "/v1/realtime":
            return await self._admit(request, query)
        if url.path == "/healthz":
            return _json(http.HTTPStatus.OK, {"status": "ok", "open_sessions": self.open_sessions})
        if url.path == "/simulator/sessions":
            return _json(http.HTTPStatus.OK, self.records(query.get("request_id", [None])[0]))
        if url.path == "/simulator/peers":
            return _json(http.HTTPStatus.OK, self.peers())
        if url.path == "/simulator/harm" and {"request_id", "seconds"} <= set(query):
            return _json(http.HTTPStatus.OK, {"harmed": self.harm(query["request_id"][0], float(query["seconds"][0]))})
        return _json(http.HTTPStatus.NOT_FOUND, {"error": {"message": f"Unknown path {url.path}"}})

    async def _admit(self, request: Request, query: dict[str, list[str]]) -> Response | None:
        """None to accept the handshake, or an error in OpenAI's words to refuse it."""
        behaviour = self._behaviour_for(request.headers.get(REQUEST_ID_HEADER, ""))
        request.behaviour = behaviour  # type: ignore[attr-defined]  # for `_serve`, which gets the same request
        if behaviour.handshake_ms:
            await asyncio.sleep(behaviour.handshake_ms / 1_000)
        reason: str = behaviour.refuse
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not key or key.startswith("sk-refused") or (self._api_key and not hmac.compare_digest(key, self._api_key)):
            reason = "key"
        elif query.get("model", [""])[0].startswith("no-such") or not query.get("model"):
            reason = "model"
        if not reason:
            return None
        status, kind, code, message = _REFUSALS[reason]
        return _json(status, {"error": {"message": message, "type": kind, "param": None, "code": code}})

    async def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        assert isinstance(connection, _Connection)  # so `serve` was told
        connection.gather = self._gather
        assert request is not None  # websockets calls the handler after the handshake
        self._count += 1
        session_id = f"sess_{self._seed:x}{self._count:08x}"
        request_id = request.headers.get(REQUEST_ID_HEADER, "")
        session = ModelSession(
            session_id,
            behaviour=request.behaviour,  # type: ignore[attr-defined]
            voice=self._voice,
            seed=self._seed + self._count,
            request_id=request_id,
            model=parse_qs(urlsplit(request.path).query)["model"][0],
            unix_s=int(time.time()),
            keeps_input=self._keeps_input,
        )
        line = self._open[session_id] = _Line(connection, session, request_id)
        try:
            await line.run()
        finally:
            del self._open[session_id]
            self._ended.append((request_id, session))


class _Connection(DirectConnection, ServerConnection):
    """Gives each message to its session when it is read. A queue and a task between would triple the cost."""


class _Line:
    """One session on its socket: one reader, one timer, and writes that never wait."""

    def __init__(self, connection: _Connection, session: ModelSession, request_id: str) -> None:
        self.session = session
        self.request_id = request_id
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0  # when it fires
        self._closing: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The client's end of the socket."""
        port: int = self._connection.remote_address[1]
        return port

    async def run(self) -> None:
        session = self.session
        code: int | None = None
        try:
            self._after(session.open(time.monotonic_ns()))
            await self._connection.receive_each(self.receive)
        except ConnectionClosed as exc:
            code = exc.rcvd.code if exc.rcvd is not None else ABNORMAL[0]
        finally:
            session.closed(time.monotonic_ns(), code)
            if self._timer:
                self._timer.cancel()
            if self._closing:
                await self._closing

    def harm(self, seconds: float) -> None:
        transport = self._connection.transport
        if not seconds:
            transport.abort()
            return
        transport.pause_reading()
        self._loop.call_later(seconds, self._read_again)

    def _read_again(self) -> None:
        if not self._connection.transport.is_closing():
            self._connection.transport.resume_reading()

    def receive(self, data: bytes, _is_text: bool) -> None:
        texts = self.session.receive(data, time.monotonic_ns())
        if texts or self.session.close_code:  # else nothing has changed, the timer least of all
            self._after(texts)

    def _after(self, texts: list[str]) -> None:
        """Send the texts, set the timer, and close the socket if the session wants it."""
        connection = self._connection
        if texts:
            connection.send_all([text.encode() for text in texts])
        session = self.session
        if session.close_code:
            self._close(session.close_code)
        elif texts and connection.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._close(ABNORMAL)
        else:
            self._schedule(session.next_due_ns())

    def _schedule(self, due_ns: int | None) -> None:
        if due_ns is None or (self._timer and self._timer_ns <= due_ns):
            return
        if self._timer:
            self._timer.cancel()
        # uvloop's timers have whole milliseconds; round up, so that one firing is enough.
        delay_ms = math.ceil((due_ns - time.monotonic_ns()) / 1_000_000)
        self._timer_ns = due_ns
        self._timer = self._loop.call_later(max(0, delay_ms) / 1_000, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._after(self.session.advance(time.monotonic_ns()))

    def _close(self, code: tuple[int, str]) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if code == ABNORMAL:
            self.session.closed(time.monotonic_ns(), code[0])
            # uvloop writes at the end of its round: let everything that the record calls sent leave this process.
            self._loop.call_later(0.005, self._connection.transport.abort)
        elif self._closing is None:
            self._closing = self._loop.create_task(self._connection.close(*code))


def _json(status: http.HTTPStatus, body: Any) -> Response:
    data = msgspec.json.encode(body)
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(data)), "Connection": "close"})
    return Response(status.value, status.phrase, headers, data)


def _behaviour(path: Path | None, speed: float | None) -> Behaviour:
    try:
        behaviour = Behaviour.from_json(path.read_bytes()) if path else Behaviour()
    except OSError as exc:
        raise SystemExit(f"model: --behaviour {path} cannot be read ({exc.strerror})") from None
    except ValueError as exc:
        raise SystemExit(f"model: --behaviour {path} cannot be used: {exc}") from None
    return behaviour if speed is None else replace(behaviour, speed=speed)


async def _serve_until_told(server: ModelServer) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with server:
        print(f"simulated model: OPENAI_BASE_URL={server.base_url}", flush=True)
        # The start-up leaves no garbage, and a garbage collection would be a gap in every session's speech.
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        await stop.wait()


def main(arguments: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `parser` replaces this program's name and description.

    Raises SystemExit with one line that says what is wrong.
    """
    parser = parser or argparse.ArgumentParser(prog="python -m simulator.model.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--speed", type=float, help="how many times faster than real time audio comes (default 5)")
    parser.add_argument(
        "--behaviour", type=Path, metavar="FILE.json", help="fields of simulator.model.behaviour.Behaviour"
    )
    parser.add_argument(
        "--embedded", choices=("talk", "parrot"), help="introduce itself first, then talk or repeat what it hears"
    )
    parser.add_argument("--api-key", default="", help="the only key to accept (default: any but sk-refused...)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of every random choice")
    parser.add_argument("--keep-input", action="store_true", help="keep all audio that a session hears in its record")
    options = parser.parse_args(arguments)
    if options.embedded:
        behaviour = Behaviour.embedded(options.embedded)
    else:
        behaviour = _behaviour(options.behaviour, options.speed)
    server = ModelServer(
        options.host,
        options.port,
        lambda _: behaviour,
        api_key=options.api_key,
        seed=options.seed,
        keeps_input=options.keep_input,
    )
    # One line for each connection says nothing that /simulator/sessions does not.
    logging.getLogger("websockets.server").setLevel(logging.WARNING)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_told(server))
    except OSError as exc:
        where, why = f"{options.host}:{options.port}", os.strerror(exc.errno or 0)
        raise SystemExit(f"model: cannot listen on {where} ({why}); choose another with --port") from None


if __name__ == "__main__":
    main()
