"""How many jobs of a queue may start in a time, and who is being edited.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("queues", sa.Column("rate_count", sa.Integer()))
    op.add_column("queues", sa.Column("rate_seconds", sa.Integer()))
    op.add_column("queues", sa.Column("rate_starts", sa.Text()))
    op.add_column("queues", sa.Column("opens_at", INSTANT))
    op.add_column("jobs", sa.Column("edit_started_at", INSTANT))
    # A program of before knows no rate, and would start more than one allows.
    op.execute("UPDATE store SET revision = '0009', usable_from = '0009'")


def downgrade() -> None:
    op.drop_column("jobs", "edit_started_at")
    for name in ("opens_at", "rate_starts", "rate_seconds", "rate_count"):
        op.drop_column("queues", name)
    op.execute("UPDATE store SET revision = '0008', usable_from = '0006'")
