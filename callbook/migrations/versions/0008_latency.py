"""The parts of the wait for an answer"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = ("carrier_ms", "detection_ms", "model_ms", "line_ms", "network_ms")


def upgrade() -> None:
    with op.batch_alter_table("turns", schema=None) as batch_op:
        for name in COLUMNS:
            batch_op.add_column(sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("turns", schema=None) as batch_op:
        for name in COLUMNS:
            batch_op.drop_column(name)
