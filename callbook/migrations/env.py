"""Run by Alembic: over callbook's own connection, or over DATABASE_URL when the `alembic` command is used by hand."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from callbook.database import open_engine, url_of
from callbook.models import Base
from shared.settings import load

# Two cells that share a PostgreSQL and start together: one migrates, the other one waits. Any number will do.
_LOCK = 20_026_112_205


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    with open_engine(url_of(load())).connect() as own:
        _run(own)
        own.commit()
