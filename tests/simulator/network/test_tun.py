"""A path over TUN devices: what it needs, and that TCP crosses it where all of that is there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from shared.process import ConfigError
from simulator.network import tun
from simulator.network.path import PathBehaviour


@pytest.fixture
def permitted(monkeypatch):
    """A machine that permits everything."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    assert tun.missing() == ""
    return monkeypatch


def no_ip(*_: object, **__: object) -> None:
    raise FileNotFoundError("ip")


@pytest.mark.parametrize(
    ("module", "name", "value", "lack"),
    [
        (sys, "platform", "darwin", "are Linux's"),
        (os, "geteuid", lambda: 1_000, "only root"),
        (os, "access", lambda *_: False, "/dev/net/tun"),
        (subprocess, "run", no_ip, "iproute2"),
    ],
)
def test_a_machine_that_lacks_something_says_what_and_names_the_proxy(permitted, module, name, value, lack):
    permitted.setattr(module, name, value)
    assert lack in tun.missing()
    with pytest.raises(ConfigError, match="twentyms simulate network proxy"):
        tun.TunNetwork(PathBehaviour()).__enter__()
    with pytest.raises(ConfigError, match="twentyms simulate network proxy"):
        tun.main([])


@pytest.mark.live
@pytest.mark.skipif(bool(tun.missing()), reason=tun.missing())
def test_tcp_crosses_the_path_in_its_time_and_the_path_counts_its_packets():
    with tun.TunNetwork(PathBehaviour(delay_ms=20), tag=250) as net:
        listener = socket.create_server((net.near, 0))
        taken: list[float] = []

        def dial() -> None:
            tun.enter(net.namespace)
            began = time.monotonic()
            with socket.create_connection(listener.getsockname()):
                taken.append(time.monotonic() - began)

        dialling = threading.Thread(target=dial)
        dialling.start()
        listener.accept()[0].close()
        dialling.join()
        listener.close()
    assert 0.04 <= taken[0] < 1
    assert net.carried.carried >= 3
    assert net.carried.lost == 0
