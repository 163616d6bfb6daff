"""Alembic's home, inside the package so that an installed copy can migrate its database."""
