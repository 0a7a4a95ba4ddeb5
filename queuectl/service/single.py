"""The one job that a worker was started for: ``run`` has it held until that worker comes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, or_, select, update

from queuectl.db.models import JobRow
from queuectl.domain.job import State
from queuectl.service.rows import in_states
from queuectl.service.statements import Candidate


class Standing(NamedTuple):
    """Whether the job can be claimed now, and if not, when; None: nobody knows."""

    due: bool
    due_at: datetime | None


def choose_single(connection: Connection, seq: int, now: datetime) -> list[Candidate]:
    """Select the job to claim if it is ready; it is released first if it was held for this worker.

    Part of a turn, so that nobody else ever sees it pending before its first attempt.
    """
    ready = or_(
        # One that has been started is held because somebody wants that.
        and_(JobRow.state == State.HELD, JobRow.runs == 0),
        and_(JobRow.state.in_((State.SCHEDULED, State.FAILED)), JobRow.run_at <= now),
    )
    connection.execute(
        update(JobRow)
        .where(JobRow.seq == seq, ready)
        .values(state=State.PENDING, version=JobRow.version + 1, updated_at=now)
    )
    query = select(*(getattr(JobRow, name) for name in Candidate._fields)).where(
        JobRow.seq == seq, in_states(State.PENDING)
    )
    return [Candidate._make(row) for row in connection.execute(query.with_for_update())]


def ask_standing(connection: Connection, seq: int) -> Callable[[], Standing]:
    """Return what gives how the job stands."""
    row = connection.execute(
        select(JobRow.state, JobRow.run_at, JobRow.runs).where(JobRow.seq == seq)
    ).first()

    def read() -> Standing:
        if row is None or row.state not in (State.HELD, *_WAITING):
            return Standing(due=False, due_at=None)
        if row.state == State.HELD and row.runs:
            return Standing(due=False, due_at=None)
        if row.state in (State.SCHEDULED, State.FAILED):
            return Standing(row.run_at <= datetime.now(UTC), row.run_at)
        return Standing(due=True, due_at=None)

    return read


_WAITING = (State.PENDING, State.SCHEDULED, State.FAILED)
