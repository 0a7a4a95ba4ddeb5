"""Jobs that wait for other jobs, or must start by some time, and what jobs get as input.

SQLite changes no CHECK constraint: the table is made anew beside the old one and takes its place,
with its sequence, for a sequence number must never be used again.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
LARGE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")

_STATES_BEFORE = (
    "'held', 'scheduled', 'pending', 'processing', 'completed', 'failed', 'dead', 'cancelled'"
)
_STATES = f"'blocked', {_STATES_BEFORE}"
_OLD_COLUMNS = (
    "seq, id, queue, command, cwd, env, state, priority, run_at, runs, attempts, max_retries,"
    " timeout_seconds, backoff_base, crashes, worker_id, claimed_at, last_error, request_digest,"
    " created_at, updated_at, finished_at, version, requeued_after_run, name, unique_key,"
    " frozen_at, cancel_requested_at, cancel_reason"
)


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    _drop_job_indexes(_ALL_BEFORE if sqlite else _CHANGED_BEFORE)
    if sqlite:
        _make_jobs_anew(_STATES, _new_columns())
    else:
        for column in _new_columns():
            op.add_column("jobs", column)
        op.drop_constraint(op.f("ck_jobs_state"), "jobs", type_="check")
        op.create_check_constraint(op.f("ck_jobs_state"), "jobs", f"state IN ({_STATES})")
    _create_job_indexes((*_KEPT_INDEXES, *_NEW_INDEXES) if sqlite else _NEW_INDEXES)
    _create_tables()
    # A program of 0005 does not know a job that is blocked.
    op.execute("UPDATE store SET revision = '0006', usable_from = '0006'")


def _new_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("needed", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("deadline", INSTANT),
        sa.Column("stdin_bytes", sa.Integer()),
    )


def _create_tables() -> None:
    op.create_table(
        "dependencies",
        sa.Column("job_seq", LARGE, nullable=False),
        sa.Column("needed_id", NAME, nullable=False),
        sa.Column("condition", sa.String(8), nullable=False),
        sa.Column("outcome", sa.String(16)),
        sa.Column("fatal", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_seq"], ["jobs.seq"], name=op.f("fk_dependencies_job_seq_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_seq", "needed_id", name=op.f("pk_dependencies")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_dependencies_needed_id_job_seq", "dependencies", ["needed_id", "job_seq"])
    op.create_table(
        "inputs",
        sa.Column("job_seq", LARGE, autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_seq"], ["jobs.seq"], name=op.f("fk_inputs_job_seq_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_seq", name=op.f("pk_inputs")),
    )


def downgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.drop_table("inputs")
    op.drop_table("dependencies")
    # Nobody would ever let a blocked job go: somebody has to.
    op.execute("UPDATE jobs SET state = 'held' WHERE state = 'blocked'")
    _drop_job_indexes((*_KEPT_INDEXES, *_NEW_INDEXES) if sqlite else _NEW_INDEXES)
    if sqlite:
        _make_jobs_anew(_STATES_BEFORE, ())
        _create_job_indexes(_ALL_BEFORE)
    else:
        for column in _new_columns():
            op.drop_column("jobs", column.name)
        op.drop_constraint(op.f("ck_jobs_state"), "jobs", type_="check")
        op.create_check_constraint(op.f("ck_jobs_state"), "jobs", f"state IN ({_STATES_BEFORE})")
        _create_job_indexes(_CHANGED_BEFORE)
    op.execute("UPDATE store SET revision = '0005', usable_from = '0005'")


def _make_jobs_anew(states: str, more: tuple[sa.Column[Any], ...]) -> None:
    """Make the table anew with these states and columns; foreign keys are off meanwhile."""
    op.create_table(
        "jobs_new",
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
        sa.Column("requeued_after_run", sa.Integer()),
        sa.Column("name", NAME),
        sa.Column("unique_key", NAME),
        sa.Column("frozen_at", INSTANT),
        sa.Column("cancel_requested_at", INSTANT),
        sa.Column("cancel_reason", sa.Text()),
        *more,
        sa.CheckConstraint(f"state IN ({states})", name=op.f("ck_jobs_state")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
        sqlite_autoincrement=True,
    )
    op.execute(f"INSERT INTO jobs_new ({_OLD_COLUMNS}) SELECT {_OLD_COLUMNS} FROM jobs")  # noqa: S608  # constants
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'jobs_new'")
    op.execute(
        "INSERT INTO sqlite_sequence (name, seq)"
        " SELECT 'jobs_new', seq FROM sqlite_sequence WHERE name = 'jobs'"
    )
    op.drop_table("jobs")
    op.rename_table("jobs_new", "jobs")


#: Name, columns, condition, whether unique.
_Index = tuple[str, list[Any], str, bool]
_KEPT_INDEXES: tuple[_Index, ...] = (
    (
        "ix_jobs_pending",
        ["queue", sa.text("priority DESC"), "run_at", "seq"],
        "state = 'pending'",
        False,
    ),
    ("ix_jobs_due", ["run_at"], "state IN ('scheduled', 'failed')", False),
    ("ix_jobs_processing", ["worker_id"], "state = 'processing'", False),
    ("ix_jobs_finished", ["state", "seq"], "state IN ('completed', 'dead', 'cancelled')", False),
    ("ix_jobs_held", ["queue", "seq"], "state = 'held'", False),
    ("ix_jobs_name", ["name", "seq"], "name IS NOT NULL", False),
)
_CHANGED_BEFORE: tuple[_Index, ...] = (
    (
        "ix_jobs_unique_key",
        ["unique_key"],
        "unique_key IS NOT NULL"
        " AND state IN ('held', 'scheduled', 'pending', 'processing', 'failed')",
        True,
    ),
)
_ALL_BEFORE = (*_KEPT_INDEXES, *_CHANGED_BEFORE)
_NEW_INDEXES: tuple[_Index, ...] = (
    ("ix_jobs_blocked", ["queue", "seq"], "state = 'blocked'", False),
    (
        "ix_jobs_deadline",
        ["deadline"],
        "deadline IS NOT NULL AND runs = 0"
        " AND state IN ('held', 'blocked', 'scheduled', 'pending')",
        False,
    ),
    (
        "ix_jobs_unique_key",
        ["unique_key"],
        "unique_key IS NOT NULL"
        " AND state IN ('held', 'blocked', 'scheduled', 'pending', 'processing', 'failed')",
        True,
    ),
)


def _create_job_indexes(indexes: tuple[_Index, ...]) -> None:
    for name, columns, where, unique in indexes:
        op.create_index(
            name,
            "jobs",
            columns,
            unique=unique,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )


def _drop_job_indexes(indexes: tuple[_Index, ...]) -> None:
    for name, *_ in indexes:
        op.drop_index(name, "jobs")
