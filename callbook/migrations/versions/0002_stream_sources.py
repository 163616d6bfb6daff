"""The process that sent a stream's facts, and the cell of a process"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("sources", schema=None) as batch_op:
        batch_op.add_column(sa.Column("cell", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("streams", schema=None) as batch_op:
        batch_op.add_column(sa.Column("source", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("streams", schema=None) as batch_op:
        batch_op.drop_column("source")
    with op.batch_alter_table("sources", schema=None) as batch_op:
        batch_op.drop_column("cell")
