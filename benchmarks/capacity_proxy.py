"""A TLS proxy in front of the gateway: `python -m benchmarks.capacity --tls ordinary`, or `realtime`.

Two HAProxies run on this machine. The outer one stands for Twilio: it accepts the carrier's plain connections and
speaks TLS, at a priority above all ordinary processes, like the carrier. The inner one is the system's: it ends TLS in
front of the gateway, with ordinary scheduling or with the gateway's real-time priority.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared.isolation import GATEWAY_PRIORITY
from shared.process import ConfigError

from .pacing_run import go_before

_READY_S: Final = 5.0
_CONFIG: Final = """\
global
  maxconn 4000
defaults
  mode {mode}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
listen {name}
  bind 127.0.0.1:{port} {bind}
  server next 127.0.0.1:{next_port} {server}
"""


@contextlib.contextmanager
def tls_in_front(directory: Path, public_port: int, gateway_port: int, *, realtime: bool) -> Iterator[None]:
    """Carry what arrives at `public_port` through TLS to `gateway_port`.

    Raises ConfigError without haproxy or openssl, and when real-time scheduling is not permitted.
    """
    for program in ("haproxy", "openssl"):
        if shutil.which(program) is None:
            raise ConfigError(f"--tls needs {program} (Debian: apt install {program})")
    with socket.create_server(("127.0.0.1", 0)) as free:
        tls_port = free.getsockname()[1]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-keyout", "tls.key", "-out", "tls.crt"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    pem = directory / "tls.pem"
    pem.write_text((directory / "tls.crt").read_text() + (directory / "tls.key").read_text())
    inner = _CONFIG.format(
        mode="http", name="inner", port=tls_port, bind=f"ssl crt {pem}", next_port=gateway_port, server=""
    )
    outer = _CONFIG.format(
        mode="tcp", name="outer", port=public_port, bind="", next_port=tls_port, server="ssl verify none"
    )
    with _haproxy(directory / "inner.cfg", inner, tls_port) as inner_pid:
        if realtime:
            try:
                _each_thread(inner_pid, GATEWAY_PRIORITY)
            except OSError:
                raise ConfigError("--tls realtime needs permission for real-time scheduling") from None
        with _haproxy(directory / "outer.cfg", outer, public_port) as outer_pid:
            for thread in _threads(outer_pid):
                go_before(thread)
            yield


def _threads(pid: int) -> list[int]:
    return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]


def _each_thread(pid: int, priority: int) -> None:
    for thread in _threads(pid):
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))


@contextlib.contextmanager
def _haproxy(path: Path, config: str, port: int) -> Iterator[int]:
    path.write_text(config)
    process = subprocess.Popen(["haproxy", "-db", "-q", "-f", str(path)])
    try:
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.05)
        else:
            raise ConfigError(f"haproxy did not start with {path.name}")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
