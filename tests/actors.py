"""A worker that lives in the test: it takes turns as a real one does, without processes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import update

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.models import WorkerRow
from queuectl.domain.job import Claim, Ending, Outcome
from queuectl.service import claims, workers
from queuectl.service.claims import Claimant, Settlement, Turn
from queuectl.settings import StoreLocation

_PID = 4711


class Actor:
    """A registered worker with a connection of its own, as every worker has."""

    def __init__(
        self,
        location: StoreLocation,
        worker_id: str = "w1",
        *,
        queues: Iterable[str] | None = None,
        supervisor_id: str | None = None,
    ) -> None:
        self.store = store = Store(location)
        self.id = worker_id
        store.read(lambda connection: None)  # as a supervisor does before: it makes the folders
        served = None if queues is None else tuple(queues)
        self.lock = presence.take(location, worker_id, create=True)
        registration = workers.Registration(
            worker_id=worker_id,
            supervisor_id=supervisor_id or f"supervisor of {worker_id}",
            host="here",
            boot_id=presence.boot_id(),
            pid=_PID,
            slots=10,
            queues=served,
            count=1,
        )
        workers.register(store, registration)
        self.claimant = Claimant(worker_id, "here", _PID, served)

    def turn(self, *ended: Settlement, free: int = 0, idle: bool = True) -> Turn:
        """Take a turn: settle, and claim if there is room."""
        return claims.take_turn(self.store, self.claimant, ended, free=free, idle=idle)

    def claim(self, free: int = 1, *, idle: bool = True) -> list[Claim]:
        """Take a turn that only claims."""
        return self.turn(free=free, idle=idle).claims

    def claim_one(self) -> Claim:
        """Claim the one job that there is to claim."""
        [claim] = self.claim()
        return claim

    def settle(self, claim: Claim, ending: Ending = Ending.COMPLETED) -> Turn:
        """Take a turn that settles one attempt."""
        return self.turn(ended(claim, ending))

    def move_elsewhere(self, *, lease_left_seconds: float) -> None:
        """Become another machine's, whose lock nobody here can try; on a shared store."""
        assert workers.beat(self.store, self.id, lease_left_seconds)
        row = update(WorkerRow).where(WorkerRow.id == self.id)
        elsewhere = row.values(host="elsewhere", boot_id="another boot")
        self.store.write(lambda connection: connection.execute(elsewhere))
        assert self.lock is not None
        self.lock.release(remove=True)
        self.lock = None

    def die(self) -> None:
        """Let go of everything as the kernel does for a process that was killed."""
        self.store.close()
        if self.lock is not None:
            self.lock.release(remove=False)
            self.lock = None


def ended(claim: Claim, ending: Ending = Ending.COMPLETED) -> Settlement:
    """Return an attempt that has ended, as a runner reports it."""
    now = datetime.now(UTC)
    error = None if ending is Ending.COMPLETED else f"it {ending}"
    code = 0 if ending is Ending.COMPLETED else 1
    return Settlement(claim, Outcome(ending, now, now, exit_code=code, error=error))


class Hire(Protocol):
    """What the fixture ``hire`` is: call it with the arguments of an Actor but for the store."""

    def __call__(
        self,
        worker_id: str = "w1",
        *,
        queues: Iterable[str] | None = None,
        supervisor_id: str | None = None,
    ) -> Actor: ...
