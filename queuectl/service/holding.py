"""Hold jobs that wait: no worker starts them until they are released.

    hold       the row is locked and its version goes up by one, so a worker that chose the job
               before and comes later finds no row. Where the claim was first the job runs, and one
               that was named is refused
    release    (service/requeueing.py) the job waits again for what it would be waiting for now:
               other jobs, its time, the rest of its backoff, or a worker

A release judges what a job needs, unless it has failed since it was queued: then it has been
started, and waits for nobody. So one that somebody retried though what it needs has failed is not
held: its release would cancel it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, select, update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.dependency import Standing, judge
from queuectl.domain.job import State
from queuectl.domain.selection import Chosen, Effect
from queuectl.errors import Conflict
from queuectl.service import dependencies
from queuectl.service.selection import in_chunks, merge, rehearse_chunks

#: Where a job waits, and can be held.
HOLDABLE = (State.BLOCKED, State.SCHEDULED, State.PENDING, State.FAILED)
#: What to do instead, by the state of a job that cannot be held.
WAYS_OUT = {
    State.HELD: "it is held already; let go of it with: queuectl release {id}",
    State.PROCESSING: "it runs; stop it for a while with: queuectl freeze {id}",
    **dict.fromkeys(
        (State.COMPLETED, State.DEAD, State.CANCELLED),
        "it has ended; see its end with: queuectl show {id}",
    ),
}


def hold(store: Store, chosen: Sequence[Chosen], *, strict: bool) -> Effect:
    """Hold these jobs; return which are held by it, and which others wait for those.

    ``strict``: all of them or none, Conflict for one that has been started or has ended meanwhile;
    else such a job is left out.
    """
    return merge(chosen, in_chunks(store, chosen, _work(chosen, strict=strict)))


def rehearse(store: Store, chosen: Sequence[Chosen], *, strict: bool) -> Effect:
    """Return what ``hold`` would, and raise what it would."""
    return merge(chosen, rehearse_chunks(store, chosen, _work(chosen, strict=strict)))


def _work(chosen: Sequence[Chosen], *, strict: bool) -> Any:
    return partial(_hold, named={job.seq: job.id for job in chosen} if strict else {})


def _hold(connection: Connection, seqs: list[int], named: Mapping[int, str]) -> list[Effect]:
    query = select(JobRow.seq, JobRow.id, JobRow.state, JobRow.attempts, JobRow.needed)
    query = query.where(JobRow.seq.in_(seqs), JobRow.state.in_(HOLDABLE))
    rows = connection.execute(query.order_by(JobRow.seq).with_for_update()).all()
    would_not_return = _doomed(connection, rows)
    found = [row for row in rows if row.seq not in would_not_return]
    if named and len(found) < len(seqs):
        left = next(seq for seq in seqs if seq not in {row.seq for row in found})
        _refuse(connection, left, named[left], was_retried=left in would_not_return)
    connection.execute(
        update(JobRow)
        .where(JobRow.seq.in_([row.seq for row in found]))
        .values(state=State.HELD, version=JobRow.version + 1, updated_at=datetime.now(UTC))
    )
    waiting = dependencies.waiting_for(connection, [row.id for row in found if row.needed])
    return [Effect([row.id for row in found], waiting)]


def _doomed(connection: Connection, rows: Sequence[Any]) -> set[int]:
    """Return those that wait for nobody, and would be cancelled if what they need were judged."""
    free = [row.seq for row in rows if row.state != State.BLOCKED and not row.attempts]
    needs = dependencies.needs_of(connection, free)
    return {seq for seq, each in needs.items() if judge(each).standing is Standing.DOOMED}


def _refuse(connection: Connection, seq: int, job_id: str, *, was_retried: bool) -> None:
    if was_retried:
        raise Conflict(
            f"job {job_id!r} was retried though what it needs has failed, and a release would"
            " cancel it; nothing was held",
            hint=f"put it off instead: queuectl set {job_id} delay=1h",
        )
    state = connection.execute(select(JobRow.state).where(JobRow.seq == seq)).scalar()
    raise Conflict(
        f"job {job_id!r} is {state or 'gone'} by now; nothing was held",
        hint=WAYS_OUT[State(state)].format(id=job_id) if state else None,
    )
