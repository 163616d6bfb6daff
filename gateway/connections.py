"""The connections of the public port, and the bounds on what each may cost.

A connection begins as HTTP. It is half-open while its peer owes us something: the rest of a request (headers and body),
or to read what fills our buffer. The peer has REQUEST_S for either. At most HALF_OPEN_MAX connections are half-open;
one more closes the oldest. Twilio needs a single round trip, so a peer that is slow on purpose makes room for it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.protocol import Event, State

from shared.liveness import REQUEST_S
from shared.metrics import Counter
from shared.websocket import DirectConnection

from . import tcp_options
from .core.limits import MessageRate

# 100 new calls a second, with two requests each and a round trip of 2.5 s.
HALF_OPEN_MAX: Final = 512
# The first byte of a ping: a whole message of opcode 9 (RFC 6455, 5.2).
_PING: Final = 0x89


class HalfOpen:
    """The half-open connections, oldest first."""

    def __init__(self, ended: Counter) -> None:
        self._ended = ended
        self._open: dict[HttpConnection, None] = {}

    def add(self, connection: HttpConnection) -> None:
        self._open[connection] = None
        if len(self._open) > HALF_OPEN_MAX:
            next(iter(self._open)).give_up()

    def discard(self, connection: HttpConnection) -> None:
        self._open.pop(connection, None)

    def gave_up(self) -> None:
        self._ended.inc()

    def __len__(self) -> int:
        return len(self._open)


class _PeersFaults(logging.Filter):
    """Drops the traceback that uvicorn logs when a request turns out malformed while its answer is being made.

    The peer already has its 400, and h11 refuses the second answer. It is the peer's fault, not ours.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], h11.LocalProtocolError))


logging.getLogger("uvicorn.error").addFilter(_PeersFaults())


class HttpConnection(H11Protocol):
    """uvicorn's connection with a deadline for its peer. The port sets `half_open` in a subclass."""

    half_open: HalfOpen

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._expect()

    def handle_events(self) -> None:
        try:
            super().handle_events()
        except h11.LocalProtocolError:
            # The bytes after a request are malformed, and its answer has begun: it is too late for uvicorn's 400.
            self.transport.close()
            return
        self._expect_no_more()

    def on_response_complete(self) -> None:
        # Closing waits until the peer has read the rest.
        if not self.transport.is_closing() or self.transport.get_write_buffer_size():
            self._expect()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._expect_no_more()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._release()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self.give_up)
            self.half_open.add(self)

    def _expect_no_more(self) -> None:
        """The peer has done one of the things that it owed. After the last one, it is no longer half-open."""
        owes_request = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if not owes_request and not self.flow.write_paused and not self.transport.is_closing():
            self._release()

    def _release(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self.half_open.discard(self)

    def give_up(self) -> None:
        """Cut the connection: its peer is too slow, or the slowest of too many."""
        self._release()
        self.half_open.gave_up()
        self.transport.abort()


class MediaConnection(DirectConnection, ServerConnection):
    """A media socket that is cut when it sends more than a call can need. It then calls `on_flood`, once."""

    __slots__ = ("_is_cut", "_on_flood", "_rate", "heard_ns", "on_pong")

    def __init__(self, *args: Any, on_flood: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rate = MessageRate()
        self._on_flood = on_flood
        self._is_cut = False
        # Told of the payload of each pong, once there is a call.
        self.on_pong: Callable[[bytes], None] | None = None
        # When data last arrived, or the socket was made. Pongs do not count: the socket of a dead call still sends
        # them.
        self.heard_ns = monotonic_ns()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            tcp_options.tune(raw)

    def text_received(self, data: bytes) -> None:
        self.heard_ns = now_ns = monotonic_ns()
        if not self._rate.allows(now_ns):
            self._cut()
        elif not self._is_cut:
            # What super() does, 0.2 us faster.
            self._hand_over(data, True)

    def process_event(self, event: Event) -> None:
        if self._is_cut:
            return
        if isinstance(event, Frame):
            now_ns = monotonic_ns()
            if event.opcode in DATA_OPCODES:
                self.heard_ns = now_ns
            if not self._rate.allows(now_ns):
                self._cut()
                return
            if event.opcode is Opcode.PONG and self.on_pong is not None:
                self.on_pong(bytes(event.data))
        super().process_event(event)

    def ping_now(self, payload: bytes) -> None:
        """Send a ping (at most 125 bytes) after what was written so far. Never waits; its answer goes to `on_pong`."""
        if self.protocol.state is State.OPEN:
            self.transport.write(bytes((_PING, len(payload))) + payload)

    def _cut(self) -> None:
        # Cut without a closing handshake, which would have to be read out of the flood.
        if not self._is_cut:
            self._is_cut = True
            self._on_flood()
            self.transport.abort()
