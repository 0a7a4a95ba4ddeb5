"""Retention: workers delete ended jobs that are past the stored options ``retention-...``.

One worker does it for all: the one that has been alive longest, as the store has them. It looks at
most once a minute, with a read, and writes only if something is to go. Nothing is written down for
that: should two take themselves for the first, each finds gone what the other has deleted.

Jobs end about in the order in which they came, so those that are past their time are mostly the
first of their state in ``ix_jobs_finished``, which is (state, seq): a look there finds them,
however many are kept behind. A second look goes on where the last one ended, round and round, for
those that stand behind others which came earlier and ended later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, Select, func, literal_column, select

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.models import JobRow, WorkerRow
from queuectl.db.prepared import Prepared, to_instant
from queuectl.domain.job import State
from queuectl.domain.retention import believable_now, horizons
from queuectl.service import config, pruning
from queuectl.service.pruning import Choice, Ended
from queuectl.service.rows import in_states

#: Jobs that a look goes past, whether they are to go or not.
_WINDOW_JOBS = 250
#: The last jobs among which the newest change is looked for.
_NEWEST_JOBS = 100

# What every worker asks, idle ones too: one that compiles nothing shares its supervisor's memory.
_LAST_CHANGES = select(JobRow.updated_at).order_by(JobRow.seq.desc()).limit(_NEWEST_JOBS).subquery()
_NEWEST_CHANGE = Prepared(select(func.max(_LAST_CHANGES.c.updated_at)))
_ALIVE = Prepared(
    select(WorkerRow.id, WorkerRow.boot_id)
    .where(WorkerRow.state == literal_column("'alive'"))
    .order_by(WorkerRow.started_at, WorkerRow.id)
)


@dataclass(frozen=True, slots=True)
class Duty:
    """What falls to one worker: to prune the store, to sweep this machine's outputs, or neither."""

    prunes: bool
    sweeps: bool
    #: Before when a job of a state must have ended to be deleted; empty: nothing is.
    horizons: Mapping[State, datetime]


@dataclass(slots=True)
class Walk:
    """How far the second look has come, by state."""

    after: dict[State, int] = field(default_factory=dict)


def newest_change(store: Store) -> datetime | None:
    """Return when one of the last jobs last changed; None: there are none."""
    rows = store.read(_NEWEST_CHANGE.fetch)
    return to_instant(rows[0][0])


def duty(store: Store, worker_id: str, newest: datetime | None, watched_seconds: float) -> Duty:
    """Return what falls to this worker now.

    ``newest`` is what ``newest_change`` returned ``watched_seconds`` ago. Raises StoreError.
    """

    def work(connection: Connection) -> Duty:
        alive = _ALIVE.fetch(connection)
        options = config.load(connection)
        now = believable_now(
            store.clock(connection).astimezone(UTC), datetime.now(UTC), newest, watched_seconds
        )
        before = {} if now is None else horizons(now, options.retention)
        near = [alive_id for alive_id, place in alive if _is_here(store, place)]
        return Duty(bool(alive) and alive[0][0] == worker_id, near[:1] == [worker_id], before)

    return store.read(work)


def _is_here(store: Store, place: str) -> bool:
    """Whether a worker of that place has the same folder of outputs."""
    return not store.is_shared or place == presence.neighbourhood(store.location)


def expired(
    store: Store, horizons: Mapping[State, datetime], walk: Walk
) -> dict[State, list[Ended]]:
    """Return jobs past their time, at most a batch of each state, and go on with the walk."""

    def work(connection: Connection) -> dict[State, tuple[list[Ended], int]]:
        return {
            state: _look(connection, state, before, walk.after.get(state, 0))
            for state, before in horizons.items()
        }

    looked = store.read(work)
    walk.after.update({state: after for state, (_, after) in looked.items()})
    return {state: found for state, (found, _) in looked.items() if found}


def _look(
    connection: Connection, state: State, before: datetime, after: int
) -> tuple[list[Ended], int]:
    first = connection.execute(_window(state, 0)).all()
    more = connection.execute(_window(state, after)).all() if after else []
    last = (more or first)[-1].seq if len(more or first) == _WINDOW_JOBS else 0
    rows = {row.seq: row for row in (*first, *more) if row.ended_at < before}
    found = [Ended(row.seq, row.id, state, row.runs) for row in rows.values()]
    if not found:
        return [], last
    fitting = pruning.fitting(connection, found[: pruning.BATCH_JOBS])
    return fitting, last if len(fitting) == len(found) else after  # the others come next


def _window(state: State, after: int) -> Select[int, str, int, datetime]:
    query = select(JobRow.seq, JobRow.id, JobRow.runs, pruning.ENDED_AT.label("ended_at"))
    behind = query.where(in_states(state), JobRow.seq > after)
    return behind.order_by(JobRow.seq).limit(_WINDOW_JOBS)


def prune_expired(
    store: Store, horizons: Mapping[State, datetime], found: Mapping[State, Sequence[Ended]]
) -> int:
    """Delete those jobs, a transaction a state; return how many went. Raises StoreError."""
    return sum(
        len(pruning.prune(store, Choice((state,), horizons[state]), jobs))
        for state, jobs in found.items()
    )
