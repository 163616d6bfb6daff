"""One Realtime session: the SDK's connection, read at full speed, written without waiting."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from openai import AsyncOpenAI, OpenAIError
from openai.types.realtime import RealtimeClientEventParam, RealtimeSessionCreateRequestParam
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.protocol import State

from shared.gather import Gather
from shared.websocket import DirectConnection

from .core.realtime import (
    FATAL_CODES,
    MalformedEventError,
    ServerError,
    ServerEvent,
    SessionCreated,
    SessionUpdated,
    decode_event,
    encode_append,
    encode_event,
)

log = logging.getLogger("aibridge")

# From dialling to session.updated; the real thing takes well under a second.
OPEN_TIMEOUT_S: Final = 10.0
# HTTP refusals that another try will not change.
REFUSED_STATUS: Final = frozenset({400, 401, 403, 404})
# A delta is a few kB, a response.done with all its words a few hundred. The server may not make us hold more.
MESSAGE_MAX_BYTES: Final = 4 * 1024 * 1024


class ModelRefusedError(Exception):
    """The model's server will not have us (key, quota or model name); the text is what it said.

    That may quote anything; `code` names the kind alone.
    """

    def __init__(self, code: str, said: str = "") -> None:
        super().__init__(f"{code}: {said}" if said else code)
        self.code = code


class ModelConnection(DirectConnection, ClientConnection):
    """The SDK's connection is made of this."""


def tls_context(client: AsyncOpenAI) -> ssl.SSLContext | None:
    """For all sessions of a client; None where it speaks plain HTTP.

    To read the system's certificates takes 20 ms, in which no other call is served, and close to 1 MB: asked for none,
    the library would do it for each session anew. SSL_CERT_FILE and SSL_CERT_DIR are honoured.
    """
    return ssl.create_default_context() if client.base_url.scheme in ("https", "wss") else None


class Session:
    """`run` holds the session from dialling to its end; `on_event` gets what happens in it, in order.

    Writing is synchronous and never waits. The SDK's own sends take a lock in a task, 14 to 144 us each, and would not
    keep a cancel in front of the truncate that follows it.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        model: str,
        config: RealtimeSessionCreateRequestParam,
        request_id: str,
        on_event: Callable[[ServerEvent], None],
        on_malformed: Callable[[], None],
        tls: ssl.SSLContext | None,
        gather: Gather | None = None,
    ) -> None:
        self._client = client
        self._model = model
        self._config = config
        # OpenAI's header for finding a request again: the call's SID.
        self._request_id = request_id
        self._on_event = on_event
        self._on_malformed = on_malformed
        self._tls = tls
        self._gather = gather
        self._websocket: ModelConnection | None = None
        # Runs `run`; whoever starts it sets it, so that `close` can end it.
        self.task: asyncio.Task[None] | None = None
        # session.updated has come: audio and responses may go out.
        self.ready = False

    async def run(self) -> None:
        """Dial, configure, and read until the session ends.

        Returns when it ended (1000 and 1001 too: an expired session ends so). Raises ModelRefusedError when another try
        would fail in the same way, OSError, TimeoutError or a WebSocketException otherwise.
        """
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S) as opening:
                websocket = await self._dial()
                try:
                    await websocket.receive_each(partial(self._received, opening))
                finally:
                    self.ready = False
                    self._websocket = None
                    # One that the server closes goes on closing by itself: the call's recovery does not wait for that.
                    if websocket.state is State.OPEN:
                        await websocket.close()
        except ConnectionClosed as exc:
            if exc.rcvd is None or exc.rcvd.code not in (1000, 1001):
                raise

    def _received(self, opening: asyncio.Timeout, data: bytes, _is_text: bool) -> None:
        try:
            event = decode_event(data)
        except MalformedEventError:
            self._on_malformed()
            return
        if event is None:
            return
        if not self.ready and self._open(event):
            opening.reschedule(None)
        self._on_event(event)

    async def _dial(self) -> ModelConnection:
        """Dial through the SDK. Its own connection, which holds queues and locks for what is not used, is let go."""

        def create(*args: Any, **kwargs: Any) -> ModelConnection:
            self._websocket = ModelConnection(*args, **kwargs)
            self._websocket.gather = self._gather
            return self._websocket

        options: Any = {
            "create_connection": create,
            "max_queue": 64,
            "max_size": MESSAGE_MAX_BYTES,
            "compression": None,
            "close_timeout": 1,
            "open_timeout": OPEN_TIMEOUT_S,
        }
        if self._tls is not None:
            options["ssl"] = self._tls
        try:
            await self._client.realtime.connect(
                model=self._model,
                extra_headers={"X-Client-Request-Id": self._request_id},
                websocket_connection_options=options,
            ).enter()
        except InvalidStatus as exc:
            if exc.response.status_code in REFUSED_STATUS:
                raise ModelRefusedError(f"HTTP {exc.response.status_code}") from None
            raise
        except OpenAIError as exc:
            raise ModelRefusedError(type(exc).__name__, str(exc)) from None
        assert self._websocket is not None
        return self._websocket

    def _open(self, event: ServerEvent) -> bool:
        """Set the session up; True with the event that says that it is."""
        if isinstance(event, SessionCreated):
            self.send({"type": "session.update", "session": self._config})
        elif isinstance(event, SessionUpdated):
            self.ready = True
        elif isinstance(event, ServerError):
            # Before session.updated, an error means that our settings do not hold: the session would speak PCM.
            code = event.error.code or event.error.type
            if code in FATAL_CODES or event.error.type == "invalid_request_error":
                raise ModelRefusedError(code, event.error.message)
        return self.ready

    def send(self, event: RealtimeClientEventParam) -> None:
        if self._websocket is not None:
            self._websocket.send_now(encode_event(event))

    def close(self) -> None:
        """End `run`, and with it the socket: at once for a server that answers the closing handshake, else in 1 s."""
        if self.task is not None:
            self.task.cancel()

    def append(self, audio: bytes) -> None:
        """Caller audio, raw mu-law. Only once `ready`."""
        if self._websocket is not None:
            self._websocket.send_now(encode_append(audio))


async def probe(
    client: AsyncOpenAI, *, model: str, config: RealtimeSessionCreateRequestParam, tls: ssl.SSLContext | None
) -> None:
    """Open a session, see our settings accepted, close it. Raises as `Session.run` does."""
    ready = asyncio.Event()
    session = Session(
        client,
        model=model,
        config=config,
        request_id="probe",
        on_event=lambda event: ready.set() if isinstance(event, SessionUpdated) else None,
        on_malformed=lambda: None,
        tls=tls,
    )
    running = asyncio.ensure_future(session.run())
    waiting = asyncio.ensure_future(ready.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if ready.is_set():
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return
    await running
    raise WebSocketException("the model closed the session before it was set up")
