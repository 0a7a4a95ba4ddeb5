"""What counts as a failure of a job, and which failures are retried when.

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
    op.add_column("jobs", sa.Column("terms", sa.JSON()))
    # A worker of 0007 would take exit code 0 for success whatever else a job asks for, and cannot
    # read that an attempt stalled.
    op.execute("UPDATE store SET revision = '0008', usable_from = '0008'")


def downgrade() -> None:
    op.drop_column("jobs", "terms")
    op.execute("UPDATE attempts SET outcome = 'timed out' WHERE outcome = 'stalled'")
    op.execute("UPDATE store SET revision = '0007', usable_from = '0006'")
