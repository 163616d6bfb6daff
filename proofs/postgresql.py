"""A real PostgreSQL that proofs and tests start and stop."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url


def find_postgres() -> Path | None:
    """The directory with initdb and pg_ctl: Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))


class Postgres:
    """A cluster in a temporary directory and on a port of its own, as user postgres, because it refuses root.

    `host` is the address that it listens on; the machines of the same /24 may connect without a password.
    """

    def __init__(self, binaries: Path, host: str = "127.0.0.1") -> None:
        self._binaries, self._host = binaries, host
        memory = Path("/dev/shm")
        in_memory = memory if os.access(memory, os.W_OK) else None
        self._directory = Path(tempfile.mkdtemp(prefix="twentyms-pg-", dir=in_memory))
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if _is_root() else []
        if _is_root():
            shutil.chown(self._directory, "postgres", "postgres")
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.port: int = probe.getsockname()[1]
        self._run("initdb", "--no-sync", "--auth=trust", "--username=test", "-D", str(self._directory / "data"))
        if host != "127.0.0.1":
            with (self._directory / "data/pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {host}/24 trust\n")
        self._databases = 0
        self.start()

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses={self._host} -c unix_socket_directories={self._directory} -c fsync=off"
        )
        log = str(self._directory / "log")
        self._run("pg_ctl", "-D", str(self._directory / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._directory / "data"), "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    def new_database(self, template: URL | None = None) -> URL:
        """An empty database, or a copy of one that nobody is connected to."""
        self._databases += 1
        name = f"calls_{self._databases}"
        url = make_url(f"postgresql+psycopg://test@{self._host}:{self.port}/postgres")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            copied = f" TEMPLATE {template.database}" if template is not None else ""
            connection.execute(text(f"CREATE DATABASE {name}{copied}"))
        engine.dispose()
        return url.set(database=name)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._binaries / program), *arguments]
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=50, check=False)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode()} {done.stdout.decode()}")


def _is_root() -> bool:
    return os.getuid() == 0
