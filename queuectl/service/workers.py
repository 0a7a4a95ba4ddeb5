"""Workers: they register, beat, are asked to stop, leave, and are rescued from when they died."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    Connection,
    Float,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, DeadLetterRow, JobRow, WorkerRow
from queuectl.db.prepared import Prepared
from queuectl.domain.job import Ending, State
from queuectl.domain.retry import Decision, after_crash
from queuectl.service import config
from queuectl.service.claims import dead_letter_row

#: Rows of ended workers are kept this long, so that their names can still be looked up.
_KEPT = timedelta(days=1)
LOST_ERROR = "its worker died"

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
    select(WorkerRow.stop_requested_at, WorkerRow.stop_mode)
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
_ALIVE = select(WorkerRow).where(WorkerRow.state == "alive").order_by(WorkerRow.started_at)
_ALIVE_PLACES = select(WorkerRow.id, WorkerRow.boot_id).where(WorkerRow.state == "alive")
_ALIVE_IDS = Prepared(_ALIVE_PLACES)
_NEAR_IDS = Prepared(_ALIVE_PLACES.where(WorkerRow.boot_id == bindparam("here")))
_PROCESSING = JobRow.state == literal_column("'processing'")
_ORPHANS = select(JobRow.seq).where(
    _PROCESSING, JobRow.worker_id.not_in(select(WorkerRow.id).where(WorkerRow.state == "alive"))
)
_ANY_ORPHAN = Prepared(_ORPHANS.limit(1))
#: A worker elsewhere whose lease is over, by the database's clock.
_EXPIRED = (
    WorkerRow.state == "alive",
    WorkerRow.lease_expires_at < func.clock_timestamp(),
    WorkerRow.boot_id != bindparam("here"),
)
#: How long the first lease of a worker elsewhere still has, in seconds; negative: it is over.
_NEXT_EXPIRY = Prepared(
    select(
        func.extract("epoch", func.min(WorkerRow.lease_expires_at) - func.clock_timestamp())
    ).where(WorkerRow.state == "alive", WorkerRow.boot_id != bindparam("here"))
)


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


@dataclass(frozen=True, slots=True)
class Suspects:
    """Who may be dead. ``orphaned``: a lease is over, or a job's worker is dead or missing."""

    #: Workers whose locks tell, each with its place: the id of its boot, or where several machines
    #: share the store, this neighbourhood.
    near: dict[str, str]
    orphaned: bool
    #: Until the first lease of a worker elsewhere may be over, in seconds; None: there is none.
    quiet_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker has claimed."""

    id: str
    run: int
    claimed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that is alive as far as the store knows; ``dead`` when its process is gone."""

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


def register(store: Store, registration: Registration) -> None:
    """Add a worker. It inherits the stop that its supervisor was asked for, if any."""

    def work(connection: Connection) -> None:
        now = store.clock(connection)
        store.hush(connection)
        options = config.load(connection)
        siblings = _SIBLINGS_KEPT.fetch(connection, {"supervisor": registration.supervisor_id})
        asked = [row for row in siblings if row[1] is not None]
        stop_requested_at, stop_mode = asked[0] if asked else (None, None)
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
        }
        _REGISTER.execute(connection, [row])

    store.write(work)


def beat(store: Store, worker_id: str, lease_seconds: float) -> bool:
    """Renew the worker's lease; False: it was declared dead and must end what it runs."""

    def work(connection: Connection) -> Callable[[], int]:
        store.hush(connection)
        if store.is_shared:
            values: dict[str, Any] = {"worker_id": worker_id, "lease_seconds": lease_seconds}
            return _BEAT_BY_SERVER.tell(connection, [values])
        now = store.clock(connection)
        expires = now + timedelta(seconds=lease_seconds)
        values = {"worker_id": worker_id, "now": now, "expires": expires}
        return _BEAT.tell(connection, [values])

    return store.write(work)() == 1


def require_rights(store: Store) -> None:
    """Refuse a database role that may not keep a worker; raises StoreError.

    A heartbeat of nobody's changes no row, and asks the server for all that it needs.
    """
    if store.is_shared:
        beat(store, "", 0)


def leave(store: Store, worker_id: str) -> None:
    """Mark a worker that has settled everything as stopped."""
    store.write(
        lambda connection: connection.execute(
            update(WorkerRow)
            .where(WorkerRow.id == worker_id, WorkerRow.state == "alive")
            .values(state="stopped", heartbeat_at=store.clock(connection))
        )
    )


def list_workers(store: Store) -> list[Worker]:
    """Return the workers that the store takes for alive, oldest first, with what they run."""

    def work(connection: Connection) -> list[Worker]:
        rows = connection.execute(_ALIVE).all()
        running: dict[str, list[RunningJob]] = {row.id: [] for row in rows}
        query = select(JobRow.worker_id, JobRow.id, JobRow.runs, JobRow.claimed_at)
        for job in connection.execute(query.where(_PROCESSING).order_by(JobRow.claimed_at)):
            running.setdefault(job.worker_id, []).append(
                RunningJob(job.id, job.runs, job.claimed_at)
            )
        neighbours = presence.Neighbours(store.location, store.clock(connection))
        return [_to_worker(neighbours, row, running[row.id]) for row in rows]

    return store.read(work)


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
    )


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
        # "now" is never weakened to "drain" by a later, milder request.
        mode = "now" if now else func.coalesce(WorkerRow.stop_mode, "drain")
        connection.execute(
            update(WorkerRow)
            .where(WorkerRow.supervisor_id.in_(supervisors), WorkerRow.state != "stopped")
            .values(
                stop_mode=mode,
                stop_requested_at=func.coalesce(
                    WorkerRow.stop_requested_at,
                    bindparam("now", datetime.now(UTC), type_=WorkerRow.started_at.type),
                ),
            )
        )

    store.write(work)
    return chosen


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


def suspects(store: Store) -> Suspects:
    """Return who may be dead, of the workers that the store takes for alive."""
    # Nothing is read inside the transaction: on a server all of it is one round trip.
    return store.read(lambda connection: _ask_suspects(store, connection))()


def _ask_suspects(store: Store, connection: Connection) -> Callable[[], Suspects]:
    orphan = _ANY_ORPHAN.ask(connection)
    if not store.is_shared:
        alive = _ALIVE_IDS.ask(connection)
        return lambda: Suspects(dict(alive()), bool(orphan()))
    here = {"here": presence.neighbourhood(store.location)}
    near, expiry = _NEAR_IDS.ask(connection, here), _NEXT_EXPIRY.ask(connection, here)

    def read() -> Suspects:
        [[left]] = expiry()
        seconds = None if left is None else float(left)
        expired = seconds is not None and seconds < 0
        return Suspects(dict(near()), bool(orphan()) or expired, seconds)

    return read


def rescue(
    store: Store,
    dead: Sequence[str],
    *,
    started: Mapping[str, frozenset[str]] = MappingProxyType({}),
) -> list[str]:
    """Mark these workers dead and take their jobs back, with those of workers long gone.

    Where several machines share the store, so are those elsewhere whose lease is over.
    Call it only after what the workers left on this machine was killed and is seen gone. The
    attempts are recorded as lost; no retry is charged, a crash is counted. ``started`` has the
    marks of the claims that a worker had started, where that is known: the others count as never
    made. Returns the jobs' ids.
    """
    return store.write(lambda connection: _rescue(store, connection, dead, started))


def _rescue(
    store: Store,
    connection: Connection,
    dead: Sequence[str],
    started: Mapping[str, frozenset[str]],
) -> list[str]:
    now = datetime.now(UTC)
    if store.is_shared:
        expired = update(WorkerRow).where(*_EXPIRED).values(state="dead")
        connection.execute(expired, {"here": presence.neighbourhood(store.location)})
    connection.execute(
        update(WorkerRow)
        .where(WorkerRow.id.in_(dead), WorkerRow.state == "alive")
        .values(state="dead")
    )
    rule = config.load(connection).backoff_rule
    hosts = {row.id: row for row in connection.execute(select(WorkerRow))}
    jobs = _lock_orphans(connection)
    for job in jobs:
        if _is_unstarted(job, started):
            _give_back(connection, job, now)
            continue
        decision = after_crash(job.attempts, job.crashes, LOST_ERROR, rule)
        _take_back(connection, job, decision, now)
        _record_loss(connection, job, hosts.get(job.worker_id), now)
        if decision.state is State.DEAD:
            connection.execute(insert(DeadLetterRow), dead_letter_row(job.seq, decision, now))
    return [job.id for job in jobs]


def _lock_orphans(connection: Connection) -> list[Any]:
    """Return the jobs to take back, locked against other rescuers.

    A row that changed while it was being locked may have passed to a worker that registered after
    the select had begun; so the workers are looked at once more when nobody can change it.
    """
    query = select(JobRow).where(JobRow.seq.in_(_ORPHANS)).with_for_update(skip_locked=True)
    jobs = connection.execute(query).all()
    alive = dict(_ALIVE_IDS.fetch(connection))
    return [job for job in jobs if job.state == State.PROCESSING and job.worker_id not in alive]


def _is_unstarted(job: Any, started: Mapping[str, frozenset[str]]) -> bool:
    known = started.get(job.worker_id)
    return known is not None and f"{job.seq}-{job.version}" not in known


def _give_back(connection: Connection, job: Any, now: datetime) -> None:
    connection.execute(
        update(JobRow)
        .where(JobRow.seq == job.seq, JobRow.version == job.version)
        .values(
            state=State.PENDING,
            version=JobRow.version + 1,
            runs=JobRow.runs - 1,
            updated_at=now,
            worker_id=None,
            claimed_at=None,
        )
    )


def _take_back(connection: Connection, job: Any, decision: Decision, now: datetime) -> None:
    connection.execute(
        update(JobRow)
        .where(JobRow.seq == job.seq, JobRow.version == job.version)
        .values(
            state=decision.state,
            version=JobRow.version + 1,
            crashes=decision.crashes,
            last_error=decision.last_error,
            finished_at=now if decision.state is State.DEAD else None,
            updated_at=now,
            worker_id=None,
            claimed_at=None,
        )
    )


def _record_loss(connection: Connection, job: Any, worker: Any, now: datetime) -> None:
    connection.execute(
        insert(AttemptRow).values(
            job_seq=job.seq,
            run=job.runs,
            worker_id=job.worker_id or "",
            host=worker.host if worker is not None else "",
            pid=worker.pid if worker is not None else 0,
            started_at=job.claimed_at or now,
            finished_at=now,
            outcome=Ending.LOST,
            error=LOST_ERROR,
        )
    )
