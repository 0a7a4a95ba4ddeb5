"""The first tables: jobs, attempts, dlq, config, workers, queues.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
LARGE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")

#: PostgreSQL lets a fifth of a table die before it cleans up. With a million finished jobs behind
#: the queue that is 200,000 dead entries at the head of the index that each claim reads; so it
#: cleans after a thousand, and without pausing.
CLEANED_OFTEN = {
    "autovacuum_vacuum_scale_factor": 0.005,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_cost_delay": 0,
    "autovacuum_analyze_scale_factor": 0.02,
}
#: A heartbeat changes no indexed column: with room left in its page it stays there (HOT).
KEPT_IN_PLACE = {
    "fillfactor": 50,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 200,
}


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("seq", LARGE, autoincrement=True, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("queue", NAME, nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("cwd", sa.Text()),
        sa.Column("env", sa.JSON()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("run_at", INSTANT, nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("timeout_seconds", sa.Float()),
        sa.Column("backoff_base", sa.Float()),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(32)),
        sa.Column("claimed_at", INSTANT),
        sa.Column("last_error", sa.Text()),
        sa.Column("request_digest", sa.String(64)),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "state IN ('scheduled', 'pending', 'processing', 'completed', 'failed', 'dead',"
            " 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
        sqlite_autoincrement=True,
        postgresql_with=CLEANED_OFTEN,
    )
    create_job_indexes()
    op.create_table(
        "attempts",
        sa.Column("job_seq", LARGE, nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(32), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("signal", sa.Integer()),
        sa.Column("cpu_user_seconds", sa.Float()),
        sa.Column("cpu_system_seconds", sa.Float()),
        sa.Column("max_rss_bytes", LARGE),
        sa.Column("output_bytes", LARGE),
        sa.Column("output_tail", sa.LargeBinary()),
        sa.Column("error", sa.Text()),
        sa.ForeignKeyConstraint(
            ["job_seq"], ["jobs.seq"], name=op.f("fk_attempts_job_seq_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_seq", "run", name=op.f("pk_attempts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dlq",
        sa.Column("job_seq", LARGE, autoincrement=False, nullable=False),
        sa.Column("died_at", INSTANT, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.ForeignKeyConstraint(
            ["job_seq"], ["jobs.seq"], name=op.f("fk_dlq_job_seq_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_seq", name=op.f("pk_dlq")),
    )
    create_small_tables()


def create_job_indexes() -> None:
    indexes: tuple[tuple[str, list[Any], str], ...] = (
        (
            "ix_jobs_pending",
            ["queue", sa.text("priority DESC"), "run_at", "seq"],
            "state = 'pending'",
        ),
        ("ix_jobs_due", ["run_at"], "state IN ('scheduled', 'failed')"),
        ("ix_jobs_processing", ["worker_id"], "state = 'processing'"),
        ("ix_jobs_finished", ["state", "seq"], "state IN ('completed', 'dead', 'cancelled')"),
    )
    for name, columns, where in indexes:
        op.create_index(
            name, "jobs", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )


def create_small_tables() -> None:
    op.create_table(
        "config",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_config")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("supervisor_id", sa.String(32), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("queues", sa.JSON()),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("heartbeat_at", INSTANT, nullable=False),
        sa.Column("lease_expires_at", INSTANT, nullable=False),
        sa.Column("stop_requested_at", INSTANT),
        sa.Column("stop_mode", sa.String(8)),
        sa.Column("state", sa.String(8), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        postgresql_with=KEPT_IN_PLACE,
    )
    op.create_index("ix_workers_supervisor_id", "workers", ["supervisor_id"])
    op.create_table(
        "queues",
        sa.Column("name", NAME, nullable=False),
        sa.Column("paused_at", INSTANT),
        sa.Column("max_running", sa.Integer()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queues")),
    )


def downgrade() -> None:
    for table in ("queues", "workers", "config", "dlq", "attempts", "jobs"):
        op.drop_table(table)
