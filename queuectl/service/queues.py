"""Queues: paused, resumed, limited, slowed down, purged.

A row appears with a queue's first job, or before.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, delete, select, text, update

from queuectl.db.engine import Store
from queuectl.db.models import DependencyRow, JobRow, QueueRow
from queuectl.db.prepared import Prepared
from queuectl.domain.dependency import DELETED
from queuectl.domain.job import State
from queuectl.domain.rate import Rate
from queuectl.errors import NotFound
from queuectl.service import dependencies, rates
from queuectl.service.limits import RUNNING, Terms
from queuectl.service.rows import in_states, rate_of

_OPEN_QUEUES = Prepared(
    select(QueueRow.name, QueueRow.max_running, QueueRow.rate_count, QueueRow.rate_seconds)
    .where(QueueRow.paused_at.is_(None))
    .order_by(QueueRow.name)
)
_ALL_QUEUES = Prepared(select(QueueRow.name))
#: Two who enqueue may meet in a new queue.
_INSERT = text(
    f"INSERT INTO {QueueRow.__tablename__} (name) VALUES (:name)"  # noqa: S608  # a constant
    " ON CONFLICT DO NOTHING"
)
_WAITING = (State.HELD, State.BLOCKED, State.PENDING, State.SCHEDULED, State.FAILED)
#: Jobs that one transaction of a purge deletes, so that no worker waits for all of them, and rows
#: that one statement names: below SQLite's limit of parameters.
_PURGED_AT_ONCE = 2000
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class QueueChange:
    """A queue as a command leaves it, and whether that is another state than before."""

    name: str
    paused_at: datetime | None
    max_running: int | None
    rate: Rate | None
    changed: bool
    #: How many of its jobs run at that moment.
    running: int


class _Row(NamedTuple):
    name: str
    paused_at: datetime | None = None
    max_running: int | None = None
    rate_count: int | None = None
    rate_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The jobs of a queue that wait, how many of them are held, and how many others run."""

    queue: str
    #: The newest first, so that a job goes before those that it needs.
    seqs: Sequence[int]
    held: int
    running: int
    #: The ids of jobs of other queues that are cancelled if those are deleted: they need them.
    dependents: list[str]


@dataclass(frozen=True, slots=True)
class Purged:
    """How many jobs were deleted; ``ran``: sequence number and runs of those that left output."""

    count: int
    ran: list[tuple[int, int]]
    #: The ids of jobs that were cancelled because they need one of those.
    dependents: list[str]


def ask_known(connection: Connection) -> Callable[[], set[str]]:
    """Return what gives the names of all queues; part of the enqueueing transaction."""
    found = _ALL_QUEUES.ask(connection)
    return lambda: {name for (name,) in found()}


def add(connection: Connection, names: Iterable[str]) -> None:
    """Add queues that are new; part of the enqueueing transaction."""
    if rows := [{"name": name} for name in sorted(names)]:
        connection.execute(_INSERT, rows)


def ask_open(connection: Connection) -> Callable[[], dict[str, Terms]]:
    """Return what gives the queues that are not paused, by name, each with its limit and rate."""
    found = _OPEN_QUEUES.ask(connection)
    return lambda: {name: Terms(*terms) for name, *terms in found()}


def pause(store: Store, names: Sequence[str] | None, *, dry_run: bool = False) -> list[QueueChange]:
    """Let nothing of these queues be claimed any more; None: of all there are. What runs goes on.

    A queue that has no job yet is added. Returns them in the order of their names.
    """
    values = {"paused_at": datetime.now(UTC)}
    return _change(store, names, values, lambda row: row.paused_at is None, dry_run=dry_run)


def resume(
    store: Store, names: Sequence[str] | None, *, dry_run: bool = False
) -> list[QueueChange]:
    """Let these queues be served again; idle workers hear of it. Raises NotFound."""
    store.read(lambda connection: _require_known(connection, names or ()))
    values = {"paused_at": None}
    return _change(store, names, values, lambda row: row.paused_at is not None, dry_run=dry_run)


def limit(store: Store, name: str, most: int | None) -> QueueChange:
    """Let at most so many jobs of a queue run at once, over all workers; None lifts the limit.

    What runs goes on. A turn that a server has begun before this commits may still claim by the
    limit before.
    """
    [change] = _change(store, [name], {"max_running": most}, lambda row: row.max_running != most)
    return change


def set_rate(store: Store, name: str, rate: Rate | None) -> QueueChange:
    """Let at most so many jobs of a queue start in any such window, over all workers.

    None lifts the rate. What has started within the window by a rate of before still counts. A turn
    that a server has begun before this commits may still claim by the rate before.
    """

    def work(connection: Connection) -> QueueChange:
        [row] = _lock(connection, [name])
        changed = rate_of(row.rate_count, row.rate_seconds) != rate
        if changed:
            rates.change(store, connection, name, rate)
        running = dict(RUNNING.fetch(connection)).get(name, 0)
        return QueueChange(name, row.paused_at, row.max_running, rate, changed, running)

    return store.write(work)


def _change(
    store: Store,
    names: Sequence[str] | None,
    values: Mapping[str, Any],
    differs: Callable[[_Row], bool],
    *,
    dry_run: bool = False,
) -> list[QueueChange]:
    def work(connection: Connection) -> list[QueueChange]:
        rows = _look(connection, names) if dry_run else _lock(connection, names)
        touched = [row.name for row in rows if differs(row)]
        if touched and not dry_run:
            connection.execute(update(QueueRow).where(QueueRow.name.in_(touched)).values(**values))
        running = dict(RUNNING.fetch(connection))
        changes = []
        for row in rows:
            changed = row.name in touched
            after = _Row(**{**row._asdict(), **values}) if changed else row
            changes.append(_to_change(after, running.get(row.name, 0), changed=changed))
        return changes

    return store.read(work) if dry_run else store.write(work)


def _to_change(row: _Row, running: int, *, changed: bool) -> QueueChange:
    rate = rate_of(row.rate_count, row.rate_seconds)
    return QueueChange(row.name, row.paused_at, row.max_running, rate, changed, running)


def _look(connection: Connection, names: Sequence[str] | None) -> list[_Row]:
    found = {row.name: row for row in map(_to_row, connection.execute(_rows_of(names)))}
    return [found.get(name, _Row(name)) for name in sorted(found if names is None else set(names))]


def _lock(connection: Connection, names: Sequence[str] | None) -> list[_Row]:
    """Return the rows, which nobody else changes meanwhile, and those that are new."""
    if names is not None:
        add(connection, set(names))
    # In the order of their names, as turns lock those that have a limit.
    return [_to_row(row) for row in connection.execute(_rows_of(names).with_for_update())]


def _rows_of(names: Sequence[str] | None) -> Select[Any]:
    columns = (getattr(QueueRow, name) for name in _Row._fields)
    query: Select[Any] = select(*columns).order_by(QueueRow.name)
    return query if names is None else query.where(QueueRow.name.in_(names))


def _to_row(row: Any) -> _Row:
    return _Row(*row)


def _require_known(connection: Connection, names: Sequence[str]) -> None:
    known = ask_known(connection)()
    for name in names:
        if name not in known:
            raise NotFound(
                f"there is no queue {name[:128]!r}", hint="list them with: queuectl queue list"
            )


def find_waiting(store: Store, name: str) -> Waiting:
    """Return the held, blocked, pending, scheduled and failed jobs of a queue; raises NotFound."""

    def work(connection: Connection) -> Waiting:
        _require_known(connection, [name])
        held = select(JobRow.seq).where(in_states(State.HELD), JobRow.queue == name)
        seqs = list(connection.execute(held).scalars())
        count = len(seqs)
        for states in ((State.BLOCKED,), (State.PENDING,), (State.SCHEDULED, State.FAILED)):
            query = select(JobRow.seq).where(in_states(*states), JobRow.queue == name)
            seqs += connection.execute(query).scalars()
        running = dict(RUNNING.fetch(connection))
        dependents = _foresee(connection, name)
        newest_first = array("q", sorted(seqs, reverse=True))
        return Waiting(name, newest_first, count, running.get(name, 0), dependents)

    return store.read(work)


def _foresee(connection: Connection, name: str) -> list[str]:
    """Return the jobs of other queues that are cancelled if those that wait in this one go."""
    needed = select(DependencyRow.needed_id).where(DependencyRow.outcome.is_(None))
    query = select(JobRow.id).where(
        JobRow.id.in_(needed), JobRow.state.in_(_WAITING), JobRow.queue == name
    )
    found = dependencies.foresee(connection, list(connection.execute(query).scalars()))
    others: list[str] = []
    for start in range(0, len(found), _CHUNK):
        chunk = found[start : start + _CHUNK]
        elsewhere = select(JobRow.id).where(JobRow.id.in_(chunk), JobRow.queue != name)
        others += connection.execute(elsewhere.order_by(JobRow.seq)).scalars()
    return others


def purge(store: Store, waiting: Waiting) -> Purged:
    """Delete those of the jobs that still wait, with their history, in small transactions.

    Their output files are the caller's to remove. One that was started meanwhile goes on.
    """
    count = 0
    ran: list[tuple[int, int]] = []
    dependents: list[str] = []
    for start in range(0, len(waiting.seqs), _PURGED_AT_ONCE):
        seqs = waiting.seqs[start : start + _PURGED_AT_ONCE]
        gone, cancelled = store.write(partial(_purge, seqs=seqs))
        dependents += cancelled
        count += len(gone)
        ran += [(seq, runs) for seq, runs in gone if runs]
    return Purged(count, ran, dependents)


def _purge(connection: Connection, seqs: Sequence[int]) -> tuple[list[tuple[int, int]], list[str]]:
    gone: list[tuple[int, int]] = []
    dependents: list[str] = []
    for start in range(0, len(seqs), _CHUNK):
        chunk = list(seqs[start : start + _CHUNK])
        query = select(JobRow.seq, JobRow.runs, JobRow.id, JobRow.needed).where(
            JobRow.seq.in_(chunk), JobRow.state.in_(_WAITING)
        )
        rows = connection.execute(query.order_by(JobRow.seq).with_for_update()).all()
        found = [(row.seq, row.runs) for row in rows]
        needed = [row.id for row in rows if row.needed]
        passed = dependencies.pass_on(connection, dict.fromkeys(needed, DELETED))
        deleted = {row.id for row in rows}
        dependents += [job_id for job_id in passed.cancelled if job_id not in deleted]
        connection.execute(delete(JobRow).where(JobRow.seq.in_([seq for seq, _ in found])))
        gone += found
    return gone, dependents
