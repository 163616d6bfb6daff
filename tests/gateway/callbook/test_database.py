"""The schema: from nothing to today and back, the same as the models, on both databases."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from gateway.callbook.database import migrate, url_of
from gateway.callbook.models import Base
from shared.process import ConfigError
from shared.settings import Settings


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


def test_the_migrations_make_what_the_models_say(engine):
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_a_database_that_cannot_keep_records_is_refused_in_one_line(url):
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        url_of(Settings(_env_file=None, database_url=url))


def test_the_drivers_are_ours_to_choose():
    url = url_of(Settings(_env_file=None, database_url="postgresql://u:p@h/n"))
    assert url.drivername == "postgresql+psycopg"
    assert url_of(Settings(_env_file=None)).database == "data/calls.db"
