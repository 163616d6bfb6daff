"""A real redis-server on a free port, as the store of STATE_URL: to be stopped, frozen and filled."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from twentyms.stack import free_port

PROGRAM: Final = shutil.which("redis-server")
START_S: Final = 5.0


class RedisServer:
    """Keeps everything in memory: after `kill` and `start` it is empty. `options` are redis-server's."""

    def __init__(self, directory: Path, *options: str, host: str = "127.0.0.1") -> None:
        self._directory, self._options, self._host = directory, options, host
        self.port = free_port()
        self.url = f"redis://{host}:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Returns when the server takes connections. Raises RuntimeError when it does not."""
        if PROGRAM is None:
            raise RuntimeError("redis-server is not installed: apt-get install redis-server")
        where = ["--bind", self._host, "--port", str(self.port), "--dir", str(self._directory)]
        self._process = subprocess.Popen([PROGRAM, *where, "--save", "", *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection((self._host, self.port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        self.kill()
        raise RuntimeError(f"redis-server does not take connections on port {self.port}")

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
