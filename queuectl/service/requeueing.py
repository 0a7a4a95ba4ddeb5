"""Requeue jobs that have ended, with all their retries; release those that are held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Connection, case, delete, literal_column, select, update
from sqlalchemy.exc import IntegrityError

from queuectl.db.engine import Store
from queuectl.db.models import DeadLetterRow, JobRow
from queuectl.domain.job import FINISHED, State
from queuectl.domain.selection import Chosen, Effect
from queuectl.errors import Conflict
from queuectl.service import dependencies
from queuectl.service.rows import in_states
from queuectl.service.selection import in_chunks, merge, rehearse_chunks


def retry(store: Store, chosen: Sequence[Chosen], *, among: Iterable[State] = FINISHED) -> Effect:
    """Queue those of these jobs again that have ended so still, and what was cancelled for them.

    The history is kept. Raises Conflict where another job with the same unique key waits or runs.
    """
    return merge(chosen, in_chunks(store, chosen, partial(_retry, among=tuple(among))))


def rehearse_retry(
    store: Store, chosen: Sequence[Chosen], *, among: Iterable[State] = FINISHED
) -> Effect:
    """Return what ``retry`` would change, and raise what it would."""
    return merge(chosen, rehearse_chunks(store, chosen, partial(_retry, among=tuple(among))))


def _retry(connection: Connection, seqs: list[int], *, among: Iterable[State]) -> list[Effect]:
    found = lock(connection, seqs, among)
    back = requeue_rows(connection, list(found))
    return [Effect(list(found.values()), back)]


def lock(connection: Connection, seqs: Sequence[int], states: Iterable[State]) -> dict[int, str]:
    """Return the ids of those jobs that are in such a state; nobody can change them meanwhile."""
    query = select(JobRow.seq, JobRow.id).where(JobRow.seq.in_(seqs), in_states(*states))
    rows = connection.execute(query.order_by(JobRow.seq).with_for_update())
    return {row.seq: row.id for row in rows}


def requeue_rows(connection: Connection, seqs: list[int]) -> list[str]:
    """Make locked jobs that have ended pending, as if they had just been enqueued.

    One that needs jobs that may still end well waits for them. Jobs that were cancelled for the end
    of one of these wait for it again: their ids are returned. Raises Conflict where another job
    with the same unique key waits or runs.
    """
    now = datetime.now(UTC)
    needed, waiting = dependencies.reopen(connection, seqs)
    connection.execute(delete(DeadLetterRow).where(DeadLetterRow.job_seq.in_(seqs)))
    requeued = (
        update(JobRow)
        .where(JobRow.seq.in_(seqs))
        .values(
            state=case(
                (JobRow.seq.in_(waiting), literal_column(f"'{State.BLOCKED}'")),
                else_=literal_column(f"'{State.PENDING}'"),
            ),
            version=JobRow.version + 1,
            attempts=0,
            crashes=0,
            requeued_after_run=JobRow.runs,
            run_at=now,
            updated_at=now,
            finished_at=None,
            cancel_requested_at=None,
            cancel_reason=None,
            deadline=None,  # whoever retries it wants it now
        )
    )
    try:
        connection.execute(requeued)
        return dependencies.bring_back(connection, needed)
    except IntegrityError as error:
        raise Conflict(
            "another job with the same unique key waits or runs",
            hint="let that one end, or cancel it, and try again",
        ) from error


@dataclass(frozen=True, slots=True)
class Released:
    """The ids of jobs that were let go of."""

    ids: list[str]
    #: Those of them that can no longer start, as what they need has ended otherwise: cancelled.
    cancelled: list[str] = field(default_factory=list)
    #: Other jobs that were cancelled because they need one of those.
    dependents: list[str] = field(default_factory=list)


def release(store: Store, chosen: Sequence[Chosen]) -> Released:
    """Let go of these jobs; those that are held no more are left out."""
    return _join(chosen, in_chunks(store, chosen, _release))


def rehearse_release(store: Store, chosen: Sequence[Chosen]) -> Released:
    """Return what ``release`` would."""
    return _join(chosen, rehearse_chunks(store, chosen, _release))


def _release(connection: Connection, seqs: list[int]) -> list[Released]:
    found = lock(connection, seqs, (State.HELD,))
    cancelled, dependents = release_rows(connection, list(found))
    return [Released(list(found.values()), cancelled, dependents)]


def _join(chosen: Sequence[Chosen], parts: Sequence[Released]) -> Released:
    """Return all together; none of those that were meant is told as another's dependent."""
    effect = merge(chosen, [Effect(part.ids, part.dependents) for part in parts])
    meant = set(effect.ids)
    ended = [job_id for part in parts for job_id in (*part.cancelled, *part.dependents)]
    cancelled = [job_id for job_id in dict.fromkeys(ended) if job_id in meant]
    return Released(list(effect.ids), cancelled, list(effect.dependents))


def release_rows(connection: Connection, seqs: list[int]) -> tuple[list[str], list[str]]:
    """Make locked jobs that are held wait for others, for their time, or for a worker.

    One that can no longer start, as what it needs has ended otherwise, is cancelled: returns the
    ids of those, and of the others that are cancelled because they need one of them.
    """
    nobody_edits = update(JobRow).where(JobRow.seq.in_(seqs), JobRow.edit_started_at.is_not(None))
    connection.execute(nobody_edits.values(edit_started_at=None))
    started = select(JobRow.seq).where(JobRow.seq.in_(seqs), JobRow.attempts > 0)
    bound = set(dependencies.needs_of(connection, seqs))
    bound -= set(connection.execute(started).scalars()) if bound else set()
    dependencies.let_go(connection, [seq for seq in seqs if seq not in bound], datetime.now(UTC))
    if not bound:
        return [], []
    dependencies.block(connection, sorted(bound))
    query = select(JobRow.seq, JobRow.id, JobRow.needed).where(JobRow.seq.in_(sorted(bound)))
    settled = dependencies.settle_blocked(connection, connection.execute(query).all())
    passed = dependencies.pass_on(connection, dict.fromkeys(settled.needed, State.CANCELLED.value))
    return settled.cancelled, passed.cancelled
