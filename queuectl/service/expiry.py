"""Expiry: jobs that were not started by their deadline go to the dead letter queue.

A turn reads the next deadline with its own row, from an index that holds nothing but jobs which
have one and were never started; only when it has passed is anything more asked. The jobs go before
the turn chooses, so that what it claims is in time. Until some worker takes a turn they stay as
they are, and ``show``, ``explain`` and ``status`` say that their deadline is over.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, and_, func, insert, literal_column, select, update

from queuectl.db.models import DeadLetterRow, JobRow
from queuectl.domain.job import State
from queuectl.domain.retry import EXPIRED
from queuectl.service import dependencies

#: Jobs that one turn moves; a turn that meets so many claims nothing.
EXPIRED_A_TURN = 1000

_STATES = (State.HELD, State.BLOCKED, State.SCHEDULED, State.PENDING)
#: As the index has it, or SQLite would not find it.
EXPIRABLE = and_(
    JobRow.deadline.is_not(None),
    JobRow.runs == literal_column("0"),
    JobRow.state.in_([literal_column(f"'{state}'") for state in _STATES]),
)
NEXT_DEADLINE = select(func.min(JobRow.deadline)).where(EXPIRABLE).scalar_subquery()


def expire(connection: Connection, now: datetime) -> int:
    """Move jobs whose deadline has passed, some at most; return how many. Part of a turn."""
    query = select(JobRow.seq, JobRow.id, JobRow.deadline, JobRow.needed)
    query = query.where(EXPIRABLE, JobRow.deadline <= now).order_by(JobRow.deadline)
    found = query.limit(EXPIRED_A_TURN).with_for_update(skip_locked=True)
    rows = connection.execute(found).all()
    if not rows:
        return 0
    connection.execute(
        update(JobRow)
        .where(JobRow.seq.in_([row.seq for row in rows]))
        .values(state=State.DEAD, version=JobRow.version + 1, finished_at=now, updated_at=now)
    )
    letters = [
        {
            "job_seq": row.seq,
            "died_at": now,
            "reason": EXPIRED,
            "last_error": f"it was not started by {_tell(row.deadline)}",
        }
        for row in rows
    ]
    connection.execute(insert(DeadLetterRow), letters)
    needed = [row.id for row in rows if row.needed]
    dependencies.pass_on(connection, dict.fromkeys(needed, State.DEAD.value))
    return len(rows)


def _tell(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
