"""The tables. Instants are UTC; ``*_seconds`` are durations, ``*_bytes`` sizes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

#: The migration that these tables stand for; a test holds it to the newest one in ``migrations/``.
SCHEMA_REVISION = "0010"

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite keeps it as a readable text without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        # SQLite gives no zone, PostgreSQL the session's.
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


#: A number that may outgrow 32 bits. SQLite has but one kind, and a key must be called INTEGER.
LARGE = BigInteger().with_variant(Integer(), "sqlite")


def _name(length: int) -> TypeEngine[str]:
    """Text that is compared by its bytes everywhere: a prefix is a range of an index then."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class Base(DeclarativeBase):
    """Everything that ``alembic check`` compares with the store."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {datetime: Instant(), dict[str, str]: JSON(none_as_null=True)}


class JobRow(Base):
    """One job. Each state is covered by exactly one of the partial indexes below."""

    __tablename__ = "jobs"

    seq: Mapped[int] = mapped_column(LARGE, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(_name(128), unique=True)
    queue: Mapped[str] = mapped_column(_name(128))
    command: Mapped[str] = mapped_column(Text)
    cwd: Mapped[str | None] = mapped_column(Text)
    env: Mapped[dict[str, str] | None]
    state: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(Integer)
    run_at: Mapped[datetime]
    #: Number of the last attempt; never reset.
    runs: Mapped[int] = mapped_column(Integer)
    #: Failures charged since the job was enqueued or last requeued.
    attempts: Mapped[int] = mapped_column(Integer)
    max_retries: Mapped[int] = mapped_column(Integer)
    timeout_seconds: Mapped[float | None] = mapped_column(Float)
    #: Null: the stored option at the time it is needed.
    backoff_base: Mapped[float | None] = mapped_column(Float)
    crashes: Mapped[int] = mapped_column(Integer)
    worker_id: Mapped[str | None] = mapped_column(String(32))
    claimed_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    #: Fingerprint of the fields that were given, kept for jobs with an id of their own.
    request_digest: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    #: Row version: each change of state adds one; the fence of every claim.
    version: Mapped[int] = mapped_column(Integer)
    #: The last run before it was last requeued; null: it never was.
    requeued_after_run: Mapped[int | None] = mapped_column(Integer)
    name: Mapped[str | None] = mapped_column(_name(128))
    #: No two jobs that wait or run have the same one.
    unique_key: Mapped[str | None] = mapped_column(_name(128))
    #: Since when its processes are stopped, by request; null: they run.
    frozen_at: Mapped[datetime | None]
    #: When somebody asked to cancel it while it ran: however that ends, it is not tried again.
    cancel_requested_at: Mapped[datetime | None]
    #: Why it was cancelled, in the words of whoever did.
    cancel_reason: Mapped[str | None] = mapped_column(Text)
    #: The schedule that made it, which may be gone, and the tick for which it did.
    schedule: Mapped[str | None] = mapped_column(_name(128))
    scheduled_for: Mapped[datetime | None]
    #: 1 once another job has named it as one that it needs: its end is passed on.
    needed: Mapped[int] = mapped_column(Integer, server_default="0")
    #: It is not started after this; null: whenever its turn comes.
    deadline: Mapped[datetime | None]
    #: How much it gets as its standard input; null: none is kept for it.
    stdin_bytes: Mapped[int | None] = mapped_column(Integer)
    #: Since when somebody edits it, and it is held for that; of a job that is not held: nothing.
    edit_started_at: Mapped[datetime | None]
    #: What counts as its failure, and what is retried when: ``domain/terms.FIELDS``; null: nothing
    #: of its own.
    terms: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (
        CheckConstraint(
            "state IN ('blocked', 'held', 'scheduled', 'pending', 'processing', 'completed',"
            " 'failed', 'dead', 'cancelled')",
            name="state",
        ),
        # A sequence number names output files, so it must never be used again.
        {"sqlite_autoincrement": True},
    )


def _partial_index(name: str, *columns: Any, where: str, unique: bool = False) -> Index:
    # Saying postgresql_where here too would import that dialect: 25 ms of every start.
    return Index(name, *columns, sqlite_where=text(where), unique=unique)


_jobs = JobRow.__table__.c
_partial_index(
    "ix_jobs_pending",
    _jobs.queue,
    _jobs.priority.desc(),
    _jobs.run_at,
    _jobs.seq,
    where="state = 'pending'",
)
_partial_index("ix_jobs_due", _jobs.run_at, where="state IN ('scheduled', 'failed')")
_partial_index("ix_jobs_processing", _jobs.worker_id, where="state = 'processing'")
_partial_index(
    "ix_jobs_finished",
    _jobs.state,
    _jobs.seq,
    where="state IN ('completed', 'dead', 'cancelled')",
)
_partial_index("ix_jobs_held", _jobs.queue, _jobs.seq, where="state = 'held'")
_partial_index("ix_jobs_blocked", _jobs.queue, _jobs.seq, where="state = 'blocked'")
_partial_index(
    "ix_jobs_deadline",
    _jobs.deadline,
    where="deadline IS NOT NULL AND runs = 0"
    " AND state IN ('held', 'blocked', 'scheduled', 'pending')",
)
_partial_index("ix_jobs_name", _jobs.name, _jobs.seq, where="name IS NOT NULL")
_partial_index(
    "ix_jobs_unique_key",
    _jobs.unique_key,
    where="unique_key IS NOT NULL"
    " AND state IN ('held', 'blocked', 'scheduled', 'pending', 'processing', 'failed')",
    unique=True,
)
# A tick makes one job, whoever else thinks that it is due.
_partial_index(
    "ix_jobs_schedule_scheduled_for",
    _jobs.schedule,
    _jobs.scheduled_for,
    where="schedule IS NOT NULL",
    unique=True,
)
# Whether an earlier one waits or runs, however many have ended.
_partial_index(
    "ix_jobs_schedule_live",
    _jobs.schedule,
    _jobs.seq,
    where="schedule IS NOT NULL"
    " AND state IN ('held', 'blocked', 'scheduled', 'pending', 'processing', 'failed')",
)


class TagRow(Base):
    """A tag of a job: a word by which many are named at once."""

    __tablename__ = "tags"

    job_seq: Mapped[int] = mapped_column(
        LARGE, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True
    )
    tag: Mapped[str] = mapped_column(_name(128), primary_key=True)

    __table_args__ = (Index("ix_tags_tag_job_seq", "tag", "job_seq"), {"sqlite_with_rowid": False})


class InputRow(Base):
    """What a job gets as its standard input, apart from its row, which is read at every turn."""

    __tablename__ = "inputs"

    job_seq: Mapped[int] = mapped_column(
        LARGE, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    content: Mapped[bytes] = mapped_column(LargeBinary)


class DependencyRow(Base):
    """A job that another one needs. It is named by its id, as it may be deleted when it has ended.

    ``outcome`` follows the needed job: service/dependencies.py says how.
    """

    __tablename__ = "dependencies"

    job_seq: Mapped[int] = mapped_column(
        LARGE, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True
    )
    needed_id: Mapped[str] = mapped_column(_name(128), primary_key=True)
    #: ``success``, ``any`` or ``failure``.
    condition: Mapped[str] = mapped_column(String(8))
    #: The state in which it ended, or ``deleted``; null: it has not ended.
    outcome: Mapped[str | None] = mapped_column(String(16))
    #: Whether the way it ended is why the job was cancelled.
    fatal: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (
        Index("ix_dependencies_needed_id_job_seq", "needed_id", "job_seq"),
        {"sqlite_with_rowid": False},
    )


class AttemptRow(Base):
    """One ended execution of a job; written once, when it was settled or rescued."""

    __tablename__ = "attempts"

    job_seq: Mapped[int] = mapped_column(
        LARGE, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True
    )
    run: Mapped[int] = mapped_column(Integer, primary_key=True)
    worker_id: Mapped[str] = mapped_column(String(32))
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]
    outcome: Mapped[str] = mapped_column(String(16))
    exit_code: Mapped[int | None] = mapped_column(Integer)
    signal: Mapped[int | None] = mapped_column(Integer)
    cpu_user_seconds: Mapped[float | None] = mapped_column(Float)
    cpu_system_seconds: Mapped[float | None] = mapped_column(Float)
    max_rss_bytes: Mapped[int | None] = mapped_column(LARGE)
    output_bytes: Mapped[int | None] = mapped_column(LARGE)
    #: The last 4 KiB of what it printed.
    output_tail: Mapped[bytes | None] = mapped_column(LargeBinary)
    error: Mapped[str | None] = mapped_column(Text)

    # One tree instead of a table and its index: a page less in each commit.
    __table_args__ = ({"sqlite_with_rowid": False},)


class OutputChunkRow(Base):
    """A piece of what an attempt printed, where ``output-store`` is ``database``.

    Pieces of one attempt never overlap; between two that do not meet, the middle was dropped.
    """

    __tablename__ = "output_chunks"

    job_seq: Mapped[int] = mapped_column(
        LARGE, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True
    )
    run: Mapped[int] = mapped_column(Integer, primary_key=True)
    #: How many bytes the attempt had printed before the first of these.
    position: Mapped[int] = mapped_column(LARGE, primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class DeadLetterRow(Base):
    """A job whose retries are exhausted; its row in ``jobs`` stays, marked ``dead``."""

    __tablename__ = "dlq"

    job_seq: Mapped[int] = mapped_column(
        LARGE, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    died_at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(Text)
    last_error: Mapped[str | None] = mapped_column(Text)


class OptionRow(Base):
    """One stored option, as JSON; what is not here has its default."""

    __tablename__ = "config"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime]


class WorkerRow(Base):
    """One process that claims, or claimed. Rows of ended workers are kept for a day."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    supervisor_id: Mapped[str] = mapped_column(String(32), index=True)
    host: Mapped[str] = mapped_column(Text)
    #: Where its lock can be tried: ``db/presence.neighbourhood``.
    boot_id: Mapped[str] = mapped_column(String(64))
    pid: Mapped[int] = mapped_column(Integer)
    slots: Mapped[int] = mapped_column(Integer)
    #: The queues it serves, as a JSON array; null: all of them.
    queues: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    lease_expires_at: Mapped[datetime]
    stop_requested_at: Mapped[datetime | None]
    #: ``leave`` (this worker alone), ``drain`` or ``now``, once somebody asked for it.
    stop_mode: Mapped[str | None] = mapped_column(String(8))
    #: ``alive``, ``stopped`` (left by itself) or ``dead`` (rescued from).
    state: Mapped[str] = mapped_column(String(8))
    #: How often it was given orders: it reads them when this has changed.
    orders: Mapped[int] = mapped_column(Integer, server_default="0")
    #: How many workers its supervisor is to have; null: the one of ``queuectl run``.
    wanted: Mapped[int | None] = mapped_column(Integer)
    #: How often that was changed: of what several siblings say, the highest counts.
    scalings: Mapped[int] = mapped_column(Integer, server_default="0")


class OrderRow(Base):
    """What a worker is to do to a job that it runs; it deletes what it has read."""

    __tablename__ = "orders"

    seq: Mapped[int] = mapped_column(LARGE, primary_key=True, autoincrement=True)
    worker_id: Mapped[str] = mapped_column(
        String(32), ForeignKey("workers.id", ondelete="CASCADE"), index=True
    )
    job_seq: Mapped[int] = mapped_column(
        LARGE, ForeignKey("jobs.seq", ondelete="CASCADE"), index=True
    )
    #: The job's version at its claim: what runs by a later claim is not meant.
    version: Mapped[int] = mapped_column(Integer)
    #: ``cancel``, ``signal``, ``freeze`` or ``thaw``.
    action: Mapped[str] = mapped_column(String(8))
    #: The number of the signal to send.
    signal: Mapped[int | None] = mapped_column(Integer)


class QueueRow(Base):
    """A queue; its row appears with its first job."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(_name(128), primary_key=True)
    paused_at: Mapped[datetime | None]
    max_running: Mapped[int | None] = mapped_column(Integer)
    #: At most so many start in any window of so many seconds; null: as many as there are.
    rate_count: Mapped[int | None] = mapped_column(Integer)
    rate_seconds: Mapped[int | None] = mapped_column(Integer)
    #: What still counts, as ``domain/rate.py`` writes it.
    rate_starts: Mapped[str | None] = mapped_column(Text)
    #: Nothing more starts before this, as its rate is used up; null: it is not.
    opens_at: Mapped[datetime | None]


class ScheduleRow(Base):
    """What makes a job at each of its ticks: by a cron expression or an interval."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(_name(128), primary_key=True)
    #: A cron expression, or null where ``every_seconds`` is given.
    cron: Mapped[str | None] = mapped_column(String(256))
    every_seconds: Mapped[float | None] = mapped_column(Float)
    timezone: Mapped[str] = mapped_column(String(64))
    #: Where an interval counts from.
    starts_at: Mapped[datetime]
    #: ``none``, ``last`` or ``all``.
    catch_up: Mapped[str] = mapped_column(String(8))
    #: ``skip``, ``queue`` or ``cancel-old``.
    overlap: Mapped[str] = mapped_column(String(16))
    #: The fields of its jobs, as a request has them.
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    #: The next tick; null: it is paused, or has none any more.
    next_at: Mapped[datetime | None] = mapped_column(index=True)
    #: The newest tick that made a job.
    last_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    #: Why a worker paused it: what it says can no longer be read.
    problem: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class StoreRow(Base):
    """The one row in which the store says what it is; made by a migration, never copied."""

    __tablename__ = "store"

    #: Names this machine's folder of a store on a server, whatever URL leads there.
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: The schema of which the next column speaks.
    revision: Mapped[str] = mapped_column(String(32))
    #: The oldest program, by its schema, that may use this one.
    usable_from: Mapped[str] = mapped_column(String(32))
