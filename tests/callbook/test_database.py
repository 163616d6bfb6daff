"""The schema on both databases: migrations in both directions, and equal to the models."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from callbook.database import (
    SQLITE_CONNECTIONS_MAX,
    VERSION_TABLE,
    bring_up_to_date,
    migrate,
    open_engine,
    reading,
    url_of,
)
from callbook.models import Base
from shared.process import ConfigError
from shared.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]


def tables(engine):
    return set(inspect(engine).get_table_names())


def test_migrations_go_from_empty_to_head_and_back(empty):
    assert tables(empty) == set()
    migrate(empty)
    assert tables(empty) == {*Base.metadata.tables, "alembic_version"}
    migrate(empty, "base")
    assert tables(empty) == {"alembic_version"}
    migrate(empty)
    migrate(empty)


def test_the_migrations_make_the_tables_of_the_models(engine):
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_child_migrates_an_empty_database_and_a_current_one_needs_none(empty, monkeypatch):
    bring_up_to_date(empty)
    assert tables(empty) == {*Base.metadata.tables, VERSION_TABLE}
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a child was started"))
    bring_up_to_date(empty)


def test_a_schema_of_a_later_version_is_an_error_of_the_database(empty, capfd):
    migrate(empty)
    with empty.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SQLAlchemyError, match="could not be migrated"):
        bring_up_to_date(empty)
    assert capfd.readouterr().err == "callbook: the schema cannot be migrated (CommandError)\n"


def test_a_schema_that_cannot_be_migrated_is_an_error_of_the_database(empty, capfd):
    with empty.begin() as connection:
        connection.execute(text("CREATE TABLE calls (mine INTEGER)"))
    with pytest.raises(SQLAlchemyError, match="could not be migrated"):
        bring_up_to_date(empty)
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_a_database_that_cannot_keep_records_is_refused_in_one_line(url):
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        url_of(read_settings(database_url=url))


@pytest.mark.parametrize("url", ["postgresql://u:p@ss:w0rd@host/db", "postgresql://u:hunter2:x@h:y/db"])
def test_a_password_that_breaks_the_url_is_not_shown(url):
    with pytest.raises(ConfigError, match="DATABASE_URL is not a URL") as caught:
        url_of(read_settings(database_url=url))
    assert caught.value.__suppress_context__
    assert "w0rd" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_error_does_not_quote_the_values_of_its_statement(engine):
    with pytest.raises(SQLAlchemyError) as caught, engine.connect() as connection:
        connection.execute(text("SELECT * FROM nothing WHERE words = :words"), {"words": "what a caller says"})
    assert "what a caller says" not in str(caught.value)


def test_the_driver_in_a_database_url_is_replaced_by_ours():
    url = url_of(read_settings(database_url="postgresql://u:p@h/n"))
    assert url.drivername == "postgresql+psycopg"
    assert url_of(read_settings()).database == "data/calls.db"


def test_a_database_that_is_down_is_named_by_host_and_port_and_never_by_its_password():
    settings = read_settings(database_url="postgresql://user:hunter2@127.0.0.1:1/db")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1 does not answer") as caught, reading(settings) as session:
        session.execute(text("SELECT 1"))
    assert "hunter2" not in str(caught.value)
    assert "user" not in str(caught.value)


def test_missing_records_are_named_by_their_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=str(tmp_path / "data" / "calls.db")), reading(read_settings()):
        pass


@pytest.mark.parametrize("verb", [["calls"], ["timeline", "CA1"]])
def test_a_reader_at_a_terminal_sees_no_log_line_of_a_library(tmp_path, verb):
    command = [sys.executable, "-m", "twentyms", *verb]
    env = {**os.environ, "DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "calls.db") in done.stderr


def test_readers_beside_the_writer_leave_one_connection_open(tmp_path):
    engine = open_engine(make_url(f"sqlite:///{tmp_path / 'calls.db'}"))
    opened, closed = [], []
    event.listen(engine, "connect", lambda *_: opened.append(1))
    event.listen(engine, "close", lambda *_: closed.append(1))
    with engine.connect(), engine.connect(), engine.connect():
        assert len(opened) == 3
    assert len(opened) - len(closed) == 1
    engine.dispose()


def test_a_sqlite_file_is_open_no_more_often_than_connections_were_open_at_once(tmp_path):
    engine = open_engine(url_of(read_settings(data_dir=tmp_path)))
    together = threading.Barrier(SQLITE_CONNECTIONS_MAX)

    def read(_):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            together.wait(5)

    with ThreadPoolExecutor(SQLITE_CONNECTIONS_MAX) as threads:
        for _ in range(20):
            list(threads.map(read, range(SQLITE_CONNECTIONS_MAX)))
    held = [fd for fd in Path("/proc/self/fd").iterdir() if fd.resolve() == tmp_path / "calls.db"]
    assert len(held) == SQLITE_CONNECTIONS_MAX
    engine.dispose()
