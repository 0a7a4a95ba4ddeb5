"""Orders: what workers are told to do to the jobs that they run.

An order stands in a table of its own, and the worker's row counts how many it was given: the row is
read in each turn and look anyway, so whoever has no orders pays nothing for them. A worker deletes
what it reads; one that dies has nothing left to carry out, and what must outlive it (that a job is
cancelled, or frozen) stands in the job's row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow, OrderRow, WorkerRow
from queuectl.domain.job import State
from queuectl.domain.selection import Chosen
from queuectl.service.rows import in_states
from queuectl.service.selection import CHUNK, in_chunks


class Action(StrEnum):
    """What is to be done."""

    CANCEL = "cancel"  #: end it, and never try it again
    SIGNAL = "signal"  #: send it a signal
    FREEZE = "freeze"  #: stop its processes, and its time
    THAW = "thaw"  #: let them go on


@dataclass(frozen=True, slots=True)
class Order:
    """An order as its worker reads it; ``mark`` is the claim's."""

    mark: str
    action: Action
    signal: int | None


def give(
    connection: Connection, jobs: Sequence[Any], action: Action, number: int | None = None
) -> None:
    """Order something of the workers of these rows of jobs; part of a transaction.

    The rows must be locked, so that their claims stand.
    """
    rows = [
        {
            "worker_id": job.worker_id,
            "job_seq": job.seq,
            "version": job.version,
            "action": action.value,
            "signal": number,
        }
        for job in jobs
    ]
    if rows:
        connection.execute(insert(OrderRow), rows)
        ids = sorted({row["worker_id"] for row in rows})
        connection.execute(
            update(WorkerRow).where(WorkerRow.id.in_(ids)).values(orders=WorkerRow.orders + 1)
        )


def take(store: Store, worker_id: str) -> list[Order]:
    """Return the orders that a worker was given since it last asked, the oldest first."""

    def work(connection: Connection) -> list[Order]:
        store.hush(connection)
        found = connection.execute(
            select(OrderRow).where(OrderRow.worker_id == worker_id).order_by(OrderRow.seq)
        ).all()
        connection.execute(delete(OrderRow).where(OrderRow.seq.in_([row.seq for row in found])))
        return [
            Order(f"{row.job_seq}-{row.version}", Action(row.action), row.signal) for row in found
        ]

    return store.write(work)


def send_signal(store: Store, chosen: Sequence[Chosen], number: int) -> list[str]:
    """Have a signal sent to these jobs; return the ids of those that run."""
    return _order(store, chosen, Action.SIGNAL, number)


def freeze(store: Store, chosen: Sequence[Chosen]) -> list[str]:
    """Stop the processes of these jobs, and their timeouts; return the ids of those that run."""
    now = datetime.now(UTC)
    return _order(store, chosen, Action.FREEZE, frozen_at=func.coalesce(JobRow.frozen_at, now))


def thaw(store: Store, chosen: Sequence[Chosen]) -> list[str]:
    """Let frozen jobs go on; return the ids of those that run."""
    return _order(store, chosen, Action.THAW, frozen_at=None)


def find_frozen(store: Store, chosen: Sequence[Chosen]) -> list[Chosen]:
    """Return those of these jobs that run and are frozen."""

    def work(connection: Connection) -> list[Chosen]:
        frozen: set[int] = set()
        for start in range(0, len(chosen), CHUNK):
            seqs = [job.seq for job in chosen[start : start + CHUNK]]
            query = select(JobRow.seq).where(JobRow.seq.in_(seqs), in_states(State.PROCESSING))
            found = connection.execute(query.where(JobRow.frozen_at.is_not(None)))
            frozen.update(found.scalars())
        return [job for job in chosen if job.seq in frozen]

    return store.read(work)


def _order(
    store: Store,
    chosen: Sequence[Chosen],
    action: Action,
    number: int | None = None,
    **changes: Any,
) -> list[str]:
    def work(connection: Connection, seqs: list[int]) -> list[str]:
        rows = lock_running(connection, seqs)
        if changes:
            held = [row.seq for row in rows]
            connection.execute(update(JobRow).where(JobRow.seq.in_(held)).values(**changes))
        give(connection, rows, action, number)
        return [row.id for row in rows]

    return in_chunks(store, chosen, work)


def lock_running(connection: Connection, seqs: list[int]) -> list[Any]:
    """Return those of the jobs that run, whose claims nobody can take meanwhile."""
    query = select(JobRow.seq, JobRow.id, JobRow.version, JobRow.worker_id, JobRow.needed).where(
        JobRow.seq.in_(seqs), in_states(State.PROCESSING)
    )
    return list(connection.execute(query.order_by(JobRow.seq).with_for_update()))
