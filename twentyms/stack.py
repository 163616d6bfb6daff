"""The whole pipeline with the simulated model, while a `with` block lasts: for `demo`, `run`, tests and benchmarks."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from shared.liveness import HONCHO_KILL_S
from shared.process import ConfigError, die_with_parent
from shared.settings import SIMULATED

from .here import PROCFILE
from .here import SOURCE as ROOT

# Five Python processes import their libraries at the same time: 3 s on an idle machine with two cores.
START_S: Final = 60.0
# honcho kills its processes HONCHO_KILL_S after the first one ended.
STOP_S: Final = 2 * HONCHO_KILL_S


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """GET in plain text; status 0 when nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


class Stack:
    """A context manager: model server and pipeline are ready inside the block, and gone after it.

    `env` adds to (and overrides) the environment of all processes. They read the `.env` of `directory`; without a
    `directory` they read none, because a simulated call must not use the settings of the real ones. `model` are
    arguments of simulator.model.server; None: `env` names another model. `supervised`: under supervisord as in
    production, two processes of each kind, and a process that dies is started again. `log` takes what the processes
    print; None: this terminal.

    Raises ConfigError when a process does not come up; the text ends with the last lines of `log`.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        model: tuple[str, ...] | None = (),
        processes: tuple[str, ...] = (),
        supervised: bool = False,
        log: Path | None = None,
        directory: Path | None = None,
    ) -> None:
        self.model_port = free_port()
        self.gateway_port = free_port()
        self.auth_token = secrets.token_hex(16)
        memory = Path("/dev/shm")
        self.run_dir = Path(tempfile.mkdtemp(prefix="twentyms-", dir=memory if os.access(memory, os.W_OK) else None))
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "RUN_DIR": str(self.run_dir),
            "DATA_DIR": str(self.run_dir / "data"),
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.gateway_port),
            "METRICS_PORT": str(free_port()),
            "PUBLIC_URL": f"http://127.0.0.1:{self.gateway_port}",
            "TWILIO_AUTH_TOKEN": self.auth_token,
            "OPENAI_API_KEY": "sk-simulated",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{self.model_port}/v1",
            # Records name it. It gets the session of a model that reasons.
            "OPENAI_REALTIME_MODEL": f"gpt-realtime-2.1{SIMULATED}",
            "NO_PROXY": "127.0.0.1,localhost",
            **(env or {}),
        }
        self.gateway_port = int(self.env["GATEWAY_PORT"])
        self._directory = directory or self.run_dir
        self._model_arguments = model
        self._processes = processes
        self._supervised = supervised
        self._log_path = log
        self._log: IO[bytes] | None = None
        # The files that the stopped pipeline left in its run directory, without callbook's data.
        self.left: tuple[str, ...] = ()
        # From the start of the supervisor until the gateway was ready.
        self.ready_s = 0.0
        self._model: subprocess.Popen[bytes] | None = None
        self._honcho: subprocess.Popen[bytes] | None = None

    @property
    def model_pid(self) -> int:
        """0 before the start."""
        return self._model.pid if self._model is not None else 0

    @property
    def webhook_url(self) -> str:
        return f"{self.env['PUBLIC_URL']}/twilio/voice"

    @property
    def pipeline_pid(self) -> int:
        """honcho's, whose children are the processes of the Procfile."""
        assert self._honcho is not None
        return self._honcho.pid

    def __enter__(self) -> Stack:
        if self._log_path is not None:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            # supervisord opens the file again for each process, so each appends.
            self._log_path.unlink(missing_ok=True)
            self._log = self._log_path.open("ab")
        try:
            if self._model_arguments is not None:
                self._model = self._start(
                    "-m", "simulator.model.server", "--port", str(self.model_port), *self._model_arguments
                )
                self._wait_for(self.model_port, "/healthz", self._model)
            begun = time.monotonic()
            if self._supervised:
                self._honcho = self._start("-m", "supervisor.supervisord", "-c", f"{ROOT}/deploy/supervisord.conf")
            else:
                where = ("-f", str(PROCFILE), "-d", str(self._directory))
                self._honcho = self._start("-m", "honcho", "start", "-e", os.devnull, *where, *self._processes)
            self._wait_for(self.gateway_port, "/readyz", self._honcho)
            self.ready_s = time.monotonic() - begun
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def sessions(self, call_sid: str) -> list[dict[str, Any]]:
        """The model server's records of a call."""
        found: list[dict[str, Any]] = json.loads(get(self.model_port, f"/simulator/sessions?request_id={call_sid}")[1])
        return found

    def wait(self) -> int:
        """Wait for the pipeline to end by itself; returns its exit status."""
        assert self._honcho is not None
        return self._honcho.wait()

    def stop(self) -> None:
        """Ask, wait, kill: pipeline first, model last."""
        for process in (self._honcho, self._model):
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()
        data = Path(self.env["DATA_DIR"])
        self.left = tuple(
            str(path.relative_to(self.run_dir))
            for path in sorted(self.run_dir.rglob("*"))
            if path.is_relative_to(self.run_dir) and not path.is_relative_to(data) and not path.is_dir()
        )
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self._directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            # A closed terminal or a SIGKILL of this process must not leave the pipeline running.
            preexec_fn=die_with_parent,
            # Ctrl-C reaches this process alone, which then stops pipeline and model in order.
            start_new_session=True,
        )

    def _wait_for(self, port: int, path: str, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while get(port, path)[0] != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ConfigError(f"the pipeline did not come up{self._last_words()}")
            time.sleep(0.05)

    def _last_words(self) -> str:
        if self._log_path is None:
            return ""
        lines = self._log_path.read_text(errors="replace").splitlines()
        return f"; {self._log_path} ends with:\n" + "\n".join(lines[-8:])
