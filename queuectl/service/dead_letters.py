"""The dead letter queue: list, requeue, purge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select

from queuectl.db.engine import Store
from queuectl.db.models import DeadLetterRow, JobRow
from queuectl.domain.fingerprint import kind_of, normalize, program_of, shorten
from queuectl.domain.job import Job, State
from queuectl.domain.selection import Selection
from queuectl.errors import Conflict, NotFound
from queuectl.service.jobs import find_in
from queuectl.service.narrowing import narrow
from queuectl.service.pruning import delete_rows
from queuectl.service.requeueing import lock, requeue_rows
from queuectl.service.rows import JOB_COLUMNS, in_states, to_job

#: Rows that one statement changes: below SQLite's limit of parameters.
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job whose retries are exhausted, and why."""

    job: Job
    died_at: datetime
    reason: str
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Kind:
    """Dead jobs of one program and one error, but for what differs by accident."""

    #: The shortest beginning of its whole id that no other kind has now, four digits at least.
    id: str
    count: int
    program: str
    #: The error with times, numbers, paths and hexadecimal numbers made equal.
    error: str
    #: The job that died last.
    example: DeadLetter
    first_died_at: datetime
    last_died_at: datetime


def list_dead(
    store: Store, only: Selection | None = None, *, limit: int | None = None
) -> list[DeadLetter]:
    """Return the dead jobs, those that died last first."""
    query = _letters(only).order_by(DeadLetterRow.died_at.desc(), DeadLetterRow.job_seq.desc())
    return store.read(
        lambda connection: [_to_letter(row) for row in connection.execute(query.limit(limit))]
    )


def list_kinds(store: Store, only: Selection | None = None) -> list[Kind]:
    """Return the kinds of the dead jobs, the most frequent first; among all or some of them.

    An id is that of the kind among all dead jobs, whichever are asked for.
    """

    def work(connection: Connection) -> list[Kind]:
        shown = shorten(list(_count_kinds(connection)))
        latest: dict[str, DeadLetter] = {}
        first: dict[str, datetime] = {}
        counts: Counter[str] = Counter()
        query = _letters(only).order_by(DeadLetterRow.died_at.desc(), DeadLetterRow.job_seq.desc())
        for letter in map(_to_letter, connection.execute(query)):
            kind = kind_of(letter.job.command, letter.last_error)
            latest.setdefault(kind, letter)
            first[kind] = letter.died_at
            counts[kind] += 1
        return [
            Kind(
                id=shown[kind],
                count=count,
                program=program_of(latest[kind].job.command),
                error=normalize(latest[kind].last_error or ""),
                example=latest[kind],
                first_died_at=first[kind],
                last_died_at=latest[kind].died_at,
            )
            for kind, count in counts.most_common()
        ]

    return store.read(work)


def _count_kinds(connection: Connection) -> Counter[str]:
    query = select(JobRow.command, DeadLetterRow.last_error).join(
        JobRow, JobRow.seq == DeadLetterRow.job_seq
    )
    return Counter(kind_of(command, error) for command, error in connection.execute(query))


def _letters(only: Selection | None) -> Select[Any]:
    query = select(
        *JOB_COLUMNS,
        DeadLetterRow.died_at,
        DeadLetterRow.reason,
        DeadLetterRow.last_error.label("letter_error"),
    ).join(JobRow, JobRow.seq == DeadLetterRow.job_seq)
    return query if only is None else query.where(*narrow(only))


def _to_letter(row: Any) -> DeadLetter:
    return DeadLetter(to_job(row[: len(JOB_COLUMNS)]), row.died_at, row.reason, row.letter_error)


def requeue(store: Store, references: list[str], *, dry_run: bool = False) -> list[Job]:
    """Give dead jobs their retries back; all of them or none. The history is kept.

    Returns the jobs as they were. Raises NotFound, and Conflict for a job that is not dead.
    """
    return _change(store, _named(references), _requeue, dry_run=dry_run)


def requeue_all(store: Store, only: Selection | None = None, *, dry_run: bool = False) -> list[Job]:
    """Requeue every dead job, or some by what they have in common; return them as they were."""
    return _change(store, _every(only), _requeue, dry_run=dry_run)


def requeue_kind(
    store: Store, kind: str, only: Selection | None = None, *, dry_run: bool = False
) -> list[Job]:
    """Requeue the dead jobs of a kind, or some of them; return them as they were.

    Raises NotFound for a kind that no dead job has, Conflict for a beginning of several.
    """
    return _change(store, _of_kind(kind, only), _requeue, dry_run=dry_run)


def purge(store: Store, references: list[str], *, dry_run: bool = False) -> list[Job]:
    """Delete dead jobs with their history; all of them or none.

    Their output files are the caller's to remove. Raises NotFound and Conflict as ``requeue``.
    """
    return _change(store, _named(references), _purge, dry_run=dry_run)


def purge_all(store: Store, only: Selection | None = None, *, dry_run: bool = False) -> list[Job]:
    """Delete every dead job, or some by what they have in common; return them as they were."""
    return _change(store, _every(only), _purge, dry_run=dry_run)


def find_kind(store: Store, kind: str, only: Selection | None = None) -> list[Job]:
    """Return the dead jobs of a kind, or some of them; raises as ``requeue_kind``."""
    return store.read(_of_kind(kind, only))


def _change(
    store: Store,
    choose: Callable[[Connection], list[Job]],
    apply: Callable[[Connection, list[int]], None],
    *,
    dry_run: bool,
) -> list[Job]:
    if dry_run:
        return store.read(choose)

    def work(connection: Connection) -> list[Job]:
        jobs = choose(connection)
        for start in range(0, len(jobs), _CHUNK):
            apply(connection, [job.seq for job in jobs[start : start + _CHUNK]])
        return jobs

    return store.write(work)


def _named(references: list[str]) -> Callable[[Connection], list[Job]]:
    def choose(connection: Connection) -> list[Job]:
        jobs = {job.seq: job for job in (find_in(connection, name) for name in references)}
        for job in jobs.values():
            if job.state is not State.DEAD:
                raise Conflict(
                    f"job {job.id!r} is {job.state}, not dead",
                    hint="see the dead ones with: queuectl dlq list",
                )
        return list(jobs.values())

    return choose


def _every(only: Selection | None) -> Callable[[Connection], list[Job]]:
    query = _letters(only).order_by(DeadLetterRow.job_seq)
    return lambda connection: [_to_letter(row).job for row in connection.execute(query)]


def _of_kind(kind: str, only: Selection | None) -> Callable[[Connection], list[Job]]:
    def choose(connection: Connection) -> list[Job]:
        whole = _find_kind(_count_kinds(connection), kind)
        query = _letters(only).order_by(DeadLetterRow.job_seq)
        letters = map(_to_letter, connection.execute(query))
        return [
            letter.job
            for letter in letters
            if kind_of(letter.job.command, letter.last_error) == whole
        ]

    return choose


def _find_kind(kinds: Iterable[str], reference: str) -> str:
    found = sorted(kind for kind in kinds if reference and kind.startswith(reference.lower()))
    hint = "see them with: queuectl dlq list --group"
    if not found:
        raise NotFound(f"no dead job is of the kind {reference[:40]!r}", hint=hint)
    if len(found) > 1:
        told = ", ".join(shorten(found).values())
        raise Conflict(f"{reference!r} is the beginning of several kinds: {told[:200]}", hint=hint)
    return found[0]


def _requeue(connection: Connection, seqs: list[int]) -> None:
    requeue_rows(connection, list(lock(connection, seqs, (State.DEAD,))))


def _purge(connection: Connection, seqs: list[int]) -> None:
    delete_rows(connection, seqs, in_states(State.DEAD))
