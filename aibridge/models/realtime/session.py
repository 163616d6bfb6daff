"""One Realtime session: a WebSocket connection, read at full speed, written without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.protocol import State

from shared import liveness
from shared.gather import Gather
from shared.websocket import DirectConnection

from ..port import HearAudio, ModelCommand, ModelEvent, Numbers, Purpose, SessionReady
from .event_types import RealtimeClientEventParam, RealtimeSessionCreateRequestParam
from .servers import Server
from .session_config import silence_ms
from .translator import Translator
from .wire import (
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

# From dialling to session.updated; the real server takes well under a second.
OPEN_TIMEOUT_S: Final = 10.0
# HTTP refusals that a retry does not change.
REFUSED_STATUS: Final = frozenset({400, 401, 403, 404})
# The bound of unwritten data: a server that accepts none of it is gone. A fresh session is sent up to 300 kB at once
# (15 s of audio in base64, and the history), which the kernel may not accept in one go. Caller audio is 12 kB a second.
WRITE_MAX_BYTES: Final = 512 * 1024
# The bound of one message. A delta has a few kB, a response.done with all its words a few hundred.
MESSAGE_MAX_BYTES: Final = 4 * 1024 * 1024


class ModelRefusedError(Exception):
    """The model's server refuses the session. The text is the server's and may quote anything; `code` names the kind.

    `is_settings`: it refuses the agent's settings; otherwise the key, the quota or the model's name.
    """

    def __init__(self, code: str, said: str = "", *, is_settings: bool = False) -> None:
        super().__init__(f"{code}: {said}" if said else code)
        self.code = code
        self.is_settings = is_settings


class ModelConnection(DirectConnection, ClientConnection):
    """The WebSocket connection of a session."""

    def pause_writing(self) -> None:
        """More than WRITE_MAX_BYTES wait to be written: the server is gone."""
        self.transport.abort()


class _Dial(connect):
    """The library's dial, which goes nowhere else with our key: a redirect is refused like any other answer."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Session:
    """A port.Model. `run` lasts from dialling to the end of the session; `on_event` gets the session's events in order.

    Writing is synchronous and never waits. The SDK's own sends take a lock in a task and 14 to 144 us each, and would
    not keep the order of a cancel and the truncate that follows it.
    """

    def __init__(
        self,
        server: Server,
        *,
        model: str,
        config: RealtimeSessionCreateRequestParam,
        phrases: dict[Purpose, str],
        numbers: Numbers,
        request_id: str,
        on_event: Callable[[ModelEvent | SessionReady], None],
        on_malformed: Callable[[], None],
        gather: Gather | None = None,
    ) -> None:
        self._server = server
        self._model = model
        # What to send when the session is created: the settings that it was dialled with, and later ones.
        self._configs = [config]
        self._translator = Translator(numbers, phrases)
        self._translator.silence_ms = silence_ms(config)
        # OpenAI's header for finding a request again: the call's SID.
        self._request_id = request_id
        self._on_event = on_event
        self._on_malformed = on_malformed
        self._gather = gather
        self._websocket: ModelConnection | None = None
        # session.created has come.
        self._is_created = False
        # The task of `run`. Its starter sets it, so that `close` can end it.
        self.task: asyncio.Task[None] | None = None
        # session.updated has come: audio and response.create may be sent.
        self.ready: SessionReady | None = None

    async def run(self) -> None:
        """Dial, configure, and read until the session ends.

        Returns at its end, also for the close codes 1000 and 1001, with which a session expires. Raises
        ModelRefusedError when a retry would fail in the same way; otherwise OSError, TimeoutError or a
        WebSocketException.
        """
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S) as opening:
                websocket = await self._dial()
                try:
                    await websocket.receive_each(partial(self._received, opening))
                finally:
                    self.ready = None
                    self._websocket = None
                    # A connection that the server closes finishes by itself: the call's recovery does not wait for it.
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
        if self.ready is None:
            self._open(event, opening)
        for each in self._translator.events(event):
            self._on_event(each)

    async def _dial(self) -> ModelConnection:
        def create(*args: Any, **kwargs: Any) -> ModelConnection:
            self._websocket = ModelConnection(*args, **kwargs)
            self._websocket.gather = self._gather
            return self._websocket

        server = self._server
        options: Any = {"create_connection": create} | ({} if server.tls is None else {"ssl": server.tls})
        try:
            await _Dial(
                server.url(self._model),
                additional_headers={**server.headers(), "X-Client-Request-Id": self._request_id},
                user_agent_header="twentyms",
                max_queue=64,
                max_size=MESSAGE_MAX_BYTES,
                compression=None,
                close_timeout=1,
                open_timeout=OPEN_TIMEOUT_S,
                ping_interval=liveness.MODEL_PING_S,
                ping_timeout=liveness.MODEL_PONG_S,
                write_limit=WRITE_MAX_BYTES,
                **options,
            )
        except InvalidStatus as exc:
            if exc.response.status_code in REFUSED_STATUS:
                raise ModelRefusedError(f"HTTP {exc.response.status_code}") from None
            raise
        assert self._websocket is not None
        return self._websocket

    def _open(self, event: ServerEvent, opening: asyncio.Timeout) -> None:
        """Handle an event before session.updated: configure the session."""
        if isinstance(event, SessionCreated):
            self._is_created = True
            for config in self._configs:
                self._send({"type": "session.update", "session": config})
            self._configs.clear()  # more than 2 kB of dictionaries
        elif isinstance(event, SessionUpdated):
            opening.reschedule(None)
            self.ready = SessionReady(event.session.model)
            self._on_event(self.ready)
        elif isinstance(event, ServerError):
            # Before session.updated, an error means that the server refused the settings: the session would speak PCM.
            code = event.error.code or event.error.type
            if code in FATAL_CODES or event.error.type == "invalid_request_error":
                raise ModelRefusedError(code, event.error.message, is_settings=code not in FATAL_CODES)

    def configure(self, config: RealtimeSessionCreateRequestParam, phrases: dict[Purpose, str]) -> None:
        """Other settings, before the first response. If the server refuses them, those it was dialled with stay."""
        self._translator.phrases = phrases
        self._translator.silence_ms = silence_ms(config)
        if self._is_created:
            self._send({"type": "session.update", "session": config})
        else:
            self._configs = [*self._configs[:1], config]

    def _send(self, event: RealtimeClientEventParam) -> None:
        if self._websocket is not None:
            self._websocket.send_now(encode_event(event))

    def tell(self, command: ModelCommand) -> None:
        if type(command) is HearAudio:
            self.hear(command.data)
            return
        event = self._translator.client_event(command)
        if event is not None:
            self._send(event)

    def close(self) -> None:
        """End `run` and the socket: at once if the server answers the closing handshake, else within 1 s.

        No event follows. The session lets go of its call here, or a cycle would keep all of the call.
        """
        self._on_event = _ignore
        if self.task is not None:
            self.task.cancel()

    def hear(self, audio: bytes) -> None:
        """The caller's next audio, raw mu-law. Only once `ready`."""
        if self._websocket is not None:
            self._translator.sent_bytes += len(audio)
            self._websocket.send_now(encode_append(audio))


def _ignore(_event: ModelEvent | SessionReady) -> None:
    pass


async def probe(server: Server, *, model: str, config: RealtimeSessionCreateRequestParam) -> None:
    """Open a session, wait until the server accepts the settings, close it. Raises as `Session.run` does."""
    ready = asyncio.Event()
    session = Session(
        server,
        model=model,
        config=config,
        phrases={},
        numbers=Numbers(),
        request_id="probe",
        on_event=lambda event: ready.set() if isinstance(event, SessionReady) else None,
        on_malformed=lambda: None,
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
