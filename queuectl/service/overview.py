"""What a live screen shows, of one moment: what runs, what waits, and what has ended last.

Each list is bounded, and read from the end of an index at which it begins: the cost does not grow
with what has ended, nor with what waits. Only the counts do, so whoever looks often may pass on the
ones that he has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, select

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, JobRow
from queuectl.domain.job import FINISHED, Job, State
from queuectl.service import counts, workers
from queuectl.service.rows import in_states, select_jobs, to_job

#: Jobs that are looked through for those of some queues, in each list.
LOOKED_THROUGH = 2000
#: Queues whose pending jobs are asked for: each is a probe of its own.
_MOST_QUEUES = 50
#: Below SQLite's limit of parameters.
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Overview:
    """The store at one moment. The lists are cut; ``tally`` may be of a moment before."""

    read_at: datetime
    tally: counts.Tally
    workers: list[workers.Worker]
    #: The longest running first.
    running: list[Job]
    #: Pending jobs by priority and due time, then those that are due later, held and blocked ones.
    waiting: list[Job]
    #: The last to end first, as far as they were enqueued lately or are among ``seen``.
    ended: list[Job]
    #: The machine on which a job runs or last ran, by its sequence number.
    hosts: dict[int, str]


def read_in(
    store: Store,
    connection: Connection,
    *,
    limit: int,
    queues: Collection[str] = (),
    seen: Sequence[int] = (),
    tally: counts.Tally | None = None,
) -> Overview:
    """Return at most ``limit`` jobs of each kind, or only those of ``queues``.

    ``seen``: jobs that ran when somebody last looked, and may have ended. Without ``tally``,
    everything is counted.
    """
    alive = workers.list_in(store, connection)
    tally = tally or counts.tally_in(store, connection, alive)
    running = _list_running(connection, queues, limit)
    ended = _list_ended(connection, queues, seen, limit)
    hosts = {worker.id: worker.host for worker in alive}
    return Overview(
        read_at=datetime.now(UTC),
        tally=tally,
        workers=alive,
        running=running,
        waiting=_list_waiting(connection, tally, queues, limit),
        ended=ended,
        hosts={
            **_hosts_of(connection, ended),
            **{job.seq: hosts[job.worker_id] for job in running if job.worker_id in hosts},
        },
    )


def _list_running(connection: Connection, queues: Collection[str], limit: int) -> list[Job]:
    return _list(connection, (State.PROCESSING,), (JobRow.claimed_at, JobRow.seq), queues, limit)


def _list_waiting(
    connection: Connection, tally: counts.Tally, queues: Collection[str], limit: int
) -> list[Job]:
    waiting = _list_pending(connection, tally, queues, limit)
    for states, order in (
        ((State.SCHEDULED, State.FAILED), (JobRow.run_at, JobRow.seq)),
        ((State.HELD,), (JobRow.queue, JobRow.seq)),
        ((State.BLOCKED,), (JobRow.queue, JobRow.seq)),
    ):
        if len(waiting) < limit:
            waiting += _list(connection, states, order, queues, limit - len(waiting))
    return waiting


def _list_pending(
    connection: Connection, tally: counts.Tally, queues: Collection[str], limit: int
) -> list[Job]:
    """Ask queue by queue, as a claim does: over all of them SQLite would sort whatever waits."""
    names = [queue.name for queue in tally.queues if queue.states[State.PENDING]]
    wanted = [name for name in names if not queues or name in queues][:_MOST_QUEUES]
    order = (JobRow.priority.desc(), JobRow.run_at, JobRow.seq)
    found: list[Job] = []
    for name in wanted:
        seqs = select(JobRow.seq).where(in_states(State.PENDING), JobRow.queue == name)
        query = select_jobs().where(JobRow.seq.in_(seqs.order_by(*order).limit(limit)))
        found += map(to_job, connection.execute(query))
    return sorted(found, key=lambda job: (-job.priority, job.run_at, job.seq))[:limit]


def _list_ended(
    connection: Connection, queues: Collection[str], seen: Sequence[int], limit: int
) -> list[Job]:
    found: dict[int, Job] = {}
    for state in FINISHED:
        jobs = _list(connection, (state,), (JobRow.seq.desc(),), queues, limit)
        found.update((job.seq, job) for job in jobs)
    query = select_jobs().where(JobRow.seq.in_(seen[:_CHUNK]))
    for job in map(to_job, connection.execute(query) if seen else ()):
        if job.state in FINISHED:
            found[job.seq] = job
    return sorted(found.values(), key=lambda job: (_end_of(job), job.seq), reverse=True)[:limit]


def _end_of(job: Job) -> datetime:
    return job.finished_at or job.updated_at


def _list(
    connection: Connection,
    states: tuple[State, ...],
    order: tuple[Any, ...],
    queues: Collection[str],
    limit: int,
) -> list[Job]:
    # The inner select reads nothing but an index, and ends at its limit.
    seqs = select(JobRow.seq).where(in_states(*states)).order_by(*order)
    query = select_jobs().where(JobRow.seq.in_(seqs.limit(LOOKED_THROUGH if queues else limit)))
    if queues:
        query = query.where(JobRow.queue.in_(queues))
    return [to_job(row) for row in connection.execute(query.order_by(*order).limit(limit))]


def _hosts_of(connection: Connection, jobs: Sequence[Job]) -> dict[int, str]:
    """Return where the last attempts of these jobs ran."""
    found: dict[int, str] = {}
    for start in range(0, len(jobs), _CHUNK):
        seqs = [job.seq for job in jobs[start : start + _CHUNK]]
        last = and_(AttemptRow.job_seq == JobRow.seq, AttemptRow.run == JobRow.runs)
        query = select(JobRow.seq, AttemptRow.host).join(AttemptRow, last)
        rows = connection.execute(query.where(JobRow.seq.in_(seqs)))
        found.update((row.seq, row.host) for row in rows)
    return found
