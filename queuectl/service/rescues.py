"""Jobs are taken back from workers that died: who may be dead, and what becomes of their jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    Connection,
    bindparam,
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
from queuectl.service import config, dependencies, rates
from queuectl.service.claims import dead_letter_row

LOST_ERROR = "its worker died"

_ALIVE_PLACES = select(WorkerRow.id, WorkerRow.boot_id).where(WorkerRow.state == "alive")
_ALIVE_IDS = Prepared(_ALIVE_PLACES)
_NEAR_IDS = Prepared(_ALIVE_PLACES.where(WorkerRow.boot_id == bindparam("here")))
_PROCESSING = JobRow.state == literal_column("'processing'")
_ORPHANS = select(JobRow.seq).where(
    _PROCESSING, JobRow.worker_id.not_in(select(WorkerRow.id).where(WorkerRow.state == "alive"))
)
_ANY_ORPHAN = Prepared(_ORPHANS.limit(1))
#: A worker elsewhere whose lease was over at a time of the database's clock that a look has read.
#: The clock is not read anew: it may leap ahead between the look and this.
_EXPIRED = (
    WorkerRow.state == "alive",
    WorkerRow.lease_expires_at < bindparam("expired_by"),
    WorkerRow.boot_id != bindparam("here"),
)
#: When the first lease of a worker elsewhere is over, and what time it is, by the database's clock.
_NEXT_EXPIRY = Prepared(
    select(func.min(WorkerRow.lease_expires_at), func.clock_timestamp()).where(
        WorkerRow.state == "alive", WorkerRow.boot_id != bindparam("here")
    )
)


@dataclass(frozen=True, slots=True)
class Suspects:
    """Who may be dead. ``orphaned``: a job's worker is dead or missing."""

    #: Workers whose locks tell, each with its place: the id of its boot, or where several machines
    #: share the store, this neighbourhood.
    near: dict[str, str]
    orphaned: bool
    #: The time by the clock of a store that machines share.
    clock: datetime | None = None
    #: The same, if the lease of a worker elsewhere was over then, and silence is to be believed.
    expired_by: datetime | None = None
    #: Until the first lease of a worker elsewhere may be over, in seconds; None: there is none.
    quiet_seconds: float | None = None

    def spared(self) -> Suspects:
        """Return them without those whom nothing but the clock speaks against."""
        return replace(self, expired_by=None)


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
        [[first, now]] = expiry()
        left = None if first is None else (first - now).total_seconds()
        expired_by = now if left is not None and left < 0 else None
        return Suspects(dict(near()), bool(orphan()), now, expired_by, left)

    return read


def rescue(
    store: Store,
    dead: Sequence[str],
    *,
    started: Mapping[str, frozenset[str]] = MappingProxyType({}),
    expired_by: datetime | None = None,
) -> list[str]:
    """Mark these workers dead and take their jobs back, with those of workers long gone.

    Where several machines share the store, so are those elsewhere whose lease was over at
    ``expired_by``, by the store's clock. Call it only after what the workers left on this machine
    was killed and is seen gone. The attempts are recorded as lost; no retry is charged, a crash is
    counted. ``started`` has the marks of the claims that a worker had started, where that is known:
    the others count as never made. Returns the jobs' ids.
    """

    def work(connection: Connection) -> list[str]:
        if expired_by is not None:
            expired = update(WorkerRow).where(*_EXPIRED).values(state="dead")
            here = presence.neighbourhood(store.location)
            connection.execute(expired, {"here": here, "expired_by": expired_by})
        return _rescue(store, connection, dead, started)

    return store.write(work)


def _rescue(
    store: Store,
    connection: Connection,
    dead: Sequence[str],
    started: Mapping[str, frozenset[str]],
) -> list[str]:
    connection.execute(
        update(WorkerRow)
        .where(WorkerRow.id.in_(dead), WorkerRow.state == "alive")
        .values(state="dead")
    )
    rule = config.load(connection).backoff_rule
    hosts = {row.id: row for row in connection.execute(select(WorkerRow))}
    jobs = _lock_orphans(connection)
    now = datetime.now(UTC)  # not before: a claim that was waited for is older than its loss
    store.forget()  # one of them may have the next deadline
    unstarted: list[str] = []
    for job in jobs:
        if _is_unstarted(job, started):
            _give_back(connection, job, now)
            unstarted.append(job.queue)
            continue
        decision = after_crash(job.attempts, job.crashes, LOST_ERROR, rule)
        if job.cancel_requested_at is not None and decision.state is State.PENDING:
            decision = replace(decision, state=State.CANCELLED)
        _take_back(connection, job, decision, now)
        _record_loss(connection, job, hosts.get(job.worker_id), now)
        if decision.state is State.DEAD:
            connection.execute(insert(DeadLetterRow), dead_letter_row(job.seq, decision, now))
    if unstarted:
        rates.lock(store, connection, unstarted).give_back(connection, unstarted)
    if needed := [job.seq for job in jobs if job.needed]:
        dependencies.pass_on_ends(connection, needed)
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
    cancelled = job.cancel_requested_at is not None
    _release(
        connection,
        job,
        now,
        state=State.CANCELLED if cancelled else State.PENDING,
        runs=JobRow.runs - 1,
        finished_at=now if cancelled else None,
    )


def _take_back(connection: Connection, job: Any, decision: Decision, now: datetime) -> None:
    _release(
        connection,
        job,
        now,
        state=decision.state,
        crashes=decision.crashes,
        last_error=decision.last_error,
        finished_at=None if decision.state is State.PENDING else now,
    )


def _release(connection: Connection, job: Any, now: datetime, **changes: Any) -> None:
    """Let go of a job that nobody holds any more, and change it otherwise too."""
    connection.execute(
        update(JobRow)
        .where(JobRow.seq == job.seq, JobRow.version == job.version)
        .values(
            version=JobRow.version + 1,
            updated_at=now,
            worker_id=None,
            claimed_at=None,
            frozen_at=None,
            **changes,
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
