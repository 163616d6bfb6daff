"""WebSocket connections that give and take whole text messages without waiting, and leave the rest to websockets.

A phone call is 50 small text messages a second each way. The library's general way costs more than the work on them:
a generator and a dataclass a frame, a queue, a future and a task switch a message, 4 random bytes from the kernel a
frame sent. Here a complete, unfragmented, uncompressed text frame is cut out of the bytes that arrived, and is handed
over at once. Every other frame goes through the library whole, so its checks, fragments, pings and closing handshakes
stay in force. A message in and one out cost 20 us with the kernel's share, where `recv` and `broadcast` cost 38.

This relies on parts of websockets that its documentation does not promise. tests/shared/test_websocket_internals.py
lists each with its reason, and fails when an update changes one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import OK_CLOSE_CODES, CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Event

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without a wheel
    from websockets.utils import apply_mask

from .gather import Gather

# RFC 6455, 5.2: FIN and opcode 1, no extension; the lengths that announce a longer length field.
_TEXT: Final = 0x81
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
# Masking keys must be unpredictable (5.3). The kernel makes them, this many at a time.
_KEYS: Final = 64

# Takes a message, and whether it is text (then valid UTF-8). A result other than None ends the receiving.
Receiver = Callable[[bytes, bool], Any]


def _drop(_data: bytes, _is_text: bool) -> None:
    """The receiver of a connection that nobody listens to."""


class DirectConnection(Connection):
    """Mix this in before ServerConnection or ClientConnection. `gather` is told of every read.

    Do not `send` an iterable: `send_now` would write into the middle of that message.
    """

    # With 30 attributes, an object of CPython gets a dictionary of its own: 1.6 kB instead of 0.3. The library has 25.
    __slots__ = (
        "_closing",
        "_fragments",
        "_head",
        "_is_client",
        "_is_lost",
        "_is_raw",
        "_is_text",
        "_keys",
        "_outcome",
        "_receiver",
        "_rest",
        "_to_come",
        "gather",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gather: Gather | None = None
        # Not by the class: a gateway would load the client and all that it needs, half a megabyte.
        self._is_client = self.protocol.side is CLIENT
        # The beginning of an incomplete HTTP head; None after the head.
        self._head: bytes | None = b""
        # The answer was no 101: all bytes go to the library unread.
        self._is_raw = False
        # The beginning of an incomplete frame head; and how many bytes a frame lacks whose beginning the library has.
        self._rest = b""
        self._to_come = 0
        # Set by `receive_each`.
        self._receiver: Receiver | None = None
        self._outcome: asyncio.Future[Any] | None = None
        # The fragments of an unfinished message, None outside of a message; and whether it is text.
        self._fragments: list[bytes] | None = None
        self._is_text = True
        self._keys = b""
        # The rest of a closing handshake, for which the receiving does not wait.
        self._closing: asyncio.Task[None] | None = None
        self._is_lost = False

    async def receive_each(self, receiver: Receiver) -> Any:
        """Hand each message to `receiver` as it is read, until `receiver` returns something. Returns that.

        Raises ConnectionClosed as soon as the connection closes or fails, and whatever `receiver` raises. The rest of
        the closing handshake proceeds by itself, for at most `close_timeout`. Messages that arrive later are dropped.
        """
        self._outcome = asyncio.get_running_loop().create_future()
        # Nobody reads the headers now; they would occupy 3 to 7 kB for the whole call.
        for head in (self.request, self.response):
            if head is not None:
                head.headers.clear()
        try:
            # Earlier messages wait in the library; `recv` returns them at once.
            while len(self.recv_messages.frames) and not self._outcome.done():
                message = await self.recv()
                self._receiver = receiver
                if isinstance(message, str):
                    self._hand_over(message.encode(), True)
                else:
                    self._hand_over(message, False)
                del message
                self._receiver = None
            self._receiver = receiver
            # Lists, which serve the library as well here: an empty deque has 760 bytes.
            self.drain_waiters = list(self.drain_waiters)  # type: ignore[assignment]
            self.recv_messages.frames.queue = []  # type: ignore[assignment]
            if self.protocol.state is not OPEN:
                self._closes()
            return await self._outcome
        finally:
            # The library's connection is a reference cycle. Cut the call off it, so that only the rest waits for the
            # collector.
            self._receiver, self._outcome, receiver = _drop, None, _drop

    def send_now(self, data: bytes) -> None:
        """Send a text message. Never waits; does nothing on a connection that is not open."""
        if self.protocol.state is OPEN:
            self.transport.write(self.frame(data))

    def send_all(self, messages: Iterable[bytes]) -> None:
        """Send text messages with one write. Never waits; does nothing on a connection that is not open."""
        if self.protocol.state is OPEN:
            self.transport.write(b"".join([self.frame(data) for data in messages]))

    def frame(self, data: bytes) -> bytes:
        """`data` as one text frame, as this end sends it."""
        size = len(data)
        mask_bit = _MASKED if self._is_client else 0
        if size < _LENGTH_16:
            head = bytes((_TEXT, mask_bit | size))
        elif size < 65_536:
            head = bytes((_TEXT, mask_bit | _LENGTH_16, size >> 8, size & 0xFF))
        else:
            head = bytes((_TEXT, mask_bit | _LENGTH_64)) + size.to_bytes(8)
        if not self._is_client:
            return head + data
        if not self._keys:
            self._keys = os.urandom(4 * _KEYS)
        key, self._keys = self._keys[:4], self._keys[4:]
        return head + key + apply_mask(data, key)

    # --- reading ---

    def data_received(self, data: bytes) -> None:
        if self.gather is not None:
            self.gather.served()
        if self._receiver is not None and not (self._rest or self._to_come or self._is_raw):
            # No bytes of an earlier read are left.
            at = self._read_frames(data)
            if at < len(data):
                self._rest = data[at:]
            return
        if self._is_raw:
            super().data_received(data)
            return
        if self._head is not None:
            data = self._after_head(data)
            if not data:
                return
        if self._to_come:
            self._give_to_library(data[: self._to_come])
            data, self._to_come = data[self._to_come :], max(0, self._to_come - len(data))
        if data:
            if self._rest:
                data = self._rest + data
            self._rest = data[self._read_frames(data) :]

    def _after_head(self, data: bytes) -> bytes:
        """Feed the HTTP head to the library. Returns the frames that follow it, if the handshake succeeded."""
        assert self._head is not None
        so_far = self._head + data
        end = so_far.find(b"\r\n\r\n")
        if end < 0:
            self._head = so_far
            super().data_received(data)
            return b""
        split = end + 4 - len(self._head)
        self._head = None
        super().data_received(data[:split])
        # An answer other than 101 may have a body.
        self._is_raw = self._is_client and self.protocol.state is not OPEN
        if self._is_raw:
            super().data_received(data[split:])
            return b""
        return data[split:]

    def _read_frames(self, data: bytes) -> int:
        """Take all frames. Returns where the first incomplete head begins."""
        at, end = 0, len(data)
        masked = 0 if self._is_client else _MASKED
        limit = self.protocol.max_size or sys.maxsize
        while end - at >= 2:
            second = data[at + 1]
            size = second & _LENGTH
            body = at + 2
            if size == _LENGTH_16:
                size = int.from_bytes(data[body : body + 2])
                body += 2
            elif size == _LENGTH_64:
                size = int.from_bytes(data[body : body + 8])
                body += 8
            if second & _MASKED:
                body += 4
            if body > end:
                return at
            following = body + size
            if (
                following <= end
                and data[at] == _TEXT
                and second & _MASKED == masked
                and size <= limit
                and self._receiver is not None
                and self._fragments is None
                and self.protocol.state is OPEN
            ):
                text = data[body:following]
                self.text_received(apply_mask(text, data[body - 4 : body]) if masked else text)
            else:
                self._to_come = max(0, following - end)
                self._give_to_library(data[at:following])
            at = following
        return min(at, end)

    def _give_to_library(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None:
            self._closes()

    def eof_received(self) -> None:
        super().eof_received()
        # The transport now closes by itself, after the peer has taken the waiting bytes.
        self._closes()

    def _closes(self) -> None:
        """End the receiving: the connection closes. A peer that never completes the closing cannot prolong it."""
        outcome, protocol = self._outcome, self.protocol
        if outcome is None or outcome.done():
            return
        rcvd, sent = protocol.close_rcvd, protocol.close_sent
        is_ok = rcvd is not None and sent is not None and {rcvd.code, sent.code} <= OK_CLOSE_CODES
        kind = ConnectionClosedOK if is_ok else ConnectionClosedError
        # The same as `protocol.close_exc`, which exists only after the closing handshake.
        exc = kind(rcvd, sent, protocol.close_rcvd_then_sent)
        exc.__cause__ = protocol.parser_exc
        outcome.set_exception(exc)
        if not self._is_lost:
            self._closing = asyncio.get_running_loop().create_task(self.close())

    def text_received(self, data: bytes) -> None:
        """A text message that came in one frame. Whether it is valid UTF-8 is not checked yet."""
        self._hand_over(data, True)

    def process_event(self, event: Event) -> None:
        """The library parsed a frame. With a receiver, data frames are put together here."""
        if self._receiver is None or not isinstance(event, Frame) or event.opcode > Opcode.BINARY:
            super().process_event(event)
            return
        if event.opcode is not Opcode.CONT:
            self._is_text = event.opcode is Opcode.TEXT
        if self._fragments is None:
            self._fragments = []
        if event.data:
            # Empty fragments are allowed without limit, and add nothing to the size.
            self._fragments.append(bytes(event.data))
        if event.fin:
            data, self._fragments = b"".join(self._fragments), None
            self._hand_over(data, self._is_text)

    def _hand_over(self, data: bytes, is_text: bool) -> None:
        outcome, receiver = self._outcome, self._receiver
        if outcome is None or receiver is None or outcome.done():
            return
        if not data.isascii() and is_text:
            try:
                data.decode()
            except UnicodeDecodeError as exc:
                # Section 8.1, as the library answers it in `recv`.
                self.protocol.fail(CloseCode.INVALID_DATA, f"{exc.reason} at position {exc.start}")
                self.send_data()
                self._closes()
                return
        try:
            result = receiver(data, is_text)
        except Exception as exc:
            outcome.set_exception(exc)
            return
        if result is not None and not outcome.done():
            outcome.set_result(result)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._is_lost = True
        self._closes()
