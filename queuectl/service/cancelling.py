"""Cancel jobs: at once what waits; what runs is ended by its worker, on whatever machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select, update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.job import State
from queuectl.domain.selection import Chosen, Effect
from queuectl.service import dependencies, orders
from queuectl.service.selection import in_chunks, merge, rehearse_chunks

#: Where a job waits, and nobody holds a claim.
WAITING = (State.HELD, State.BLOCKED, State.SCHEDULED, State.PENDING, State.FAILED)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A job that is cancelled, or will be as soon as its worker has ended what runs."""

    id: str
    runs: bool
    #: Whether it was not meant itself, but needs one that was.
    follows: bool = False


def cancel(store: Store, chosen: Sequence[Chosen], *, reason: str | None = None) -> list[Cancelled]:
    """Cancel these jobs; those that have ended meanwhile are left out.

    Behind them stand those that wait for one of them, and are cancelled for that: at once, or when
    the worker has ended what runs.
    """
    return in_chunks(store, chosen, partial(cancel_in, reason=reason))


def rehearse(
    store: Store, chosen: Sequence[Chosen], *, reason: str | None = None
) -> list[Cancelled]:
    """Return what ``cancel`` would."""
    return rehearse_chunks(store, chosen, partial(cancel_in, reason=reason))


def effect_of(chosen: Sequence[Chosen], done: Sequence[Cancelled]) -> Effect:
    """Return which of the jobs that were meant are cancelled, and which others with them."""
    meant = [job.id for job in done if not job.follows]
    return merge(chosen, [Effect(meant, [job.id for job in done if job.follows])])


def cancel_in(connection: Connection, seqs: list[int], reason: str | None) -> list[Cancelled]:
    """The same for the jobs of these keys, inside a transaction that is already open."""
    now = datetime.now(UTC)
    running = orders.lock_running(connection, seqs)
    # Asked twice, it keeps the first reason.
    connection.execute(
        update(JobRow)
        .where(JobRow.seq.in_([row.seq for row in running]))
        .values(
            cancel_requested_at=func.coalesce(JobRow.cancel_requested_at, now),
            cancel_reason=func.coalesce(JobRow.cancel_reason, reason),
            updated_at=now,
        )
    )
    orders.give(connection, running, orders.Action.CANCEL)
    waiting = _lock_waiting(connection, seqs)
    connection.execute(
        update(JobRow)
        .where(JobRow.seq.in_([row.seq for row in waiting]))
        .values(
            state=State.CANCELLED,
            version=JobRow.version + 1,
            cancel_requested_at=now,
            cancel_reason=reason,
            finished_at=now,
            updated_at=now,
        )
    )
    needed = [row.id for row in waiting if row.needed]
    passed = dependencies.pass_on(connection, dict.fromkeys(needed, State.CANCELLED.value))
    later = dependencies.foresee(connection, [row.id for row in running if row.needed])
    found = [(row.seq, Cancelled(row.id, runs=True)) for row in running]
    found += [(row.seq, Cancelled(row.id, runs=False)) for row in waiting]
    return [
        *(cancelled for _, cancelled in sorted(found, key=lambda pair: pair[0])),
        *(Cancelled(job_id, runs=False, follows=True) for job_id in [*passed.cancelled, *later]),
    ]


def _lock_waiting(connection: Connection, seqs: list[int]) -> list[Any]:
    query = select(JobRow.seq, JobRow.id, JobRow.needed)
    query = query.where(JobRow.seq.in_(seqs), JobRow.state.in_(WAITING))
    return list(connection.execute(query.order_by(JobRow.seq).with_for_update()))
