"""Enqueue jobs, find them, and tell everything that is known of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, literal_column, select
from sqlalchemy.exc import IntegrityError

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, DeadLetterRow, JobRow, TagRow
from queuectl.domain.dependency import Condition, NeededJob
from queuectl.domain.job import FINISHED, LIVE, Attempt, Job, State
from queuectl.domain.options import Options
from queuectl.domain.request import JobRequest
from queuectl.domain.selection import Selection
from queuectl.errors import Conflict, InvalidInput, NotFound, OutcomeUnknown
from queuectl.service import config, needs, queues, relations
from queuectl.service.insertion import generate_ids, insert_jobs
from queuectl.service.narrowing import narrow
from queuectl.service.rows import (
    ATTEMPT_COLUMNS,
    in_states,
    select_jobs,
    to_attempt,
    to_job,
)
from queuectl.service.spool import Draft, Spool

_ID_TRIES = 5
#: A program that enqueues again and again on a server asks for the options once in so long, in
#: seconds; one that asks each time needs two round trips a job, and 0.1 ms more.
_BELIEF_SECONDS = 1.0
LAST = "last"


@dataclass(frozen=True, slots=True)
class Receipt:
    """All ids in the order of the requests, and those that were there before."""

    ids: list[str]
    existing: list[str]
    #: Those that were found by their unique key; the request itself may differ.
    unique: list[str]
    #: Those that were cancelled at once, as what they need has ended so, with the reason.
    doomed: dict[str, str] = field(default_factory=dict)

    @property
    def new(self) -> int:
        """How many jobs were added."""
        return len(self.ids) - len(self.existing) - len(self.unique)


@dataclass(frozen=True, slots=True)
class JobHistory:
    """A job with its ended attempts, oldest first, and why it is dead if it is."""

    job: Job
    attempts: list[Attempt]
    dead_reason: str | None
    died_at: datetime | None
    tags: list[str]
    #: The jobs that it needs, and those that need it.
    needs: list[NeededJob]
    dependents: list[tuple[Job, Condition]]


def enqueue(store: Store, requests: Iterable[JobRequest], *, cwd: str | None) -> Receipt:
    """Store all jobs in one transaction, or none; ``cwd`` is for those that name no folder.

    The requests are read to their end before the transaction begins, so an iterable that
    validates as it goes stores nothing when it raises. A request that repeats an earlier one,
    id and given fields alike, changes nothing. Raises Conflict where the id has another request.
    """
    with Spool() as spool:
        spool.fill(requests)
        batch = _Batch(store, spool, cwd)
        return _store_once(store, batch, lambda connection: batch.insert(connection))


class _Batch:
    """What one call enqueues, and the ids that it draws."""

    def __init__(self, store: Store, spool: Spool, cwd: str | None) -> None:
        self._store = store
        self._spool = spool
        self._cwd = cwd
        self._seed = os.urandom(16)
        #: What the last try has handed out.
        self.receipt: Receipt | None = None

    def insert(self, connection: Connection) -> Receipt:
        """Insert all jobs; the next try uses the same ids."""
        self.receipt = None
        self.receipt = _insert_all(self._store, connection, self._spool, self._cwd, self._seed)
        return self.receipt

    def draw_anew(self) -> None:
        """Let the next try use other ids."""
        self._seed = os.urandom(16)


def _store_once(store: Store, batch: _Batch, work: Callable[[Connection], Receipt]) -> Receipt:
    """Try until the batch stands in the store once, though a commit's reply be lost."""
    uncertain: Receipt | None = None
    for _ in range(_ID_TRIES - 1):
        try:
            return store.write(work)
        except OutcomeUnknown:
            # With the same ids again: should the first commit come after all, this one waits for
            # it, and finds the ids taken.
            uncertain = batch.receipt
        except IntegrityError:
            if uncertain is None:  # two generated ids met; the batch takes new ones
                batch.draw_anew()
        if uncertain is not None and _stands(store, uncertain):
            return uncertain
    return store.write(work)


def _stands(store: Store, receipt: Receipt) -> bool:
    """Whether the batch is there; all of it is, or none."""
    there_before = {*receipt.existing, *receipt.unique}
    new = next((job_id for job_id in receipt.ids if job_id not in there_before), None)
    # Not the whole row: who may only enqueue may not read commands.
    return new is None or store.read(lambda connection: bool(known_digests(connection, [new])))


def _insert_all(
    store: Store, connection: Connection, spool: Spool, cwd: str | None, seed: bytes
) -> Receipt:
    now = datetime.now(UTC)
    known = store.remember(connection, "enqueue", _ask_known, seconds=_BELIEF_SECONDS)
    options, known_queues = known()
    receipt = Receipt([], [], [])
    names: set[str] = set()
    for number, chunk in enumerate(spool.chunks()):
        generated = generate_ids(len(chunk), seed + number.to_bytes(8))
        new, ids = _sort_out(connection, chunk, receipt, generated)
        names.update(draft.queue for draft in chunk)
        if new:
            bonds = needs.bind(connection, new, ids)
            insert_jobs(connection, new, ids, options=options, cwd=cwd, now=now, bonds=bonds)
            receipt.doomed.update(bonds.doomed)
    if unknown := names - known_queues:
        queues.add(connection, unknown)
        store.forget()
    return receipt


def _ask_known(connection: Connection) -> Callable[[], tuple[Options, set[str]]]:
    """Return what gives the options and the queues' names; no queue is ever deleted."""
    options, names = config.ask(connection), queues.ask_known(connection)
    return lambda: (options(), names())


def _sort_out(
    connection: Connection, chunk: list[Draft], receipt: Receipt, generated: list[str]
) -> tuple[list[Draft], list[str]]:
    """Give each job its id, and return those that are not there yet; raises Conflict."""
    named = [draft.id for draft in chunk if draft.id is not None]
    keys = [draft.unique for draft in chunk if draft.unique is not None]
    if not named and not keys:
        receipt.ids.extend(generated)
        return chunk, generated
    known, holders = known_digests(connection, named), known_keys(connection, keys)
    new: dict[str, Draft] = {}
    for draft, random_id in zip(chunk, generated, strict=True):
        job_id = draft.id or random_id
        if job_id in known:
            require_same(job_id, known[job_id], draft.digest)
            receipt.existing.append(job_id)
        elif draft.unique in holders:
            job_id = holders[draft.unique]
            receipt.unique.append(job_id)
        else:
            new[job_id] = draft
            known[job_id] = draft.digest
            if draft.unique is not None:
                holders[draft.unique] = job_id
        receipt.ids.append(job_id)
    return list(new.values()), list(new)


def known_keys(connection: Connection, keys: list[str]) -> dict[str | None, str]:
    """Return the ids of the jobs that wait or run with one of these unique keys."""
    if not keys:
        return {}
    query = select(JobRow.unique_key, JobRow.id).where(
        JobRow.unique_key.in_(keys), JobRow.unique_key.is_not(None), in_states(*LIVE)
    )
    return {row.unique_key: row.id for row in connection.execute(query)}


def known_digests(connection: Connection, ids: list[str]) -> dict[str, str | None]:
    if not ids:
        return {}
    query = select(JobRow.id, JobRow.request_digest).where(JobRow.id.in_(ids))
    return {row.id: row.request_digest for row in connection.execute(query)}


def require_same(job_id: str, known: str | None, digest: str | None) -> None:
    if known != digest:
        raise Conflict(
            f"job {job_id!r} is already there, with a different request",
            hint=f"see it with: queuectl show {job_id} (or choose another id)",
        )


def find(store: Store, reference: str) -> Job:
    """Return the job of this id, of this unique prefix, or the newest one for ``last``.

    Raises NotFound, or Conflict for a prefix that several ids share.
    """
    return store.read(lambda connection: find_in(connection, reference))


def find_in(connection: Connection, reference: str) -> Job:
    """The same as ``find``, inside a transaction that is already open."""
    if reference == LAST:
        row = connection.execute(select_jobs().order_by(JobRow.seq.desc()).limit(1)).first()
        if row is None:
            raise NotFound("there is no job yet", hint="add one with: queuectl enqueue -- COMMAND")
        return to_job(row)
    if not reference.isascii():  # no id is, and the driver refuses some of the others
        raise _not_found(reference)
    row = connection.execute(select_jobs().where(JobRow.id == reference)).first()
    return to_job(row) if row is not None else _find_by_prefix(connection, reference)


def _find_by_prefix(connection: Connection, prefix: str) -> Job:
    # A range, not LIKE: it reads the index whatever characters the prefix has.
    query = select_jobs().where(JobRow.id >= prefix, JobRow.id < prefix + "\U0010ffff")
    rows = connection.execute(query.order_by(JobRow.id).limit(3)).all() if prefix else []
    if not rows:
        raise _not_found(prefix)
    if len(rows) > 1:
        ids = ", ".join(to_job(row).id for row in rows[:2])
        raise Conflict(
            f"{prefix!r} is the beginning of several ids: {ids}"
            + (", ..." if len(rows) > 2 else ""),
            hint="give more of the id",
        )
    return to_job(rows[0])


def require_reading(store: Store) -> None:
    """Refuse a database role that may not read jobs; raises StoreError."""
    if store.is_shared:
        find_by_ids(store, [""])


def _not_found(reference: str) -> NotFound:
    return NotFound(f"there is no job {reference[:128]!r}", hint="list them with: queuectl list")


def find_by_ids(store: Store, ids: list[str]) -> list[Job]:
    """Return the jobs of exactly these ids, in their order; ids that are gone are left out."""

    def work(connection: Connection) -> list[Job]:
        found: dict[str, Job] = {}
        for start in range(0, len(ids), 500):
            chunk = ids[start : start + 500]
            rows = connection.execute(select_jobs().where(JobRow.id.in_(chunk)))
            found.update((job.id, job) for job in map(to_job, rows))
        return [found[job_id] for job_id in ids if job_id in found]

    return store.read(work)


def list_jobs(
    store: Store,
    only: Selection | None = None,
    *,
    limit: int | None = 20,
    next_first: bool = False,
) -> list[Job]:
    """Return jobs, the newest first, or with ``next_first`` those that run next.

    ``only`` says which by what they have in common; its references are not looked at.
    ``next_first`` lists what waits: pending jobs in the order of claims, then the others by run_at.
    """
    only = only or Selection()
    if next_first:
        return store.read(lambda connection: _list_next(connection, only, limit))
    if wanted := sorted(set(only.states)):
        queries = [_newest_in(state, only, limit) for state in wanted]
    else:
        queries = [_newest(select(JobRow.seq).order_by(JobRow.seq.desc()), only, limit)]

    def work(connection: Connection) -> list[Job]:
        found = [to_job(row) for query in queries for row in connection.execute(query)]
        return sorted(found, key=lambda job: job.seq, reverse=True)[:limit]

    return store.read(work)


def _newest_in(state: State, only: Selection, limit: int | None) -> Select[Any]:
    seqs = select(JobRow.seq).where(in_states(state))
    if state in FINISHED:
        return _newest(seqs.order_by(JobRow.seq.desc()), only, limit)
    # Plain seq would tempt SQLite to read the table backwards, past a million finished jobs.
    return _newest(seqs.order_by((JobRow.seq + literal_column("0")).desc()), only, limit)


def _newest(seqs: Select[Any], only: Selection, limit: int | None) -> Select[Any]:
    # The inner select reads nothing but an index, where one covers it.
    return select_jobs().where(JobRow.seq.in_(seqs.where(*narrow(only)).limit(limit)))


def _list_next(connection: Connection, only: Selection, limit: int | None) -> list[Job]:
    order_pending = (JobRow.priority.desc(), JobRow.run_at, JobRow.seq)
    order_waiting = (JobRow.run_at, JobRow.seq)
    jobs: list[Job] = []
    for group, order in (
        ([State.PENDING], order_pending),
        ([State.SCHEDULED, State.FAILED], order_waiting),
    ):
        wanted = [state for state in group if not only.states or state in only.states]
        if not wanted or (limit is not None and len(jobs) >= limit):
            continue
        seqs = select(JobRow.seq).where(in_states(*wanted), *narrow(only)).order_by(*order)
        if limit is not None:
            seqs = seqs.limit(limit - len(jobs))
        query = select_jobs().where(JobRow.seq.in_(seqs)).order_by(*order)
        jobs += [to_job(row) for row in connection.execute(query)]
    return jobs


def history(store: Store, reference: str) -> JobHistory:
    """Return the job with all its attempts; raises NotFound or Conflict as ``find`` does."""

    def work(connection: Connection) -> JobHistory:
        job = find_in(connection, reference)
        attempts = select(*ATTEMPT_COLUMNS).where(AttemptRow.job_seq == job.seq)
        rows = connection.execute(attempts.order_by(AttemptRow.run))
        tags = select(TagRow.tag).where(TagRow.job_seq == job.seq).order_by(TagRow.tag)
        letter = connection.execute(
            select(DeadLetterRow.reason, DeadLetterRow.died_at).where(
                DeadLetterRow.job_seq == job.seq
            )
        ).first()
        return JobHistory(
            job,
            [to_attempt(row) for row in rows],
            letter.reason if letter else None,
            letter.died_at if letter else None,
            list(connection.execute(tags).scalars()),
            relations.needed_by(connection, job),
            relations.dependents_of(connection, job),
        )

    return store.read(work)


def parse_state(text: str) -> State:
    """Return the state of that name; raises InvalidInput."""
    try:
        return State(text.lower())
    except ValueError as error:
        raise InvalidInput(
            f"there is no state {text[:40]!r}", hint=f"states: {', '.join(State)}"
        ) from error
