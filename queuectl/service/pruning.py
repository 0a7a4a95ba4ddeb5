"""Pruning: ended jobs are deleted, with their attempts, outputs and dead letters.

A job goes in this order: first its row, with all that hangs on it, in one transaction; then the
files that it left on this machine. A crash in between leaves files whose job is gone, which say so
by their names, and which ``service/leftovers.py`` finds, on whatever machine they are. The other
way round it would leave a job whose history speaks of an output that nobody can read any more.

Each transaction deletes a few hundred jobs at most, so that nobody who writes has to wait for long;
the pages that become free are used again. Whether a job may go is asked once more by the DELETE
itself: a dead one may have been queued again since it was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, select

from queuectl.db.engine import Store
from queuectl.db.models import JobRow, OutputChunkRow
from queuectl.domain.job import FINISHED, State
from queuectl.domain.selection import Selection
from queuectl.errors import InvalidInput
from queuectl.service import logs
from queuectl.service.narrowing import narrow
from queuectl.service.rows import in_states

#: Jobs that one transaction deletes: with their attempts some 10 ms.
BATCH_JOBS = 250
#: Attempts that one transaction deletes; one job may have had more.
_BATCH_ATTEMPTS = 2500
#: Pieces of stored output that one transaction deletes, each up to 64 KiB; one job may have more.
_BATCH_CHUNKS = 512

#: A job that ended says when; a row that was put there by something else says at least this.
ENDED_AT = func.coalesce(JobRow.finished_at, JobRow.updated_at, type_=JobRow.updated_at.type)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which jobs are to go: those of these states that ended before that instant."""

    states: tuple[State, ...]
    before: datetime
    only: Selection = field(default_factory=Selection)


class Ended(NamedTuple):
    """A job that is to go, or gone."""

    seq: int
    id: str
    state: State
    runs: int


def choose(
    store: Store,
    states: Sequence[State],
    *,
    older_than_seconds: float,
    only: Selection | None = None,
) -> Choice:
    """Return the choice of what ended so long ago, by the store's clock.

    ``only`` narrows it to a queue, a tag, ...; its states are not looked at.
    Raises InvalidInput for a state in which a job has not ended.
    """
    for state in states:
        if state not in FINISHED:
            ended = ", ".join(sorted(FINISHED))
            raise InvalidInput(
                f"a job that is {state} has not ended, and is not pruned",
                hint=f"name one of these with --state: {ended}",
            )
    now = store.read(store.clock).astimezone(UTC)
    before = now - timedelta(seconds=older_than_seconds)
    return Choice(tuple(dict.fromkeys(states)), before, only or Selection())


def count(store: Store, choice: Choice) -> dict[State, int]:
    """Return how many jobs are to go, by state."""

    def work(connection: Connection) -> dict[State, int]:
        return {
            state: connection.execute(
                select(func.count()).select_from(JobRow).where(*_conditions(choice, state))
            ).scalar_one()
            for state in choice.states
        }

    return store.read(work)


def find_some(store: Store, choice: Choice, state: State, after: int = 0) -> list[Ended]:
    """Return the next jobs to go of this state, behind that number: as many as go at once."""

    def work(connection: Connection) -> list[Ended]:
        query = select(JobRow.seq, JobRow.id, JobRow.state, JobRow.runs)
        query = query.where(*_conditions(choice, state), JobRow.seq > after)
        rows = connection.execute(query.order_by(JobRow.seq).limit(BATCH_JOBS)).all()
        return fitting(connection, [_to_ended(row) for row in rows])

    return store.read(work)


def _conditions(choice: Choice, state: State) -> list[ColumnElement[bool]]:
    return [in_states(state), choice.before > ENDED_AT, *narrow(choice.only)]


def _to_ended(row: Sequence[object]) -> Ended:
    seq, job_id, state, runs = row
    return Ended(int(str(seq)), str(job_id), State(str(state)), int(str(runs)))


def fitting(connection: Connection, found: Sequence[Ended]) -> list[Ended]:
    """Return as many of these, from the first on, as one transaction deletes with what they left.

    It is one at least, whatever it left.
    """
    query = select(OutputChunkRow.job_seq, func.count())
    query = query.where(OutputChunkRow.job_seq.in_([job.seq for job in found]))
    rows = connection.execute(query.group_by(OutputChunkRow.job_seq)).all()
    chunks = dict(rows)
    attempts = pieces = 0
    for position, job in enumerate(found):
        attempts += job.runs
        pieces += chunks.get(job.seq, 0)
        if position and (attempts > _BATCH_ATTEMPTS or pieces > _BATCH_CHUNKS):
            return list(found[:position])
    return list(found)


def prune(store: Store, choice: Choice, found: Sequence[Ended]) -> list[Ended]:
    """Delete those jobs that are still to go, then their files on this machine; return them."""

    def work(connection: Connection) -> list[Ended]:
        store.hush(connection)  # nobody waits for what has ended
        conditions = [in_states(*choice.states), choice.before > ENDED_AT]
        return delete_rows(connection, [job.seq for job in found], *conditions)

    gone = store.write(work)
    for job in gone:
        logs.remove_heads(store.location, job.seq, job.runs)
    return gone


def delete_rows(
    connection: Connection, seqs: Sequence[int], *conditions: ColumnElement[bool]
) -> list[Ended]:
    """Delete those of the jobs that fulfil the conditions; the foreign keys take the rest along."""
    query = delete(JobRow).where(JobRow.seq.in_(seqs), *conditions)
    gone = connection.execute(query.returning(JobRow.seq, JobRow.id, JobRow.state, JobRow.runs))
    return [_to_ended(row) for row in gone.all()]


def by_state(jobs: Sequence[Ended]) -> Mapping[State, int]:
    """Return how many of them there are of each state."""
    return Counter(job.state for job in jobs)
