"""The database of DATABASE_URL: SQLite in one file, or PostgreSQL. callbook and `twentyms calls` open it.

Every function here may block for seconds, so it is called in threads, and in no other process.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from shared.process import ConfigError
from shared.settings import Settings

# Where Alembic notes the revision of the schema.
VERSION_TABLE: Final = "alembic_version"
MIGRATIONS: Final = Path(__file__).with_name("migrations")
# How long a statement may wait for another process's lock, and a connection for a server. Then it is retried.
LOCK_S: Final = 5
CONNECT_S: Final = 5
# A statement takes milliseconds. A server that hangs is given up, and the statement is retried over a new connection.
STATEMENT_S: Final = 30
# To a file at once. One stays open; others, for readers beside the writer, are closed after use. As long as one is
# open, SQLite keeps the descriptors of closed ones for the next ones (os_unix.c, setPendingFd): this bounds them, too.
SQLITE_CONNECTIONS_MAX: Final = 5


def url_of(settings: Settings) -> URL:
    """DATABASE_URL, or calls.db in DATA_DIR. Raises ConfigError for a database that is neither of the two kinds."""
    if not settings.database_url:
        return URL.create("sqlite", database=str(settings.data_dir / "calls.db"))
    advice = "set it to postgresql://user:password@host/name or sqlite:///file"
    try:
        url = make_url(settings.database_url)
    except (ArgumentError, ValueError):
        # ValueError: a password with a colon, whose rest is taken for a port and would be quoted.
        raise ConfigError(f"DATABASE_URL is not a URL; {advice}") from None
    if url.get_backend_name() in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        return url
    raise ConfigError(f"DATABASE_URL names {url.drivername}, which is not supported; {advice}")


def place(url: URL) -> str:
    """The place of the database, for people: its file, or host and port. Never a user or a password."""
    if url.get_backend_name() == "sqlite":
        return str(Path(url.database or "").absolute())
    return f"{url.host or url.query.get('host') or 'a local socket'}:{url.port or 5432}"


@contextmanager
def reading(settings: Settings) -> Iterator[Session]:
    """A session for a reader at a terminal. Raises ConfigError when there is no database to read."""
    url = url_of(settings)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise ConfigError(
            f"there are no records at {place(url)}: callbook makes them at its first start; if twentyms runs in "
            "another directory, go there or set DATA_DIR"
        )
    engine = open_engine(url)
    try:
        with Session(engine) as session:
            yield session
    except SQLAlchemyError as exc:
        raise ConfigError(
            f"the database at {place(url)} does not answer ({type(exc).__name__}); look at DATABASE_URL"
        ) from None
    finally:
        engine.dispose()


def open_engine(url: URL) -> Engine:
    """An engine that connects on demand, so this works while the database is down."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=1,
            max_overflow=SQLITE_CONNECTIONS_MAX - 1,
            connect_args={"timeout": LOCK_S},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    return create_engine(
        url,
        # An error's text quotes a statement's values otherwise: what callers said, and their numbers.
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=3,
        max_overflow=2,
        pool_timeout=CONNECT_S,
        connect_args={
            "connect_timeout": CONNECT_S,
            "options": f"-c statement_timeout={STATEMENT_S}s -c lock_timeout={LOCK_S}s",
            # A server whose machine vanished is noticed after 20 s instead of two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 2,
            "tcp_user_timeout": 20_000,
        },
    )


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    # Readers and the writer do not wait for each other.
    cursor.execute("PRAGMA journal_mode=WAL")
    # What was committed survives a power cut: the spool forgets it then.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # kB. The default of 2 MB would be the memory of twenty calls.
    cursor.execute("PRAGMA cache_size=-500")
    cursor.close()


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to `revision`; "base" removes everything. Raises SQLAlchemyError."""
    # It reports each plugin and each look at the schema at INFO.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        if revision == "base":
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
        connection.commit()


def bring_up_to_date(engine: Engine) -> None:
    """Migrate unless the revision is the newest, in a child, because Alembic takes 11 MB. Raises SQLAlchemyError."""
    with engine.connect() as connection:
        has_revision = inspect(connection).has_table(VERSION_TABLE)
        query = text(f"SELECT version_num FROM {VERSION_TABLE}")
        found = connection.execute(query).scalar_one_or_none() if has_revision else None
    if found == newest_revision():
        return
    done = subprocess.run(
        [sys.executable, "-m", "callbook.migrations"],
        # Not as an argument, which other users can read: it may hold a password.
        input=engine.url.render_as_string(hide_password=False),
        text=True,
        check=False,
    )
    if done.returncode:
        raise SQLAlchemyError("the schema could not be migrated")


def newest_revision() -> str:
    """The number of the last file of migrations/versions; each follows the one before."""
    return max(path.name.partition("_")[0] for path in MIGRATIONS.glob("versions/[0-9]*.py"))


def blames_the_fact(exc: BaseException) -> bool:
    """Whether the database is up and refuses the fact itself: a retry would not help."""
    return not _is_sqlalchemy(exc) or isinstance(exc, DataError | IntegrityError)


def _is_sqlalchemy(exc: BaseException) -> bool:
    return any(kind.__module__.startswith("sqlalchemy") for kind in type(exc).__mro__)
