"""Lead and path of a media stream over time"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "path_samples",
        sa.Column("call_sid", sa.Text(), nullable=False),
        sa.Column("stream_sid", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("samples", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["call_sid"], ["calls.call_sid"], name=op.f("fk_path_samples_call_sid_calls"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("call_sid", "stream_sid", "began_at", name=op.f("pk_path_samples")),
    )


def downgrade() -> None:
    op.drop_table("path_samples")
