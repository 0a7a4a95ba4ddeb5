"""Change jobs that wait: ``set``, and what ``edit`` does when the editor is left.

A change is one transaction for all jobs that are meant, or nothing. It holds their rows' locks, and
adds one to the version of each, so a worker that chose one of them before and comes later finds no
row: either the claim is first, and a job that was named is refused, or the change is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, case, delete, insert, literal_column, select, update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow, TagRow
from queuectl.domain import changes
from queuectl.domain.changes import CHANGEABLE
from queuectl.domain.job import Job, State
from queuectl.domain.request import JobRequest
from queuectl.domain.selection import Chosen
from queuectl.domain.terms import FIELDS as TERMS
from queuectl.domain.terms import read_terms
from queuectl.errors import Conflict
from queuectl.service import config, queues
from queuectl.service.rows import select_jobs, to_job
from queuectl.service.selection import CHUNK

#: What to do instead, by the state of a job that cannot be changed.
_PUT_BACK = "put it back first: queuectl retry {id}"
WAYS_OUT = {
    State.PROCESSING: "wait for its end, or: queuectl cancel {id}, and enqueue it anew",
    State.COMPLETED: _PUT_BACK,
    State.DEAD: _PUT_BACK,
    State.CANCELLED: _PUT_BACK,
}


@dataclass(frozen=True, slots=True)
class Changed:
    """The ids of the jobs that are others now, and how many were so before."""

    ids: list[str]
    alike: int


def change(
    store: Store,
    chosen: Sequence[Chosen],
    given: Mapping[str, Any],
    *,
    strict: bool,
    dry_run: bool = False,
) -> Changed:
    """Set fields of these jobs, all or nothing; ``strict``: none of them may have left meanwhile.

    ``given`` has the fields as a JSON job has them. Raises InvalidJob for what no job can be, and
    with ``strict`` Conflict for a job that has been started, has ended or is gone; else such a job
    is left out.
    """
    fields = changes.resolve(given, datetime.now(UTC))

    def work(connection: Connection) -> Changed:
        ids: list[str] = []
        alike = 0
        for seqs in _chunks([each.seq for each in chosen]):
            jobs = lock(connection, seqs)
            if strict and len(jobs) < len(seqs):
                _refuse_left(connection, chosen, {job.seq for job in jobs})
            found = apply(connection, jobs, fields, dry_run=dry_run)
            ids += [job.id for job in found]
            alike += len(jobs) - len(found)
        return Changed(ids, alike)

    return store.read(work) if dry_run else store.write(work)


def _chunks(seqs: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(seqs), CHUNK):
        yield list(seqs[start : start + CHUNK])


def lock(connection: Connection, seqs: Sequence[int]) -> list[Job]:
    """Return those of these jobs that can be changed; nobody else changes them meanwhile."""
    query = select_jobs().where(JobRow.seq.in_(seqs), JobRow.state.in_(CHANGEABLE))
    if connection.info.get("writes"):
        query = query.with_for_update()
    return [to_job(row) for row in connection.execute(query.order_by(JobRow.seq))]


def _refuse_left(connection: Connection, chosen: Sequence[Chosen], there: set[int]) -> None:
    left = next(each for each in chosen if each.seq not in there)
    state = connection.execute(select(JobRow.state).where(JobRow.seq == left.seq)).scalar()
    raise Conflict(
        f"job {left.id!r} is {state or 'gone'} by now; nothing was changed",
        hint=WAYS_OUT[State(state)].format(id=left.id) if state in WAYS_OUT else "try again",
    )


def apply(
    connection: Connection,
    jobs: Sequence[Job],
    fields: Mapping[str, Any],
    *,
    dry_run: bool = False,
) -> list[Job]:
    """Set fields of locked jobs; return those that were otherwise before. Raises InvalidJob."""
    tags = tags_of(connection, [job.seq for job in jobs])
    options = config.load(connection)
    defaults = {"max_retries": options.max_retries, "timeout": options.timeout}
    different: list[Job] = []
    writes: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for job in jobs:  # they say the same of all, but for terms: a job keeps those that are not said
        said = _said(changes.judge(job, tags.get(job.seq, []), fields), fields, defaults)
        if _differs(job, tags.get(job.seq, []), said):
            different.append(job)
            _, seqs = writes.setdefault(repr(said.get("terms")), (said, []))
            seqs.append(job.seq)
    if not dry_run:
        for said, seqs in writes.values():
            _write(connection, seqs, said)
    return different


def _said(
    request: JobRequest, fields: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is set, by field; all of the terms, under ``terms``, if any of them is."""
    said = {name: getattr(request, name) for name in fields}
    said |= {name: defaults[name] for name in defaults if said.get(name, 0) is None}
    return said if said.keys().isdisjoint(TERMS) else {**said, "terms": request.terms}


def _columns(said: Mapping[str, Any]) -> dict[str, Any]:
    return {column: said[name] for name, column in changes.COLUMNS.items() if name in said}


def _differs(job: Job, tags: list[str], said: Mapping[str, Any]) -> bool:
    if "tags" in said and (said["tags"] or []) != tags:
        return True
    if "terms" in said and read_terms(said["terms"]) != job.terms:
        return True
    return any(getattr(job, name) != value for name, value in _columns(said).items())


def _write(connection: Connection, seqs: list[int], said: Mapping[str, Any]) -> None:
    now = datetime.now(UTC)
    values = {**_columns(said), "version": JobRow.version + 1, "updated_at": now}
    if "terms" in said:
        values["terms"] = said["terms"]
    if "run_at" in said:
        ready = State.SCHEDULED if said["run_at"] > now else State.PENDING
        waits = JobRow.state.in_((State.SCHEDULED, State.PENDING))
        values["state"] = case((waits, literal_column(f"'{ready}'")), else_=JobRow.state)
    connection.execute(update(JobRow).where(JobRow.seq.in_(seqs)).values(**values))
    if "tags" in said:
        _replace_tags(connection, seqs, said["tags"] or [])
    if "queue" in said:
        queues.add(connection, [said["queue"]])


def _replace_tags(connection: Connection, seqs: list[int], tags: list[str]) -> None:
    connection.execute(delete(TagRow).where(TagRow.job_seq.in_(seqs)))
    rows = [{"job_seq": seq, "tag": tag} for seq in seqs for tag in tags]
    if rows:
        connection.execute(insert(TagRow), rows)


def tags_of(connection: Connection, seqs: Sequence[int]) -> dict[int, list[str]]:
    """Return the tags of those of these jobs that have some, in their order."""
    query = select(TagRow.job_seq, TagRow.tag).where(TagRow.job_seq.in_(seqs))
    found: dict[int, list[str]] = {}
    for row in connection.execute(query.order_by(TagRow.job_seq, TagRow.tag)):
        found.setdefault(row.job_seq, []).append(row.tag)
    return found
