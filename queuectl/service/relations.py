"""The jobs next to one: those that it needs, and those that need it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from queuectl.db.engine import Store
from queuectl.db.models import DependencyRow, JobRow
from queuectl.domain.dependency import Condition, NeededJob
from queuectl.domain.job import Job
from queuectl.service.dependencies import needs_of
from queuectl.service.rows import select_jobs, to_job

_CHUNK = 500
#: Jobs that are told at most: more are of no use on a screen.
MOST_JOBS = 10_000


def needed_by(connection: Connection, job: Job) -> list[NeededJob]:
    """Return what a job needs, each with the needed job as it stands."""
    needs = needs_of(connection, [job.seq])[job.seq]
    there = find_by_ids(connection, [need.id for need in needs])
    return [NeededJob(need, there.get(need.id)) for need in needs]


def dependents_of(connection: Connection, job: Job) -> list[tuple[Job, Condition]]:
    """Return the jobs that need this one, and how, in the order of their enqueueing."""
    query = (
        select(JobRow.id, DependencyRow.condition)
        .join(DependencyRow, DependencyRow.job_seq == JobRow.seq)
        .where(DependencyRow.needed_id == job.id)
        .order_by(DependencyRow.job_seq)
        .limit(MOST_JOBS)
    )
    rows = connection.execute(query).all()
    there = find_by_ids(connection, [row.id for row in rows])
    return [(there[row.id], Condition(row.condition)) for row in rows]


def trace(store: Store, ids: Sequence[str], dependents: Sequence[str]) -> dict[str, list[str]]:
    """Return for each of these jobs which of the dependents need it, all the way down."""
    if not dependents:
        return {}

    def work(connection: Connection) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for start in range(0, len(dependents), _CHUNK):
            query = (
                select(DependencyRow.needed_id, JobRow.id)
                .join(JobRow, JobRow.seq == DependencyRow.job_seq)
                .where(JobRow.id.in_(dependents[start : start + _CHUNK]))
                .order_by(JobRow.seq)
            )
            for needed_id, job_id in connection.execute(query):
                found[needed_id].append(job_id)
        return found

    needing = store.read(work)
    return {job_id: _all_below(needing, job_id) for job_id in ids}


def _all_below(needing: Mapping[str, Sequence[str]], job_id: str) -> list[str]:
    below: dict[str, None] = {}
    next_ones = list(needing.get(job_id, ()))
    while next_ones:
        one = next_ones.pop(0)
        if one not in below:
            below[one] = None
            next_ones += needing.get(one, ())
    return list(below)


def find_by_ids(connection: Connection, ids: Sequence[str]) -> dict[str, Job]:
    """Return those of these jobs that are there."""
    found: dict[str, Job] = {}
    for start in range(0, len(ids), _CHUNK):
        query = select_jobs().where(JobRow.id.in_(ids[start : start + _CHUNK]))
        found.update((job.id, job) for job in map(to_job, connection.execute(query)))
    return found
