"""Workers: they register, beat, are asked to stop, leave, and are rescued from when they died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, literal_column, select, update

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, DeadLetterRow, JobRow, WorkerRow
from queuectl.domain.job import Ending, State
from queuectl.domain.retry import Decision, after_crash
from queuectl.service import config
from queuectl.service.claims import dead_letter_row

#: Rows of ended workers are kept this long, so that their names can still be looked up.
_KEPT = timedelta(days=1)
LOST_ERROR = "its worker died"

_BEAT = (
    update(WorkerRow)
    .where(WorkerRow.id == bindparam("worker_id"), WorkerRow.state == "alive")
    .values(heartbeat_at=bindparam("now"), lease_expires_at=bindparam("expires"))
)
_ALIVE = select(WorkerRow).where(WorkerRow.state == "alive").order_by(WorkerRow.started_at)
_ALIVE_IDS = select(WorkerRow.id, WorkerRow.boot_id).where(WorkerRow.state == "alive")
_PROCESSING = JobRow.state == literal_column("'processing'")


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
        now = datetime.now(UTC)
        options = config.load(connection)
        stop = connection.execute(
            select(WorkerRow.stop_requested_at, WorkerRow.stop_mode)
            .where(WorkerRow.supervisor_id == registration.supervisor_id)
            .where(WorkerRow.stop_mode.is_not(None))
            .limit(1)
        ).first()
        connection.execute(
            delete(WorkerRow).where(
                WorkerRow.state != "alive", WorkerRow.heartbeat_at < now - _KEPT
            )
        )
        connection.execute(
            insert(WorkerRow).values(
                id=registration.worker_id,
                supervisor_id=registration.supervisor_id,
                host=registration.host,
                boot_id=registration.boot_id,
                pid=registration.pid,
                slots=registration.slots,
                queues=None if registration.queues is None else list(registration.queues),
                started_at=now,
                heartbeat_at=now,
                lease_expires_at=now + timedelta(seconds=options.lease),
                stop_requested_at=stop.stop_requested_at if stop else None,
                stop_mode=stop.stop_mode if stop else None,
                state="alive",
            )
        )

    store.write(work)


def beat(store: Store, worker_id: str, lease_seconds: float) -> bool:
    """Renew the worker's lease; False: it was declared dead and must end what it runs."""

    def work(connection: Connection) -> bool:
        now = datetime.now(UTC)
        values = {
            "worker_id": worker_id,
            "now": now,
            "expires": now + timedelta(seconds=lease_seconds),
        }
        return connection.execute(_BEAT, values).rowcount == 1

    return store.write(work)


def leave(store: Store, worker_id: str) -> None:
    """Mark a worker that has settled everything as stopped."""
    store.write(
        lambda connection: connection.execute(
            update(WorkerRow)
            .where(WorkerRow.id == worker_id, WorkerRow.state == "alive")
            .values(state="stopped", heartbeat_at=datetime.now(UTC))
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
        return [_to_worker(store, row, running[row.id]) for row in rows]

    return store.read(work)


def _to_worker(store: Store, row: Any, running: list[RunningJob]) -> Worker:
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
        state="alive" if presence.is_held(store.location, row.id) else "dead",
        running=running,
    )


def request_stop(store: Store, *, queue: str | None, now: bool) -> list[Worker]:
    """Ask workers to stop, or only those that were started for ``queue``; return them.

    ``now`` ends their running jobs and puts them back. The request is kept by supervisor, so that a
    replacement inherits it.
    """
    chosen = [
        worker
        for worker in list_workers(store)
        if queue is None or (worker.queues is not None and queue in worker.queues)
    ]
    supervisors = sorted({worker.supervisor_id for worker in chosen})

    def work(connection: Connection) -> None:
        # "now" is never weakened to "drain" by a later, milder request.
        mode = "now" if now else func.coalesce(WorkerRow.stop_mode, "drain")
        connection.execute(
            update(WorkerRow)
            .where(WorkerRow.supervisor_id.in_(supervisors), WorkerRow.state == "alive")
            .values(
                stop_mode=mode,
                stop_requested_at=func.coalesce(
                    WorkerRow.stop_requested_at,
                    bindparam("now", datetime.now(UTC), type_=WorkerRow.started_at.type),
                ),
            )
        )

    if supervisors:
        store.write(work)
    return chosen


def alive_ids(store: Store) -> dict[str, str]:
    """Return the ids of the workers that the store takes for alive, each with its boot's."""
    return store.read(
        lambda connection: {row.id: row.boot_id for row in connection.execute(_ALIVE_IDS)}
    )


def has_orphans(store: Store) -> bool:
    """Whether a job is in ``processing`` whose worker is dead, stopped or missing."""
    return store.read(
        lambda connection: connection.execute(_orphans().limit(1)).first() is not None
    )


def _orphans() -> Any:
    alive = select(WorkerRow.id).where(WorkerRow.state == "alive")
    return select(JobRow.seq).where(_PROCESSING, JobRow.worker_id.not_in(alive))


def rescue(
    store: Store,
    dead: Sequence[str],
    *,
    started: Mapping[str, frozenset[str]] = MappingProxyType({}),
) -> list[str]:
    """Mark these workers dead and take their jobs back, with those of workers long gone.

    Call it only after what the workers left on this machine was killed and is seen gone. The
    attempts are recorded as lost; no retry is charged, a crash is counted. ``started`` has the
    marks of the claims that a worker had started, where that is known: the others count as never
    made. Returns the jobs' ids.
    """
    return store.write(lambda connection: _rescue(connection, dead, started))


def _rescue(
    connection: Connection, dead: Sequence[str], started: Mapping[str, frozenset[str]]
) -> list[str]:
    now = datetime.now(UTC)
    connection.execute(
        update(WorkerRow)
        .where(WorkerRow.id.in_(dead), WorkerRow.state == "alive")
        .values(state="dead")
    )
    rule = config.load(connection).backoff_rule
    hosts = {row.id: row for row in connection.execute(select(WorkerRow))}
    jobs = connection.execute(select(JobRow).where(JobRow.seq.in_(_orphans()))).all()
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
