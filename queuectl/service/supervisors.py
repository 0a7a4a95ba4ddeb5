"""Supervisors, as the rows of their workers tell of them: scaled, and their workers drained.

A supervisor never opens the store, so what it is asked for stands in its workers' rows. Scaling
counts as an order to each of them (``service/orders.py``): it reads its own row when its count of
orders has changed, and tells its supervisor. Which worker leaves, the supervisor decides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from queuectl.db.engine import Store
from queuectl.db.models import WorkerRow
from queuectl.errors import Conflict, NotFound
from queuectl.service import workers
from queuectl.service.workers import LEAVE, STOP_MODES, Scaling, Worker

#: Characters of an id that are shown to people.
_SHORT = 8


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The workers of one ``worker start`` that live; there is at least one."""

    id: str
    workers: Sequence[Worker]

    @property
    def host(self) -> str:
        """Where it runs."""
        return self.workers[0].host

    @property
    def staying(self) -> list[Worker]:
        """Its workers that were not asked to leave."""
        return [worker for worker in self.workers if worker.stop_mode is None]

    @property
    def leaving(self) -> list[Worker]:
        """Its workers that end what they run, and leave."""
        return [worker for worker in self.workers if worker.stop_mode is not None]

    @property
    def wanted(self) -> int | None:
        """How many workers it is to have; None: it cannot have others."""
        return self.workers[0].wanted

    @property
    def is_stopping(self) -> bool:
        """Whether all of it was asked to stop."""
        return any(worker.stop_mode in STOP_MODES for worker in self.workers)

    def describe(self) -> str:
        """Return what tells it from others: ``3f2a9c01 (2 workers, queues a and b)``."""
        served = self.workers[0].queues
        queues = "all queues" if served is None else f"queue {', '.join(served)}"
        count = len(self.workers)
        return f"{self.id[:_SHORT]} ({count} worker{'s' * (count != 1)}, {queues})"


def list_supervisors(store: Store) -> list[Supervisor]:
    """Return those of whom a worker lives, the oldest first."""
    found: dict[str, list[Worker]] = {}
    for worker in workers.list_workers(store):
        if worker.state == "alive":
            found.setdefault(worker.supervisor_id, []).append(worker)
    return [Supervisor(name, theirs) for name, theirs in found.items()]


def find(store: Store, reference: str | None, host: str) -> Supervisor:
    """Return the one that can be scaled: the only one of a host, or the one that is named.

    ``reference`` is any unique beginning of its id or of a worker's. Raises NotFound and Conflict.
    """
    found = list_supervisors(store)
    if reference is not None:
        matching = [one for one in found if _is_meant(one, reference)]
        if not matching:
            raise _unknown(reference)
    else:
        # Whoever runs one job, or leaves, is not meant where nobody is named.
        matching = [one for one in found if one.host == host and one.wanted and not one.is_stopping]
        if not matching:
            raise NotFound(
                f"no workers run on {host} that could be scaled",
                hint="start some with: queuectl worker start --count N",
            )
    if len(matching) > 1:
        names = "; ".join(one.describe() for one in matching)
        raise Conflict(
            f"{len(matching)} supervisors of workers are meant: {names}",
            hint=f"name one: queuectl worker scale N {matching[0].id[:_SHORT]}",
        )
    return matching[0]


def _is_meant(one: Supervisor, reference: str) -> bool:
    ids = (one.id, *(worker.id for worker in one.workers))
    return bool(reference) and any(name.startswith(reference) for name in ids)


def _unknown(reference: str) -> NotFound:
    return NotFound(
        f"no worker or supervisor {reference[:40]!r} is running",
        hint="list them with: queuectl worker list",
    )


def scale(store: Store, supervisor_id: str, count: int) -> None:
    """Ask a supervisor to have so many workers; the newest request counts. Raises Conflict."""

    def work(connection: Connection) -> None:
        rows = _lock_workers(connection, [supervisor_id])
        _require_scalable(supervisor_id, rows)
        number = max(row.scalings for row in rows) + 1
        connection.execute(
            update(WorkerRow)
            .where(WorkerRow.supervisor_id == supervisor_id, WorkerRow.state != "stopped")
            .values(wanted=count, scalings=number, orders=WorkerRow.orders + 1)
        )

    store.write(work)


def _require_scalable(supervisor_id: str, rows: Sequence[Any]) -> None:
    name = f"supervisor {supervisor_id[:_SHORT]}"
    if not any(row.state == "alive" for row in rows):
        raise Conflict(f"{name} has no worker any more", hint="start some: queuectl worker start")
    if any(row.stop_mode in STOP_MODES for row in rows):
        raise Conflict(
            f"{name} was asked to stop, and takes no more workers",
            hint="start others beside it: queuectl worker start",
        )
    if all(row.wanted is None for row in rows):
        raise Conflict(
            f"{name} is that of queuectl run, or of an older queuectl, and has the workers it has",
            hint="start others beside it: queuectl worker start",
        )


def read_scaling(store: Store, worker_id: str) -> Scaling | None:
    """Return what this worker's supervisor is asked for, if it ever was."""
    query = select(WorkerRow.scalings, WorkerRow.wanted).where(WorkerRow.id == worker_id)
    row = store.read(lambda connection: connection.execute(query).first())
    if row is None or not row.scalings or row.wanted is None:
        return None
    return Scaling(row.scalings, row.wanted)


def choose_workers(store: Store, references: Sequence[str], host: str | None) -> list[Worker]:
    """Return the workers that are named, by their ids or their supervisors', else those of a host.

    ``host`` None: those of all hosts. Raises NotFound and Conflict.
    """
    alive = [worker for one in list_supervisors(store) for worker in one.workers]
    if not references:
        return [worker for worker in alive if host is None or worker.host == host]
    chosen: set[str] = set()
    for reference in references:
        chosen |= _named(alive, reference)
    return [worker for worker in alive if worker.id in chosen]


def _named(alive: Sequence[Worker], reference: str) -> set[str]:
    """Return the ids of the one worker that is named, or of all of the one supervisor."""
    by_worker = [w.id for w in alive if reference and w.id.startswith(reference)]
    by_supervisor = {
        w.supervisor_id for w in alive if reference and w.supervisor_id.startswith(reference)
    }
    if not by_worker and not by_supervisor:
        raise _unknown(reference)
    if len(by_worker) + len(by_supervisor) > 1:
        names = ", ".join([*by_worker, *sorted(by_supervisor)])
        raise Conflict(f"{reference[:40]!r} is the beginning of several ids: {names}")
    return {w.id for w in alive if w.id in by_worker or w.supervisor_id in by_supervisor}


def drain(store: Store, chosen: Sequence[Worker]) -> list[str]:
    """Ask these workers to end what they run, claim nothing more, and leave.

    A supervisor that keeps none of its workers is asked itself, so that a replacement inherits it;
    returns the ids of those. What was asked for before that is stronger stays.
    """
    ids = {worker.id for worker in chosen}
    concerned = {worker.supervisor_id for worker in chosen}

    def work(connection: Connection) -> list[str]:
        rows = _lock_workers(connection, concerned)
        keeping = {row.supervisor_id for row in rows if row.state == "alive" and row.id not in ids}
        whole = sorted(concerned - keeping)
        workers.stop_supervisors(connection, whole, now=False)
        alone = (WorkerRow.id.in_(ids), WorkerRow.supervisor_id.in_(keeping))
        mode = func.coalesce(WorkerRow.stop_mode, LEAVE)
        workers.ask_to_stop(connection, *alone, WorkerRow.state == "alive", mode=mode)
        return whole

    return store.write(work)


def _lock_workers(connection: Connection, supervisors: Collection[str]) -> list[Any]:
    """Return the rows of their workers that have not left.

    A replacement that registers meanwhile has read what was asked for before; this waits until it
    can be seen.
    """
    query = select(
        WorkerRow.id,
        WorkerRow.supervisor_id,
        WorkerRow.state,
        WorkerRow.stop_mode,
        WorkerRow.wanted,
        WorkerRow.scalings,
    ).where(WorkerRow.supervisor_id.in_(supervisors), WorkerRow.state != "stopped")
    return list(connection.execute(query.with_for_update()))
