"""A TLS proxy on a path: what it needs, and that bytes pass it."""

from __future__ import annotations

import socket
import threading

import pytest

from shared.process import ConfigError
from simulator.network import tls, tun
from simulator.network.path import PathBehaviour
from simulator.network.proxy import ProxyProcess
from simulator.network.tun import TunNetwork, enter


@pytest.fixture
def server():
    """The address of a server that answers one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                # The proxies speak HTTP, as in front of a gateway.
                connection.recv(1_000)
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        serving = threading.Thread(target=serve)
        serving.start()
        yield listener.getsockname()
        serving.join()


def ask(address: tuple[str, int], answers: list[bytes]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answers.append(connection.recv(20))


def test_without_haproxy_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt install haproxy openssl"), tls.ends_tls(tmp_path, ("", 1), ("", 2)):
        pass


@pytest.mark.live
@pytest.mark.skipif(bool(tls.missing()), reason=tls.missing())
def test_a_request_passes_the_proxy_that_stalls_in_tls(server):
    answers: list[bytes] = []
    with ProxyProcess(server, PathBehaviour(delay_ms=5), tls=True) as proxy:
        ask(("127.0.0.1", proxy.port), answers)
    assert answers == [b"HTTP/1.1 204 No Cont"]


@pytest.mark.live
@pytest.mark.skipif(bool(tun.missing() or tls.missing()), reason=tun.missing() or tls.missing())
def test_a_request_crosses_real_tcp_in_tls(server):
    answers: list[bytes] = []
    with TunNetwork(PathBehaviour(delay_ms=5), tag=249, tls_to=server) as net:
        host, _, port = net.tls.partition(":")

        def ask_there() -> None:
            enter(net.namespace)
            ask((host, int(port)), answers)

        asking = threading.Thread(target=ask_there)
        asking.start()
        asking.join()
    assert answers == [b"HTTP/1.1 204 No Cont"]
