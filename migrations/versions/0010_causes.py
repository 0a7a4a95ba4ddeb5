"""What counts as a failure of a job, and which failures are retried when.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("terms", sa.JSON()))
    # A worker of 0009 would take exit code 0 for success whatever else a job asks for, and cannot
    # read that an attempt stalled.
    op.execute("UPDATE store SET revision = '0010', usable_from = '0010'")


def downgrade() -> None:
    op.drop_column("jobs", "terms")
    op.execute("UPDATE attempts SET outcome = 'timed out' WHERE outcome = 'stalled'")
    op.execute("UPDATE store SET revision = '0009', usable_from = '0009'")
