"""One child process: its socket, what it prints, and its end. It never makes toolbox wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

from .pipe import BrokenFrameError, Frames, FromChild, Kind, Setup, frame

# What a child prints goes into the log: lines a second, and characters of each. The rest is dropped, and counted.
LINES_MAX: Final = 20
LINE_CHARS_MAX: Final = 500
# Of printed text that is read a second. A child that prints more waits for it, in its own call.
PRINTED_BYTES_MAX: Final = 262_144


class Printed:
    """Lines that a child prints, with a bound each second."""

    def __init__(self, pipe: IO[bytes], on_line: Callable[[str], None]) -> None:
        self._pipe = pipe
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._lines = self._bytes = self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def close(self) -> None:
        """Read what is left, and close the pipe."""
        if self._pipe.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._bytes = 0
        with contextlib.suppress(OSError):
            self._take(os.read(self._pipe.fileno(), 65_536) + b"\n")
        self._loop.remove_reader(self._pipe.fileno())
        self._pipe.close()

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), 65_536)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._pipe.fileno())
            return
        self._take(data)
        if self._timer is None:
            self._timer = self._loop.call_later(1.0, self._next_second)
        if self._bytes > PRINTED_BYTES_MAX:
            self._loop.remove_reader(self._pipe.fileno())

    def _take(self, data: bytes) -> None:
        self._bytes += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        # A line without an end is cut like one with an end.
        self._rest = self._rest[-LINE_CHARS_MAX:]
        for line in filter(None, lines):
            if self._lines < LINES_MAX:
                self._lines += 1
                self._on_line(line[:LINE_CHARS_MAX].decode("utf-8", "replace"))
            else:
                self._dropped += 1

    def _next_second(self) -> None:
        self._timer = None
        if self._dropped:
            self._on_line(f"[{self._dropped} more lines were dropped]")
        if self._bytes > PRINTED_BYTES_MAX:
            self._loop.add_reader(self._pipe.fileno(), self._read)
        self._lines = self._bytes = self._dropped = 0


class Child:
    """Started by its constructor. `on_message` gets what it sends; `on_gone` is called once, when it has ended.

    Bounds: a frame is 1 MB at most; what the child does not read is bounded by its socket's buffer, and a child that
    leaves it full is killed.
    """

    def __init__(
        self,
        kind: Kind,
        setup: Setup,
        env: Mapping[str, str],
        *,
        on_message: Callable[[Any], None],
        on_gone: Callable[[], None],
        on_line: Callable[[str], None],
    ) -> None:
        self._on_message = on_message
        self._on_gone = on_gone
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()
        self._frames = Frames(FromChild)
        self._sock, other = socket.socketpair()
        self._sock.setblocking(False)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "toolbox.runners", kind, str(other.fileno())],
                pass_fds=[other.fileno()],
                # What is printed shall be in the log at once, and also when the child is killed.
                env={**env, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # One signal then reaches what the user's code has started, too.
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self._printed = Printed(self._process.stdout, on_line)
        self._is_gone = False
        self._loop.add_reader(self._sock.fileno(), self._read)
        self.send(setup)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Any) -> None:
        """A child that reads nothing is killed."""
        if self._is_gone:
            return
        data = frame(message)
        try:
            is_sent = self._sock.send(data) == len(data)
        except OSError:
            is_sent = False
        if not is_sent:
            self.kill()

    def close(self) -> None:
        """Let it end by itself: it reads the end of the socket."""
        if not self._is_gone:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End it and all processes of its session. `on_gone` follows."""
        if not self._is_gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            # Something outside of its session may hold the other end.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        try:
            data = self._sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._gone()
            return
        try:
            for message in self._frames.feed(data):
                self._on_message(message)
        except BrokenFrameError as exc:
            self._on_line(f"[killed: it sent what no child sends: {exc}]")
            self.kill()

    def _gone(self) -> None:
        self.kill()
        self._is_gone = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._printed.close()
        self._reap()
        self._on_gone()

    def _reap(self) -> None:
        # It was killed: this takes milliseconds, or as long as the kernel needs.
        if self._process.poll() is None:
            self._loop.call_later(0.01, self._reap)
