"""The machines of a fleet: a network namespace for each cell, a bridge between them, and the services beside it.

A cell's link can be cut, which neither end is told of. Needs Linux, root, `ip` (iproute2), haproxy, redis-server and
PostgreSQL.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from proofs.postgresql import Postgres, find_postgres
from proofs.redis_server import PROGRAM, RedisServer
from shared.process import ConfigError, die_with_parent
from twentyms.stack import START_S, free_port, get

HAPROXY_CONFIG: Final = Path(__file__).parents[2] / "deploy/haproxy/haproxy.cfg"
FALLBACK: Final = HAPROXY_CONFIG.with_name("fallback.http")
CELLS: Final = ("cell-0", "cell-1", "cell-2")
# 198.18.0.0/15 is for tests between networks (RFC 2544): no machine of the user's has an address in it.
_NETWORK: Final = "198.18.77"
HOST: Final = f"{_NETWORK}.254"
_BRIDGE: Final = "twentyms-fleet"
# What docs/fleet.md tells the user to write behind the number's voice URL.
OVERRIDES: Final = "#ct=1000&rc=2&rp=all"


def why_not() -> str:
    """What is missing on this machine for a fleet; empty when nothing is."""
    if os.geteuid() != 0:
        return "a fleet needs root, for its network namespaces"
    missing = [name for name in ("ip", "haproxy") if shutil.which(name) is None]
    missing += [] if PROGRAM else ["redis-server"]
    missing += [] if find_postgres() else ["postgresql"]
    return f"not installed: {', '.join(missing)}" if missing else ""


def _ip(*arguments: str, namespace: str = "") -> None:
    where = ("-n", namespace) if namespace else ()
    subprocess.run(["ip", *where, *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """A bridge with the host on it, and a namespace `CELL` on a link `CELL` for each cell."""
    with contextlib.ExitStack() as cleaning:
        _ip("link", "add", _BRIDGE, "type", "bridge")
        cleaning.callback(_ip, "link", "del", _BRIDGE)
        _ip("addr", "add", f"{HOST}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for number, cell in enumerate(CELLS):
            _ip("netns", "add", cell)
            cleaning.callback(_ip, "netns", "del", cell)
            cleaning.callback(_signal, cell, signal.SIGKILL)
            _ip("link", "add", cell, "type", "veth", "peer", "name", "eth0", "netns", cell)
            # A namespace lives until its last process is gone, and its link with it.
            cleaning.callback(_ip, "link", "del", cell)
            _ip("link", "set", cell, "master", _BRIDGE, "up")
            _ip("addr", "add", f"{address(number)}/24", "dev", "eth0", namespace=cell)
            for name in ("eth0", "lo"):
                _ip("link", "set", name, "up", namespace=cell)
        yield


def _signal(cell: str, number: signal.Signals) -> None:
    """To every process of a namespace, also those that supervisord started."""
    found = subprocess.run(["ip", "netns", "pids", cell], check=True, capture_output=True, text=True)
    for pid in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), number)


def address(number: int) -> str:
    return f"{_NETWORK}.{number + 1}"


class Fleet:
    """A context manager: inside the block three cells take calls at `webhook_url`.

    `env` adds to the settings of every cell, `behaviour` is a file for the simulated model. What they print goes
    to `directory`. Raises ConfigError when something does not come up.
    """

    def __init__(self, directory: Path, *, env: Mapping[str, str] | None = None, behaviour: Path | None = None) -> None:
        self._directory = directory
        self._env = dict(env or {})
        self._behaviour = behaviour
        self._cells: list[subprocess.Popen[str] | None] = [None] * len(CELLS)
        self._closing = contextlib.ExitStack()
        self.auth_token = secrets.token_hex(16)
        self.front_port, self.model_port = free_port(), free_port()
        self.database_url = ""
        self.webhook_url = f"http://127.0.0.1:{self.front_port}/twilio/voice"
        # The number's voice URL.
        self.dialled_url = self.webhook_url + OVERRIDES
        self._haproxies: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Fleet:
        try:
            self._closing.enter_context(_network())
            self.store = RedisServer(self._directory, "--protected-mode", "no", host=HOST)
            self._closing.callback(self.store.kill)
            binaries = find_postgres()
            assert binaries is not None
            database = Postgres(binaries, HOST)
            self._closing.callback(database.remove)
            self.database_url = database.new_database().render_as_string().replace("+psycopg", "")
            self._state_key = base64.b64encode(os.urandom(32)).decode()
            model = ["--behaviour", str(self._behaviour)] if self._behaviour else []
            self._start(
                "model",
                "-m",
                "simulator.model.server",
                "--host",
                HOST,
                "--port",
                str(self.model_port),
                "--keep-input",
                *model,
            )
            self._until("the model", lambda: get(self.model_port, "/healthz", HOST)[0] == 200)
            for number in range(len(CELLS)):
                self.boot(number)
            for number in range(len(CELLS)):
                self.wait_for(number)
            self.start_haproxy()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    # --- cells ---

    def boot(self, number: int) -> None:
        """Start a cell; `wait_for` returns when it takes calls."""
        cell = CELLS[number]
        env = {
            "PUBLIC_URL": f"http://127.0.0.1:{self.front_port}",
            "TWILIO_AUTH_TOKEN": self.auth_token,
            # supervisord's programs are `python`.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "CELL": cell,
            "FLEET": "on",
            "AGENT_CHECK_PORT": "8081",
            "GATEWAY_HOST": "0.0.0.0",
            "GATEWAY_PORT": "8080",
            "METRICS_HOST": "0.0.0.0",
            "METRICS_PORT": "9464",
            "OPENAI_BASE_URL": f"http://{HOST}:{self.model_port}/v1",
            "NO_PROXY": HOST,
            "STATE_URL": self.store.url,
            "STATE_KEY": self._state_key,
            "DATABASE_URL": self.database_url,
            "MAX_CALLS_PER_SOURCE": "1000",
            "DATA_DIR": str(self._directory / cell),
            **self._env,
        }
        log = str(self._directory / f"{cell}.log")
        # `ip netns exec` becomes the program that it runs, so the pid is the cell's.
        process = subprocess.Popen(
            ["ip", "netns", "exec", cell, sys.executable, "-m", "proofs.fleet.cell", log],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        self._closing.callback(self._end, process)
        self._cells[number] = process

    def wait_for(self, number: int) -> None:
        process = self._cells[number]
        assert process is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise ConfigError(f"{CELLS[number]} did not come up; look at {self._directory / CELLS[number]}.log")
        # callbook, which no call waits for, comes last.
        self._until(f"callbook of {CELLS[number]}", lambda: get(9464, "/metrics", address(number))[0] == 200)

    def drain(self, number: int) -> None:
        """As an upgrade does it: the cell gives up its calls and ends. Returns when it has."""
        process = self._cells[number]
        assert process is not None
        process.send_signal(signal.SIGTERM)
        process.wait()

    def cut(self, number: int) -> None:
        """Power off, as its neighbours see it: nothing comes from the cell and nothing reaches it, and no FIN."""
        _ip("link", "set", CELLS[number], "down")

    def mend(self, number: int) -> None:
        _ip("link", "set", CELLS[number], "up")

    def freeze(self, number: int) -> None:
        """Every process of the cell stands still. Its kernel goes on, and takes what is sent."""
        _signal(CELLS[number], signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        _signal(CELLS[number], signal.SIGCONT)

    def kill(self, number: int) -> None:
        """Every process of the cell at once, also its supervisor. Its kernel ends the connections."""
        _signal(CELLS[number], signal.SIGKILL)

    def boot_again(self, number: int) -> None:
        """After `kill`. Returns when the cell takes calls."""
        self.boot(number)
        self.wait_for(number)

    def metric(self, number: int, series: str) -> float:
        """The sum of the series that begin with this name."""
        text = get(9464, "/metrics", address(number))[1].decode()
        return sum(
            float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"twentyms_{series}")
        )

    def sessions(self, call_sid: str) -> bytes:
        return get(self.model_port, f"/simulator/sessions?request_id={call_sid}", HOST)[1]

    # --- HAProxy ---

    def start_haproxy(self, name: str = "haproxy") -> None:
        """A second one, under another name, has the same address: the kernel gives each a share of the connections."""
        env = {f"CELL_{number}": f"{address(number)}:8080" for number in range(len(CELLS))} | {
            "BIND_HTTP": f"127.0.0.1:{self.front_port}",
            "BIND_METRICS": f"127.0.0.1:{free_port()}",
            "STATS_SOCKET": str(self._directory / f"{name}.sock"),
            "FALLBACK": str(FALLBACK),
        }
        # Without the listener that needs a certificate, and with as many connections as this machine permits.
        config = self._directory / "haproxy.cfg"
        lines = HAPROXY_CONFIG.read_text().splitlines(keepends=True)
        text = "".join(line for line in lines if "BIND_HTTPS" not in line)
        config.write_text(text.replace("maxconn 20000", "maxconn 4000"))
        self._haproxies[name] = self._run(name, ["haproxy", "-W", "-db", "-f", str(config)], env)
        self._until("HAProxy's three cells", lambda: self._states(name).count("UP") == len(CELLS))

    def kill_haproxy(self, name: str) -> None:
        """With its workers, which would end a moment after it."""
        process = self._haproxies.pop(name)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in (*map(int, workers), process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()

    def reload_haproxy(self) -> None:
        """A new process takes the listeners; the old one keeps its calls."""
        self._haproxies["haproxy"].send_signal(signal.SIGUSR2)

    def wait_until_up(self, number: int) -> None:
        self._until(f"HAProxy's {CELLS[number]}", lambda: self._states()[number] == "UP")

    def _states(self, name: str = "haproxy") -> list[str]:
        """HAProxy's word on each cell, by its statistics socket: UP, DOWN, DRAIN ..."""
        found = []
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(self._directory / f"{name}.sock"))
            stats.sendall(b"show stat\n")
            text = b"".join(iter(lambda: stats.recv(65_536), b"")).decode()
            rows = [line.split(",") for line in text.splitlines() if line and not line.startswith("#")]
            found = [row[17].split()[0] for row in rows if row[0] == "cells" and row[1] in CELLS]
        return found

    # --- processes ---

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self._run(name, [sys.executable, *arguments], {})

    def _run(self, name: str, command: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        log: IO[bytes] = self._closing.enter_context((self._directory / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            command, env={**os.environ, **env}, stdout=log, stderr=log, preexec_fn=die_with_parent
        )
        self._closing.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.kill()
            process.wait()

    @staticmethod
    def _until(what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not is_so():
            if time.monotonic() > deadline:
                raise ConfigError(f"{what} did not come up")
            time.sleep(0.05)
