"""Workers: they register, beat, are asked to stop, leave, and are rescued from when they died."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.models import JobRow, WorkerRow
from queuectl.db.prepared import Prepared
from queuectl.service import config, dependencies, limits

#: What a worker is asked for that leaves while its siblings stay: no replacement inherits it.
LEAVE = "leave"
#: What a supervisor is asked for, and all its workers with it.
STOP_MODES = ("drain", "now")

#: Rows of ended workers are kept this long, so that their names can still be looked up.
_KEPT = timedelta(days=1)

_BEAT = Prepared(
    update(WorkerRow)
    .where(WorkerRow.id == bindparam("worker_id"), WorkerRow.state == "alive")
    .values(heartbeat_at=bindparam("now"), lease_expires_at=bindparam("expires"))
)
#: The same where machines share the store, by the database's clock: one round trip.
_BEAT_BY_SERVER = Prepared(
    update(WorkerRow)
    .where(WorkerRow.id == bindparam("worker_id"), WorkerRow.state == "alive")
    .values(
        heartbeat_at=func.clock_timestamp(),
        lease_expires_at=func.clock_timestamp()
        + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("lease_seconds", type_=Float)),
    )
)
#: Those who were asked to stop and those who were not: all are kept from being asked meanwhile.
_SIBLINGS_KEPT = Prepared(
    select(WorkerRow.stop_requested_at, WorkerRow.stop_mode, WorkerRow.scalings, WorkerRow.wanted)
    .where(WorkerRow.supervisor_id == bindparam("supervisor"))
    .with_for_update(read=True)
)
_FORGET = Prepared(
    delete(WorkerRow).where(WorkerRow.state != "alive", WorkerRow.heartbeat_at < bindparam("until"))
)
_REGISTER = Prepared(
    insert(WorkerRow).values(
        {column.name: bindparam(column.name) for column in WorkerRow.__table__.columns}
    )
)
_PROCESSING = JobRow.state == literal_column("'processing'")
_ALIVE = select(WorkerRow).where(WorkerRow.state == "alive").order_by(WorkerRow.started_at)


@dataclass(frozen=True, slots=True)
class Registration:
    """What a worker says of itself when it begins. ``queues`` None: all of them."""

    worker_id: str
    supervisor_id: str
    host: str
    boot_id: str
    pid: int
    slots: int
    queues: tuple[str, ...] | None
    #: How many workers its supervisor was started with; None: it cannot have others.
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many workers a supervisor is to have; of two scalings the higher number counts."""

    number: int
    wanted: int


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker has claimed."""

    id: str
    queue: str
    run: int
    claimed_at: datetime | None
    frozen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that is alive as far as the store knows; ``dead`` when its process is gone.

    ``stopped`` where somebody waited until it had left.
    """

    id: str
    supervisor_id: str
    host: str
    pid: int
    slots: int
    queues: list[str] | None
    started_at: datetime
    heartbeat_at: datetime
    lease_expires_at: datetime
    stop_requested_at: datetime | None
    stop_mode: str | None
    state: str
    running: list[RunningJob]
    #: How many workers its supervisor is to have; None: it cannot have others.
    wanted: int | None

    def serves(self, queue: str) -> bool:
        """Whether it lives, takes jobs of this queue, and was not asked to stop."""
        served = self.queues is None or queue in self.queues
        return served and self.state == "alive" and self.stop_mode is None


def register(store: Store, registration: Registration) -> Scaling | None:
    """Add a worker. It inherits what its supervisor was asked for: a stop, a number of workers.

    Returns the latter, if it was ever changed.
    """

    def work(connection: Connection) -> Scaling | None:
        now = store.clock(connection)
        store.hush(connection)
        options = config.load(connection)
        siblings = _SIBLINGS_KEPT.fetch(connection, {"supervisor": registration.supervisor_id})
        asked = [row[:2] for row in siblings if row[1] in STOP_MODES]
        stop_requested_at, stop_mode = asked[0] if asked else (None, None)
        scalings, wanted = max((row[2:] for row in siblings if row[2]), default=(0, None))
        _FORGET.execute(connection, [{"until": now - _KEPT}])
        row = {
            "id": registration.worker_id,
            "supervisor_id": registration.supervisor_id,
            "host": registration.host,
            "boot_id": presence.neighbourhood(store.location, registration.boot_id),
            "pid": registration.pid,
            "slots": registration.slots,
            "queues": None if registration.queues is None else json.dumps(registration.queues),
            "started_at": now,
            "heartbeat_at": now,
            "lease_expires_at": now + timedelta(seconds=options.lease),
            "stop_requested_at": stop_requested_at,
            "stop_mode": stop_mode,
            "state": "alive",
            "orders": 0,
            "wanted": registration.count if wanted is None else wanted,
            "scalings": scalings,
        }
        _REGISTER.execute(connection, [row])
        return None if wanted is None else Scaling(scalings, wanted)

    return store.write(work)


def beat(store: Store, worker_id: str, lease_seconds: float) -> bool:
    """Renew the worker's lease; False: it was declared dead and must end what it runs."""

    def work(connection: Connection) -> Callable[[], int]:
        store.hush(connection)
        if store.is_shared:
            return grant(connection, worker_id, lease_seconds)
        now = store.clock(connection)
        expires = now + timedelta(seconds=lease_seconds)
        values: dict[str, Any] = {"worker_id": worker_id, "now": now, "expires": expires}
        return _BEAT.tell(connection, [values])

    return store.write(work)() == 1


def grant(connection: Connection, worker_id: str, lease_seconds: float) -> Callable[[], int]:
    """Let a lease on a shared store begin anew in this transaction, even a shorter one.

    What is returned tells how many workers it found: none that was declared dead.
    """
    values = {"worker_id": worker_id, "lease_seconds": lease_seconds}
    return _BEAT_BY_SERVER.tell(connection, [values])


def require_rights(store: Store) -> None:
    """Refuse a database role that may not keep a worker; raises StoreError.

    A heartbeat of nobody's, a lock of no queue, and an end of no job change no row, and ask the
    server for all that it needs.
    """
    if store.is_shared:
        beat(store, "", 0)
        store.write(limits.require_right)
        store.write(dependencies.require_rights)


def leave(store: Store, worker_id: str) -> None:
    """Mark a worker that has settled everything as stopped."""
    store.write(
        lambda connection: connection.execute(
            update(WorkerRow)
            .where(WorkerRow.id == worker_id, WorkerRow.state == "alive")
            .values(state="stopped", heartbeat_at=store.clock(connection))
        )
    )


def note_leaving(store: Store, worker_id: str) -> None:
    """Let others see that a worker was asked to leave by its supervisor, and claims no more."""

    def work(connection: Connection) -> None:
        store.hush(connection)
        connection.execute(
            update(WorkerRow)
            .where(WorkerRow.id == worker_id, WorkerRow.stop_mode.is_(None))
            .values(stop_mode=LEAVE, stop_requested_at=store.clock(connection))
        )

    store.write(work)


def list_workers(store: Store) -> list[Worker]:
    """Return the workers that the store takes for alive, oldest first, with what they run."""
    return store.read(lambda connection: list_in(store, connection))


def list_in(store: Store, connection: Connection) -> list[Worker]:
    """The same as ``list_workers``, inside a transaction that is already open."""
    rows = connection.execute(_ALIVE).all()
    running: dict[str, list[RunningJob]] = {row.id: [] for row in rows}
    query = select(
        JobRow.worker_id,
        JobRow.id,
        JobRow.queue,
        JobRow.runs,
        JobRow.claimed_at,
        JobRow.frozen_at,
    )
    for job in connection.execute(query.where(_PROCESSING).order_by(JobRow.claimed_at)):
        running.setdefault(job.worker_id, []).append(
            RunningJob(job.id, job.queue, job.runs, job.claimed_at, job.frozen_at)
        )
    neighbours = presence.Neighbours(store.location, store.clock(connection))
    return [_to_worker(neighbours, row, running[row.id]) for row in rows]


def _to_worker(neighbours: presence.Neighbours, row: Any, running: list[RunningJob]) -> Worker:
    lives = neighbours.lives(row.id, row.boot_id, row.lease_expires_at)
    return Worker(
        id=row.id,
        supervisor_id=row.supervisor_id,
        host=row.host,
        pid=row.pid,
        slots=row.slots,
        queues=row.queues,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        lease_expires_at=row.lease_expires_at,
        stop_requested_at=row.stop_requested_at,
        stop_mode=row.stop_mode,
        state="alive" if lives else "dead",
        running=running,
        wanted=row.wanted,
    )


def look_again(store: Store, workers: Sequence[Worker]) -> list[Worker]:
    """Return workers that have left as they are now: stopped, or dead, and asked for what."""
    query = select(
        WorkerRow.id,
        WorkerRow.state,
        WorkerRow.stop_requested_at,
        WorkerRow.stop_mode,
        WorkerRow.heartbeat_at,
        WorkerRow.lease_expires_at,
    ).where(WorkerRow.id.in_([worker.id for worker in workers]))
    rows = store.read(lambda connection: connection.execute(query).all())
    now = {row.id: {**row._mapping, "running": []} for row in rows}
    return [replace(worker, **now.get(worker.id, {})) for worker in workers]


def request_stop(store: Store, *, queue: str | None, now: bool) -> list[Worker]:
    """Ask workers to stop, or only those that were started for ``queue``; return them.

    ``now`` ends their running jobs and puts them back. The request is kept by supervisor, so that a
    replacement inherits it, though its predecessor was declared dead before.
    """
    chosen = [
        worker for worker in list_workers(store) if queue is None or queue in (worker.queues or ())
    ]

    def work(connection: Connection) -> None:
        supervisors = _lock_supervisors(connection, queue)
        stop_supervisors(connection, supervisors, now=now)

    store.write(work)
    return chosen


def stop_supervisors(connection: Connection, supervisors: list[str], *, now: bool) -> None:
    """Ask all workers of these supervisors to stop, and those that take the place of one.

    Part of a transaction that has locked their rows. ``now`` is never weakened to ``drain`` by a
    later, milder request.
    """
    mode = "now" if now else case((WorkerRow.stop_mode == "now", "now"), else_="drain")
    of_theirs = (WorkerRow.supervisor_id.in_(supervisors), WorkerRow.state != "stopped")
    ask_to_stop(connection, *of_theirs, mode=mode)


def ask_to_stop(connection: Connection, *whom: ColumnElement[bool], mode: Any) -> None:
    """Write down what these workers are asked for; when they were first asked stays."""
    connection.execute(
        update(WorkerRow)
        .where(*whom)
        .values(
            stop_mode=mode,
            stop_requested_at=func.coalesce(
                WorkerRow.stop_requested_at,
                bindparam("now", datetime.now(UTC), type_=WorkerRow.started_at.type),
            ),
        )
    )


def _lock_supervisors(connection: Connection, queue: str | None) -> list[str]:
    """Return those whose workers have not all left, or only those that serve ``queue`` by name.

    A replacement that registers meanwhile has read that nobody asked; this waits until it can be
    seen.
    """
    query = select(WorkerRow.supervisor_id, WorkerRow.queues).where(WorkerRow.state != "stopped")
    rows = connection.execute(query.with_for_update())
    return sorted(
        {row.supervisor_id for row in rows if queue is None or queue in (row.queues or ())}
    )
