"""The media sockets: messages go to the core, and the core's commands are carried out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic_ns
from typing import Final, Literal

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from shared.facts import Fact
from shared.isolation import QuietCollector
from shared.liveness import REQUEST_S

from .connections import MediaConnection
from .copies import Copies, Copy
from .core.call import Call
from .core.calls import Calls, SocketState
from .core.commands import (
    AnswerWebhook,
    CloseSocket,
    CloseStory,
    Commands,
    EarEcho,
    KeepStory,
    Log,
    MoveAudio,
    Note,
    Recall,
    Release,
    ShowNote,
    ToPacer,
    ToWorker,
)
from .core.hangup import Close, Event
from .core.media_streams import (
    Dtmf,
    Mark,
    MediaStream,
    Outbound,
    Start,
    Stop,
    Violation,
    ViolationError,
    parse_probe,
)
from .core.metrics import Metrics
from .links import Links
from .phone.feeds import Feeds
from .story_link import StoryLink
from .waiting import WaitingWebhooks

logger = logging.getLogger("gateway")

# From the handshake to `start`. Twilio sends both messages at once.
START_S: Final = REQUEST_S
# websockets closes a connection with these codes for a violation of the peer.
_CLOSED_FOR: Final[Mapping[int, Violation]] = {
    CloseCode.MESSAGE_TOO_BIG: Violation.OVERSIZED,
    CloseCode.INVALID_DATA: Violation.INVALID_UTF8,
    CloseCode.PROTOCOL_ERROR: Violation.FRAMING,
}


class MediaSocket:
    """The media socket of one live call."""

    __slots__ = (
        "audio_rate",
        "bridge",
        "call",
        "closing",
        "connection",
        "copy",
        "frames",
        "is_released",
        "outbound",
        "path",
        "way_back",
    )

    def __init__(self, call: Call, connection: MediaConnection, links: Links) -> None:
        self.call = call
        self.connection = connection
        self.outbound = Outbound(call.stream_sid)
        # The call's, held here because every frame and every message uses them.
        self.frames, self.audio_rate, self.path, self.way_back = call.frames, call.audio_rate, call.path, call.way_back
        # The link to the call's worker.
        self.bridge = links.bridges[call.worker]
        # For those who listen to the call; None: nobody does.
        self.copy: Copy | None = None
        # The closing handshake, once there is one.
        self.closing: asyncio.Task[None] | None = None
        # The call is over.
        self.is_released = False

    def probe(self, now_ns: int) -> None:
        """Ask the peer for an answer, after what was written so far.

        A browser answers pings by itself. What its page simulates delays only messages, so a phone is asked by a mark.
        """
        payload = self.path.ping(now_ns)
        if self.call.followed:
            self.connection.send_now(self.outbound.probe(payload))
        else:
            self.connection.ping_now(payload)


class MediaSockets:
    """Every media socket of this gateway. Carries out the core's commands.

    `note` takes facts for callbook. `stories` leave the machine over callbook; None: there is no STATE_URL.
    """

    def __init__(
        self,
        calls: Calls,
        links: Links,
        note: Callable[[Fact], None],
        feeds: Feeds,
        copies: Copies,
        webhooks: WaitingWebhooks,
        metrics: Metrics,
        stories: StoryLink | None = None,
    ) -> None:
        # By the call's number: live calls only.
        self.sockets: dict[int, MediaSocket] = {}
        self._calls = calls
        self._links = links
        self._note = note
        self._stories = stories
        self._feeds = feeds
        self._copies = copies
        self._webhooks = webhooks
        self._metrics = metrics
        self._collector = QuietCollector()

    async def serve(self, connection: MediaConnection) -> None:
        """One media socket, from the end of its handshake on."""
        socket: MediaSocket | None = None
        stream = MediaStream()
        # Not earlier: websockets asks whether to refuse a handshake before it checks that the handshake is well formed.
        self._calls.accepted()
        try:
            try:
                async with asyncio.timeout(START_S):
                    start = await self._read_start(connection, stream)
            except TimeoutError:
                self._metrics.starts_refused["timeout"].inc()
                start = None
            finally:
                self._calls.unstarted_over()
            if start is not None:
                socket = self._begin(connection, start)
            if socket is None:
                await connection.close(CloseCode.POLICY_VIOLATION)
                return
            await connection.receive_each(partial(self._received, socket, stream))
            if socket.closing is not None:
                await socket.closing
        except ConnectionClosed as exc:
            violation = None if exc.sent is None or exc.rcvd_then_sent else _CLOSED_FOR.get(exc.sent.code)
            if violation is not None:
                self._metrics.violations[violation].inc()
        except Exception:
            # websockets closes the socket with 1011 and does not log (see port.py).
            logger.exception("a media socket ended because of an error in the gateway")
            raise
        finally:
            if socket is not None:
                self.carry_out(self._calls.happened(socket.call, Event.SOCKET_LOST, monotonic_ns()))

    async def _read_start(self, connection: MediaConnection, stream: MediaStream) -> Start | None:
        """Read up to `start`; None when the socket breaks the protocol before."""
        while True:
            try:
                message = stream.receive(await connection.recv())
            except ViolationError as exc:
                self._metrics.violations[exc.kind].inc()
                if exc.fatal:
                    return None
                continue
            if isinstance(message, Start):
                return message

    def _begin(self, connection: MediaConnection, start: Start) -> MediaSocket | None:
        call_sid = start.start.call_sid
        call, commands = self._calls.begin(start, monotonic_ns(), followed=self._feeds.get(call_sid) is not None)
        socket = None
        if call is not None:
            socket = self.sockets[call.number] = MediaSocket(call, connection, self._links)
            connection.on_pong = partial(self._answered, socket)
            self._feeds.follow(call.number, call_sid)
            socket.copy = self._copies.of(call_sid)
        self.carry_out(commands)
        return socket

    def _received(self, socket: MediaSocket, stream: MediaStream, data: bytes, is_text: bool) -> Literal[True] | None:
        """Handle a message of a call. Returns True when no further message is wanted."""
        if socket.is_released:
            return None  # the gateway closed the socket; read on until the peer agrees
        try:
            message = stream.receive_text(data) if is_text else stream.receive(data)
        except ViolationError as exc:
            self._metrics.violations[exc.kind].inc()
            return self._meaningless(socket.call) if exc.fatal else None
        if isinstance(message, bytes):
            if message:
                if not socket.audio_rate.allows(len(message), socket.connection.heard_ns):
                    self._metrics.violations[Violation.FLOOD].inc()
                    return self._meaningless(socket.call)
                socket.way_back.media, socket.way_back.media_ns = data, socket.connection.heard_ns
                self._metrics.caller_audio_bytes.inc(len(message))
                socket.bridge.audio(socket.call.number, message)
                if socket.copy is not None:
                    socket.copy.caller(message)
            return None
        assert isinstance(message, Mark | Dtmf | Stop)  # the table of MediaStream allows nothing else here
        if socket.call.followed and isinstance(message, Mark):
            payload = parse_probe(message.mark.name)
            if payload is not None:
                self._answered(socket, payload)
                return None
        self.carry_out(self._calls.received(socket.call, message, monotonic_ns()))
        return True if isinstance(message, Stop) else None

    def _answered(self, socket: MediaSocket, payload: bytes) -> None:
        now_ns = monotonic_ns()
        delay_ns = socket.path.answered(payload, now_ns)
        if delay_ns is not None:
            self._links.pinged(socket.call.number, delay_ns, now_ns)

    def _meaningless(self, call: Call) -> Literal[True]:
        self.carry_out(self._calls.happened(call, Event.SOCKET_MEANINGLESS, monotonic_ns()))
        return True

    def sweep(self) -> None:
        """Let the core check all calls. Call it every SWEEP_S."""
        states = {
            number: SocketState(socket.connection.heard_ns, socket.connection.transport.get_write_buffer_size())
            for number, socket in self.sockets.items()
        }
        self.carry_out(self._calls.sweep(monotonic_ns(), states))
        if self._copies.look():
            for socket in self.sockets.values():
                socket.copy = self._copies.of(socket.call.call_sid)
        if not self.sockets:
            self._collector.quiet()

    # --- commands ---

    def carry_out(self, commands: Commands) -> None:
        for command in commands:
            match command:
                case ToWorker(worker, message):
                    self._links.bridges[worker].post(message)
                case ToPacer(message):
                    self._links.pacer.post((message,))
                case Note(fact):
                    self._note(fact)
                case EarEcho(call, seq, at_ns):
                    self._links.echoed(call, seq, at_ns)
                case MoveAudio(call, before, after):
                    self._move_audio(call, before, after)
                case CloseSocket(call, Close.ABORT):
                    self.sockets[call].connection.transport.abort()
                case CloseSocket(call, close):
                    self._close(self.sockets[call], close.value)
                case Release(call, worker):
                    self._release(call, worker)
                case ShowNote(call, note):
                    self._feeds.note(call, note)
                case AnswerWebhook(call_sid):
                    self._webhooks.answer(call_sid)
                case Recall() | KeepStory() | CloseStory():
                    self._tell_callbook(command)
                case Log(text):
                    logger.info(text)

    def _tell_callbook(self, command: Recall | KeepStory | CloseStory) -> None:
        assert self._stories is not None  # Rules.recalls says so
        match command:
            case Recall(call_sid):
                self._stories.recall(call_sid)
            case KeepStory(call_sid, story, since_ms):
                self._stories.changed(call_sid, story, since_ms)
            case CloseStory(call_sid, order, story, since_ms):
                self._stories.closed(call_sid, order, story, since_ms)

    def _move_audio(self, call: int, before: int, after: int) -> None:
        missed = self._links.bridges[before].take(call)
        bridge = self.sockets[call].bridge = self._links.bridges[after]
        if missed:
            bridge.audio(call, missed)

    def _close(self, socket: MediaSocket, code: int) -> None:
        """Close in the background, without waiting for the peer to agree."""
        socket.closing = asyncio.get_running_loop().create_task(socket.connection.close(code))

    def _release(self, call: int, worker: int) -> None:
        self.sockets.pop(call).is_released = True
        self._links.bridges[worker].take(call)
        self._feeds.ended(call)
        self._collector.ended()
