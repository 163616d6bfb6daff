"""Databases for the tests: SQLite in a file, and a real PostgreSQL that the tests start and stop."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url

from callbook.core.prices import Prices
from callbook.database import migrate, open_engine
from callbook.records import Records


def find_postgres() -> Path | None:
    """The directory with initdb and pg_ctl: Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))


class Postgres:
    """A cluster in a temporary directory and on a port of its own, as user postgres, because it refuses root."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        memory = Path("/dev/shm")
        in_memory = memory if os.access(memory, os.W_OK) else None
        self._directory = Path(tempfile.mkdtemp(prefix="twentyms-pg-", dir=in_memory))
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if _is_root() else []
        if _is_root():
            shutil.chown(self._directory, "postgres", "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._run("initdb", "--no-sync", "--auth=trust", "--username=test", "-D", str(self._directory / "data"))
        self._databases = 0
        self.start()

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._directory} -c fsync=off"
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
        url = make_url(f"postgresql+psycopg://test@127.0.0.1:{self.port}/postgres")
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    binaries = find_postgres()
    if binaries is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: apt-get install postgresql")
        warnings.warn("PostgreSQL is not installed, so half of callbook's tests are skipped", stacklevel=1)
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    cluster = Postgres(binaries)
    try:
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _new(request: pytest.FixtureRequest, kind: str, file: Path, template: URL | None = None) -> URL:
    if kind == "postgresql":
        cluster: Postgres = request.getfixturevalue("postgres")
        return cluster.new_database(template)
    if template is not None:
        shutil.copyfile(str(template.database), file)
    return URL.create("sqlite", database=str(file))


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> URL:
    """An empty database."""
    return _new(request, kind, tmp_path / "calls.db")


@pytest.fixture
def empty(url: URL) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def migrated() -> dict[str, URL]:
    """A database of each kind with the current schema, to be copied: migrating takes several times as long."""
    return {}


@pytest.fixture
def engine(
    request: pytest.FixtureRequest,
    kind: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    migrated: dict[str, URL],
) -> Iterator[Engine]:
    """A database with the current schema."""
    if kind not in migrated:
        migrated[kind] = _new(request, kind, tmp_path_factory.mktemp("migrated") / "calls.db")
        first = open_engine(migrated[kind])
        migrate(first)
        first.dispose()
    engine = open_engine(_new(request, kind, tmp_path / "calls.db", migrated[kind]))
    yield engine
    engine.dispose()


@pytest.fixture
def records() -> Records:
    return Records(prices=Prices(""), deliveries=False, cell="cell-of-the-tests")


@pytest.fixture
def wait_until() -> object:
    def wait(condition: object, timeout_s: float = 20.0) -> None:
        assert callable(condition)
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)

    return wait
