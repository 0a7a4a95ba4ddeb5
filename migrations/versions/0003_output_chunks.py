"""What attempts printed, for those who keep it in the database.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LARGE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "output_chunks",
        sa.Column("job_seq", LARGE, nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("position", LARGE, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_seq"],
            ["jobs.seq"],
            name=op.f("fk_output_chunks_job_seq_jobs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_seq", "run", "position", name=op.f("pk_output_chunks")),
    )


def downgrade() -> None:
    op.drop_table("output_chunks")
