"""Waiting tasks can be moved to the front of their lane."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TABLE, _INDEX = "background_tasks", "ix_tasks_claim"


def upgrade() -> None:
    op.add_column(_TABLE, sa.Column("turn", sa.Integer(), server_default="0", nullable=False))
    op.drop_index(_INDEX, table_name=_TABLE)
    op.create_index(_INDEX, _TABLE, ["status", "lane", "quarantined", "turn", "created_at", "seq"], unique=False)


def downgrade() -> None:
    op.drop_index(_INDEX, table_name=_TABLE)
    op.create_index(_INDEX, _TABLE, ["status", "lane", "quarantined", "created_at", "seq"], unique=False)
    op.drop_column(_TABLE, "turn")
