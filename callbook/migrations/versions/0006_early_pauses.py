"""The caller's first sound, and sounds that were no interruption"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("interruptions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("onset_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("stopped_ms", sa.BigInteger(), nullable=True))
    op.create_table(
        "hesitations",
        sa.Column("call_sid", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lasted_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["call_sid"], ["calls.call_sid"], name=op.f("fk_hesitations_call_sid_calls"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("call_sid", "at", name=op.f("pk_hesitations")),
    )


def downgrade() -> None:
    op.drop_table("hesitations")
    with op.batch_alter_table("interruptions", schema=None) as batch_op:
        for name in ("onset_at", "paused_at", "stopped_ms"):
            batch_op.drop_column(name)
