"""After which run a job was last requeued, so that its history shows what was charged since.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: A job with more charged attempts than it counts was requeued after the last that is not counted.
_DATE_REQUEUES = """
WITH charged AS (
    SELECT job_seq, run, row_number() OVER (PARTITION BY job_seq ORDER BY run DESC) AS place
    FROM attempts WHERE outcome IN ('failed', 'timed out')
)
UPDATE jobs SET requeued_after_run = (
    SELECT run FROM charged WHERE job_seq = jobs.seq AND place = jobs.attempts + 1
)
WHERE EXISTS (SELECT 1 FROM charged WHERE job_seq = jobs.seq AND place = jobs.attempts + 1)
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("requeued_after_run", sa.Integer()))
    op.execute(_DATE_REQUEUES)


def downgrade() -> None:
    op.drop_column("jobs", "requeued_after_run")
