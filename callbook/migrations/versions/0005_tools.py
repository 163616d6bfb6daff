"""A tool's call as a turn"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = ("tool", "arguments", "outcome")


def upgrade() -> None:
    with op.batch_alter_table("turns", schema=None) as batch_op:
        for name in COLUMNS:
            batch_op.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("turns", schema=None) as batch_op:
        for name in COLUMNS:
            batch_op.drop_column(name)
