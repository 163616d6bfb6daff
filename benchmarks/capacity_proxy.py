"""A TLS proxy in front of the gateway: `python -m benchmarks.capacity --tls ordinary`, or `realtime`.

The outer HAProxy stands for Twilio: it runs at a priority above all ordinary processes, like the carrier. The inner one
is the system's: it ends TLS in front of the gateway, with ordinary scheduling or with the gateway's real-time priority.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from shared.isolation import GATEWAY_PRIORITY
from shared.process import ConfigError
from simulator.network.tls import ends_tls, speaks_tls
from twentyms.stack import free_port

from .pacing_run import go_before


@contextlib.contextmanager
def tls_in_front(directory: Path, public_port: int, gateway_port: int, *, realtime: bool) -> Iterator[None]:
    """Carry what arrives at `public_port` through TLS to `gateway_port`.

    Raises ConfigError without haproxy or openssl, and when real-time scheduling is not permitted.
    """
    tls = ("127.0.0.1", free_port())
    with ends_tls(directory, tls, ("127.0.0.1", gateway_port)) as inner_pid:
        if realtime:
            try:
                _each_thread(inner_pid, GATEWAY_PRIORITY)
            except OSError:
                raise ConfigError("--tls realtime needs permission for real-time scheduling") from None
        with speaks_tls(directory, ("127.0.0.1", public_port), tls) as outer_pid:
            for thread in _threads(outer_pid):
                go_before(thread)
            yield


def _threads(pid: int) -> list[int]:
    return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]


def _each_thread(pid: int, priority: int) -> None:
    for thread in _threads(pid):
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
