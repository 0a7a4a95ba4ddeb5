"""Schedules, and which of them made a job at which tick.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NAME = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")

#: Name, columns, condition, whether unique.
_INDEXES = (
    (
        "ix_jobs_schedule_scheduled_for",
        ["schedule", "scheduled_for"],
        "schedule IS NOT NULL",
        True,
    ),
    (
        "ix_jobs_schedule_live",
        ["schedule", "seq"],
        "schedule IS NOT NULL"
        " AND state IN ('held', 'blocked', 'scheduled', 'pending', 'processing', 'failed')",
        False,
    ),
)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("schedule", NAME))
    op.add_column("jobs", sa.Column("scheduled_for", INSTANT))
    for name, columns, where, unique in _INDEXES:
        op.create_index(
            name,
            "jobs",
            columns,
            unique=unique,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
    op.create_table(
        "schedules",
        sa.Column("name", NAME, nullable=False),
        sa.Column("cron", sa.String(256)),
        sa.Column("every_seconds", sa.Float()),
        sa.Column("timezone", sa.String(64), nullable=False),
        sa.Column("starts_at", INSTANT, nullable=False),
        sa.Column("catch_up", sa.String(8), nullable=False),
        sa.Column("overlap", sa.String(16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("next_at", INSTANT),
        sa.Column("last_at", INSTANT),
        sa.Column("paused_at", INSTANT),
        sa.Column("problem", sa.Text()),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedules")),
    )
    op.create_index(op.f("ix_schedules_next_at"), "schedules", ["next_at"])
    # A program of 0006 may go on: it makes no job of a schedule, and runs those that others make.
    op.execute("UPDATE store SET revision = '0007'")


def downgrade() -> None:
    op.drop_table("schedules")
    for name, *_ in _INDEXES:
        op.drop_index(name, "jobs")
    op.drop_column("jobs", "scheduled_for")
    op.drop_column("jobs", "schedule")
    op.execute("UPDATE store SET revision = '0006'")
