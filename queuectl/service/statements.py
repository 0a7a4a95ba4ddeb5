"""The statements of a turn and of a look: built once, when this module is imported.

Parameters have names of their own where a column of the same name is set: SQLAlchemy would take the
value for the column's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import (
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    select,
    update,
)

from queuectl.db.instants import server_clock
from queuectl.db.models import (
    AttemptRow,
    DeadLetterRow,
    JobRow,
    QueueRow,
    ScheduleRow,
    WorkerRow,
)
from queuectl.db.prepared import Prepared
from queuectl.domain.job import State
from queuectl.service.expiry import NEXT_DEADLINE
from queuectl.service.limits import HAS_PLACE, IS_WAITED_IN
from queuectl.service.rows import ATTEMPT_FIELDS

#: Due jobs that one turn makes pending: 100,000 at once held the write lock for 156 ms.
_PROMOTED_A_TURN = 1000


class Candidate(NamedTuple):
    """A pending job that may be claimed: a row of CLAIMABLE, as the driver gives it."""

    seq: int
    version: int
    id: str
    queue: str
    command: str
    cwd: str | None
    env: Any
    attempts: int
    max_retries: int
    timeout_seconds: float | None
    backoff_base: float | None
    crashes: int
    runs: int
    scheduled_for: Any
    needed: int
    stdin_bytes: int | None
    terms: Any


def _literal(state: State) -> Any:
    # SQLite matches no partial index to a parameter, so states in conditions are literals.
    return literal_column(f"'{state.value}'")


_DUE_STATES = (_literal(State.SCHEDULED), _literal(State.FAILED))

#: Rows are locked where writers work side by side; SQLite has one writer and says none of it.
#: With it come the next tick and the next deadline: a worker that is never idle must know too, and
#: a statement of its own would cost every turn one more. Each is a probe of an index, empty where
#: nothing is due.
_NEXT_TICK = select(func.min(ScheduleRow.next_at)).scalar_subquery()
_OWN_ROW = select(
    WorkerRow.state,
    WorkerRow.stop_mode,
    WorkerRow.orders,
    _NEXT_TICK.label("next_tick"),
    NEXT_DEADLINE.label("next_deadline"),
).where(WorkerRow.id == bindparam("worker_id"))
OWN_ROW = Prepared(_OWN_ROW)
#: Nobody may declare this worker dead until its turn is over.
OWN_ROW_KEPT = Prepared(_OWN_ROW.with_for_update(read=True))
PROMOTE = Prepared(
    update(JobRow)
    .where(
        JobRow.seq.in_(
            select(JobRow.seq)
            .where(JobRow.state.in_(_DUE_STATES), JobRow.run_at <= bindparam("now"))
            .order_by(JobRow.run_at)
            .limit(_PROMOTED_A_TURN)
            .with_for_update(skip_locked=True)
        )
    )
    .values(state=State.PENDING, version=JobRow.version + 1, updated_at=bindparam("now"))
)
CLAIMABLE = (
    select(*(getattr(JobRow, name) for name in Candidate._fields))
    .where(JobRow.state == _literal(State.PENDING), JobRow.queue == bindparam("queue_name"))
    .order_by(JobRow.priority.desc(), JobRow.run_at, JobRow.seq)
    .limit(bindparam("count"))
    .with_for_update(skip_locked=True)
)
SELECT = Prepared(CLAIMABLE)
CLAIM = Prepared(
    update(JobRow)
    .where(
        JobRow.seq == bindparam("claimed_seq"),
        JobRow.version == bindparam("seen_version"),
        JobRow.state == _literal(State.PENDING),
    )
    .values(
        state=State.PROCESSING,
        version=JobRow.version + 1,
        runs=JobRow.runs + 1,
        worker_id=bindparam("claimant"),
        claimed_at=bindparam("now"),
        updated_at=bindparam("now"),
    )
)
#: The claim still stands, and knows whether another job waits for this one's end: whoever makes the
#: first wait marks the row meanwhile (``service/dependencies.py``).
_HELD = (
    JobRow.seq == bindparam("settled_seq"),
    JobRow.version == bindparam("claimed_version"),
    JobRow.state == _literal(State.PROCESSING),
    JobRow.needed == bindparam("seen_needed"),
)
_NEXT_STATE = bindparam("next_state", type_=JobRow.state.type)
_CANCELLED = JobRow.cancel_requested_at.is_not(None)
#: Somebody asked to cancel it after its end could still be seen: it would be tried again.
_CANCELLED_LATE = and_(
    _CANCELLED, _NEXT_STATE.in_([_literal(State.FAILED), _literal(State.PENDING)])
)
_NOW = bindparam("now", type_=JobRow.updated_at.type)
SETTLE = Prepared(
    update(JobRow)
    .where(*_HELD)
    .values(
        state=case((_CANCELLED_LATE, _literal(State.CANCELLED)), else_=_NEXT_STATE),
        version=JobRow.version + 1,
        attempts=bindparam("next_attempts"),
        crashes=bindparam("next_crashes"),
        run_at=func.coalesce(bindparam("next_run_at", type_=JobRow.run_at.type), JobRow.run_at),
        last_error=bindparam("next_error"),
        finished_at=case(
            (_CANCELLED_LATE, _NOW),
            else_=bindparam("next_finished_at", type_=JobRow.finished_at.type),
        ),
        updated_at=_NOW,
        worker_id=None,
        claimed_at=None,
        frozen_at=None,
    )
)
GIVE_BACK = Prepared(
    update(JobRow)
    .where(*_HELD)
    .values(
        state=case((_CANCELLED, _literal(State.CANCELLED)), else_=_literal(State.PENDING)),
        version=JobRow.version + 1,
        runs=JobRow.runs - 1,  # it never ran
        finished_at=case((_CANCELLED, _NOW)),
        updated_at=_NOW,
        worker_id=None,
        claimed_at=None,
    )
)
#: Whether others wait for their ends by now; nobody can begin to until the transaction is over.
NEEDED = (
    select(JobRow.seq, JobRow.needed)
    .where(JobRow.seq.in_(bindparam("seqs", expanding=True)))
    .order_by(JobRow.seq)
    .with_for_update()
)
INSERT_ATTEMPT = Prepared(
    insert(AttemptRow).values({name: bindparam(name) for name in ATTEMPT_FIELDS})
)
INSERT_DEAD = insert(DeadLetterRow)
NEXT_DUE = Prepared(select(func.min(JobRow.run_at)).where(JobRow.state.in_(_DUE_STATES)))
#: The open queues in which something is ready and may run; a probe of the claim's index for each.
#: A full one is not among them, or an idle worker would take turns without end that claim nothing.
#: One that is closed by its rate is: it tells when it opens (``rates.sort_out``).
WAITING_QUEUES = Prepared(
    select(QueueRow.name, QueueRow.opens_at, QueueRow.rate_seconds, server_clock()).where(
        QueueRow.paused_at.is_(None), IS_WAITED_IN, HAS_PLACE
    )
)
