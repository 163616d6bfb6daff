"""A TLS proxy on the path: HAProxy twice, one that speaks TLS for the carrier and one that ends it before the server.

What lies between the two carries TLS, as the path between Twilio and a server does. The ending proxy reads at once and
keeps what the server writes: the server's socket shows nothing of the path.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared.process import ConfigError, die_with_parent

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
  bind {host}:{port} {bind}
  server next {next_host}:{next_port} {server}
"""
_CERTIFICATE: Final = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
    *("-subj", "/CN=localhost", "-keyout", "tls.key", "-out", "tls.crt"),
)


def missing() -> str:
    """What this machine lacks for a TLS proxy; "" when nothing."""
    lack = [program for program in ("haproxy", "openssl") if shutil.which(program) is None]
    return f"a TLS proxy needs {' and '.join(lack)} (Debian: apt install {' '.join(lack)})" if lack else ""


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def ends_tls(directory: Path, listen: tuple[str, int], to: tuple[str, int]) -> Iterator[int]:
    """Accept TLS at `listen` and hand on plain bytes, as the proxy in front of a server does. Yields its pid.

    Makes a certificate in `directory`. Raises ConfigError where HAProxy or openssl is missing, or does not start.
    """
    if lack := missing():
        raise ConfigError(lack)
    subprocess.run(_CERTIFICATE, cwd=directory, check=True, capture_output=True)
    pem = directory / "tls.pem"
    pem.write_text((directory / "tls.crt").read_text() + (directory / "tls.key").read_text())
    with _haproxy(directory, "ends-tls", "http", listen, to, bind=f"ssl crt {pem}") as pid:
        yield pid


@contextlib.contextmanager
def speaks_tls(directory: Path, listen: tuple[str, int], to: tuple[str, int], *, namespace: str = "") -> Iterator[int]:
    """Accept plain bytes at `listen` and hand them on in TLS, as a carrier would send them. Yields its pid.

    `namespace`: the network namespace in which it runs. Raises ConfigError where HAProxy is missing, or does not start.
    """
    if lack := missing():
        raise ConfigError(lack)
    with _haproxy(directory, "speaks-tls", "tcp", listen, to, server="ssl verify none", namespace=namespace) as pid:
        yield pid


@contextlib.contextmanager
def _haproxy(
    directory: Path,
    name: str,
    mode: str,
    listen: tuple[str, int],
    to: tuple[str, int],
    *,
    bind: str = "",
    server: str = "",
    namespace: str = "",
) -> Iterator[int]:
    config = directory / f"{name}.cfg"
    (host, port), (next_host, next_port) = listen, to
    config.write_text(
        _CONFIG.format(
            mode=mode,
            name=name,
            host=host,
            port=port,
            bind=bind,
            next_host=next_host,
            next_port=next_port,
            server=server,
        )
    )
    # `ip netns exec` becomes the program that it runs, so the pid is HAProxy's.
    inside = ("ip", "netns", "exec", namespace) if namespace else ()
    command = [*inside, "haproxy", "-db", "-q", "-f", str(config)]
    process = subprocess.Popen(command, preexec_fn=die_with_parent)
    try:
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline and process.poll() is None:
            if _answers(listen, namespace):
                break
            time.sleep(0.05)
        else:
            raise ConfigError(f"haproxy did not start with {config}")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _answers(address: tuple[str, int], namespace: str) -> bool:
    if namespace:
        # A listening socket there is seen by its own namespace alone.
        command = ["ip", "netns", "exec", namespace, "ss", "-Hltn", f"sport = :{address[1]}"]
        return bool(subprocess.run(command, capture_output=True, check=False).stdout.strip())
    with contextlib.suppress(OSError), socket.create_connection(address, 0.2):
        return True
    return False
