"""How many workers a supervisor is to have.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("wanted", sa.Integer()))
    op.add_column(
        "workers", sa.Column("scalings", sa.Integer(), nullable=False, server_default="0")
    )
    # A program of 0007 may go on: its workers do not scale, and leave as they did.
    op.execute("UPDATE store SET revision = '0008'")


def downgrade() -> None:
    op.drop_column("workers", "scalings")
    op.drop_column("workers", "wanted")
    op.execute("UPDATE store SET revision = '0007'")
