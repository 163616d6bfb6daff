"""`python -m callbook.migrations`: migrate the database whose URL stands on standard input. callbook's child."""

from __future__ import annotations

import sys

from alembic.util import CommandError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from callbook.database import migrate, open_engine
from shared.process import die_with_parent


def main() -> int:
    """The exit status."""
    die_with_parent()
    engine = open_engine(make_url(sys.stdin.read()))
    try:
        migrate(engine)
    except (SQLAlchemyError, CommandError) as exc:
        # CommandError: the revision is of a later version. The text of a database's error may quote a row.
        print(f"callbook: the schema cannot be migrated ({type(exc).__name__})", file=sys.stderr)
        return 1
    finally:
        engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
