"""What the kernel alone takes on this machine for the sockets and the wake-ups of a call, in microseconds.

No program in user space can be cheaper than that with one system call for each frame.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import Final

# A frame as Twilio's media message, with its WebSocket header.
_MESSAGE: Final = bytes(330)
_TIMES: Final = 4_000
# Messages in the socket before they are read.
_BATCH: Final = 20
_WAKES: Final = 500


@dataclass(frozen=True)
class Floor:
    """Microseconds of CPU time of one system call, its way through TCP on loopback included; and of one wake-up."""

    write_us: float
    read_us: float
    wake_us: float

    def call_second_ms(self, talk_share: float) -> float:
        """The sockets of one second of a call: 50 frames are read, 50 go to the model, the AI's are written."""
        return (50 * self.read_us + (50 + 50 * talk_share) * self.write_us) / 1_000


def measure() -> Floor:
    write_us, read_us = _sockets()
    return Floor(write_us, read_us, _wake())


def _sockets() -> tuple[float, float]:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as near:
        far, _ = listener.accept()
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with far:
            writing = reading = 0
            for _ in range(_TIMES // _BATCH):
                begun = time.thread_time_ns()
                for _ in range(_BATCH):
                    near.send(_MESSAGE)
                written = time.thread_time_ns()
                for _ in range(_BATCH):
                    far.recv(len(_MESSAGE))
                writing += written - begun
                reading += time.thread_time_ns() - written
    return writing / _TIMES / 1_000, reading / _TIMES / 1_000


def _wake() -> float:
    """A thread that waits for a byte, with a pause of 2 ms before each: its caches are as cold as in a call."""
    reader, writer = os.pipe()
    spent: list[float] = []

    def sleeper() -> None:
        begun = time.thread_time_ns()
        while os.read(reader, 1) != b".":
            pass
        spent.append((time.thread_time_ns() - begun) / _WAKES / 1_000)

    thread = threading.Thread(target=sleeper)
    thread.start()
    for _ in range(_WAKES):
        time.sleep(0.002)
        os.write(writer, b"x")
    os.write(writer, b".")
    thread.join()
    os.close(reader)
    os.close(writer)
    return spent[0]
