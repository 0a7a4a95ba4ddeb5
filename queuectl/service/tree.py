"""What a job needs, and what needs it, all the way up and down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from queuectl.db.engine import Store
from queuectl.db.models import DependencyRow, JobRow
from queuectl.domain.dependency import Need
from queuectl.domain.job import Job
from queuectl.service import jobs
from queuectl.service.dependencies import needs_of
from queuectl.service.relations import MOST_JOBS, find_by_ids
from queuectl.service.rows import select_jobs, to_job

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Edge:
    """One job needs another one."""

    job_id: str
    need: Need


@dataclass(frozen=True, slots=True)
class Tree:
    """A job, all that it needs, and all that needs it. Needed jobs that are gone have no entry."""

    root: Job
    jobs: dict[str, Job]
    #: What the job needs, and what that needs, and so on; each edge once.
    above: list[Edge]
    #: What needs the job, and so on.
    below: list[Edge]
    #: Whether there are more than were read.
    cut: bool


def tree(store: Store, reference: str) -> Tree:
    """Return all that a job needs and all that needs it; raises as ``jobs.find`` does."""
    return store.read(lambda connection: _grow(connection, jobs.find_in(connection, reference)))


def _grow(connection: Connection, root: Job) -> Tree:
    found = {root.id: root}
    above, below = _climb(connection, root, found), _descend(connection, root, found)
    return Tree(root, found, above, below, cut=len(found) >= MOST_JOBS)


def _climb(connection: Connection, root: Job, found: dict[str, Job]) -> list[Edge]:
    edges: list[Edge] = []
    level, seen = [root], {root.id}
    while level and len(found) < MOST_JOBS:
        needs = needs_of(connection, [job.seq for job in level])
        new = [Edge(job.id, need) for job in level for need in needs[job.seq]]
        edges += new
        level = list(find_by_ids(connection, [edge.need.id for edge in new]).values())
        level = [job for job in level if job.id not in seen]
        seen.update(job.id for job in level)
        found.update((job.id, job) for job in level)
    return edges


def _descend(connection: Connection, root: Job, found: dict[str, Job]) -> list[Edge]:
    edges: list[Edge] = []
    level, seen = [root], {root.id}
    while level and len(found) < MOST_JOBS:
        ids = [job.id for job in level]
        seqs: list[int] = []
        for start in range(0, len(ids), _CHUNK):
            query = select(DependencyRow.job_seq).where(
                DependencyRow.needed_id.in_(ids[start : start + _CHUNK])
            )
            seqs += connection.execute(query).scalars()
        below = {job.seq: job for job in _read(connection, sorted(set(seqs)))}
        needs = needs_of(connection, list(below))
        here = set(ids)
        edges += [
            Edge(job.id, need)
            for job in below.values()
            for need in needs[job.seq]
            if need.id in here
        ]
        level = [job for job in below.values() if job.id not in seen]
        seen.update(job.id for job in level)
        found.update((job.id, job) for job in level)
    return edges


def _read(connection: Connection, seqs: Sequence[int]) -> list[Job]:
    found: list[Job] = []
    for start in range(0, len(seqs), _CHUNK):
        query = select_jobs().where(JobRow.seq.in_(seqs[start : start + _CHUNK]))
        found += map(to_job, connection.execute(query.order_by(JobRow.seq)))
    return found
