"""Databases for the tests: SQLite in a file, and a real PostgreSQL that the tests start and stop."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import URL

from callbook.core.prices import Prices
from callbook.database import migrate, open_engine
from callbook.records import Records
from proofs.postgresql import Postgres, find_postgres


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
