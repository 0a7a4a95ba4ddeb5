"""Explain why a job does not run: all that may keep it, read at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, DeadLetterRow, JobRow, QueueRow, ScheduleRow
from queuectl.domain import explanation as domain
from queuectl.domain.explanation import Crew, Reason, Situation
from queuectl.domain.job import Attempt, Job, State
from queuectl.domain.rate import is_closed
from queuectl.domain.schedule import Schedule
from queuectl.service import relations, workers
from queuectl.service.jobs import find_in
from queuectl.service.rows import (
    ATTEMPT_COLUMNS,
    SCHEDULE_COLUMNS,
    in_states,
    rate_of,
    to_attempt,
    to_schedule,
)

_TERMS = ("paused_at", "max_running", "rate_count", "rate_seconds", "opens_at")


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job, and every reason why it does not run (or that it does)."""

    job: Job
    reasons: list[Reason]


def explain(store: Store, reference: str) -> Explanation:
    """Tell why a job does not run; raises NotFound or Conflict as ``jobs.find`` does."""
    seen = store.read(lambda connection: _see(store, connection, reference))
    return Explanation(seen.job, domain.explain(seen))


def _see(store: Store, connection: Connection, reference: str) -> Situation:
    job = find_in(connection, reference)
    terms = select(*(getattr(QueueRow, name) for name in _TERMS)).where(QueueRow.name == job.queue)
    queue = connection.execute(terms).first()
    letter = connection.execute(
        select(DeadLetterRow.died_at, DeadLetterRow.reason).where(DeadLetterRow.job_seq == job.seq)
    ).first()
    higher, sooner = _count_ahead(connection, job)
    now = datetime.now(UTC)
    return Situation(
        job=job,
        now=now,
        paused_at=None if queue is None else queue.paused_at,
        max_running=None if queue is None else queue.max_running,
        rate=None if queue is None else rate_of(queue.rate_count, queue.rate_seconds),
        opens_at=None if queue is None else _opening(queue, now),
        running=_running(connection, job.queue),
        workers=[_to_crew(worker, job.queue) for worker in workers.list_in(store, connection)],
        higher=higher,
        sooner=sooner,
        last=_last_attempt(connection, job),
        died_at=None if letter is None else letter.died_at,
        dead_reason=None if letter is None else letter.reason,
        needs=relations.needed_by(connection, job),
        schedule=_schedule_of(connection, job),
    )


def _schedule_of(connection: Connection, job: Job) -> Schedule | None:
    if job.schedule is None:
        return None
    query = select(*SCHEDULE_COLUMNS).where(ScheduleRow.name == job.schedule)
    row = connection.execute(query).first()
    return None if row is None else to_schedule(row)


def _opening(queue: Any, now: datetime) -> datetime | None:
    closed = is_closed(queue.opens_at, queue.rate_seconds, now)
    return queue.opens_at if closed else None


def _running(connection: Connection, queue: str) -> list[str]:
    query = select(JobRow.id).where(in_states(State.PROCESSING), JobRow.queue == queue)
    return list(connection.execute(query.order_by(JobRow.claimed_at, JobRow.seq)).scalars())


def _count_ahead(connection: Connection, job: Job) -> tuple[int, int]:
    """Return how many are claimed before it: of higher priority, and of its own."""
    if job.state is not State.PENDING:
        return 0, 0
    there = select(func.count()).where(in_states(State.PENDING), JobRow.queue == job.queue)
    earlier = or_(
        JobRow.run_at < job.run_at, and_(JobRow.run_at == job.run_at, JobRow.seq < job.seq)
    )
    higher = there.where(JobRow.priority > job.priority)
    sooner = there.where(JobRow.priority == job.priority, earlier)
    return connection.execute(higher).scalar_one(), connection.execute(sooner).scalar_one()


def _last_attempt(connection: Connection, job: Job) -> Attempt | None:
    query = select(*ATTEMPT_COLUMNS).where(AttemptRow.job_seq == job.seq)
    row = connection.execute(query.order_by(AttemptRow.run.desc()).limit(1)).first()
    return None if row is None else to_attempt(row)


def _to_crew(worker: workers.Worker, queue: str) -> Crew:
    return Crew(
        id=worker.id,
        host=worker.host,
        pid=worker.pid,
        alive=worker.state == "alive",
        stopping=worker.stop_mode is not None,
        serves=worker.serves(queue),
        slots=worker.slots,
        running=[job.id for job in worker.running],
        lease_expires_at=worker.lease_expires_at,
    )
