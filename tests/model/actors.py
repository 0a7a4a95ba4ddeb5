"""What takes the model's steps: a real store that can fail, and a worker without a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.domain.job import Claim
from queuectl.errors import StoreUnavailable, WorkerDeclaredDead
from queuectl.service import workers
from queuectl.service.claims import Claimant, Settlement
from queuectl.settings import StoreLocation
from queuectl.worker import processes

Result = TypeVar("Result")


class FaultyStore(Store):
    """A store whose writes may fail, or be committed without their caller hearing of it."""

    reply = "heard"

    @contextmanager
    def replying(self, reply: str) -> Iterator[None]:
        """Within this, the store answers so; its caller remembers nothing of what it asked."""
        self.reply = reply
        try:
            yield
        except StoreUnavailable:
            assert reply != "heard"
        else:
            assert reply == "heard", "the transaction was not tried"
        finally:
            self.reply = "heard"

    def write(self, work: Callable[[Connection], Result]) -> Result:
        if self.reply == "fails":
            return super().write(lambda connection: _fail(work(connection)))
        result = super().write(work)
        return result if self.reply == "heard" else _fail(result)


def _fail(result: Result) -> Result:
    raise StoreUnavailable("the disk failed")


@contextmanager
def refused() -> Iterator[None]:
    try:
        yield
    except WorkerDeclaredDead:
        return
    raise AssertionError("a worker that was declared dead went on")


class Worker:
    """A worker with one slot."""

    def __init__(self, location: StoreLocation, number: int) -> None:
        self.id = f"worker-{number}"
        #: Nobody uses the second; by its name this worker alone can be asked to stop.
        self.queues = ("default", f"queue-of-{self.id}")
        self.store = FaultyStore(location)
        self.lock = presence.take(location, self.id, create=True)
        assert self.lock is not None
        self.lock.note([])
        self.claimant = Claimant(self.id, "here", 4711, self.queues)
        self.claim: Claim | None = None
        self.ended: list[Settlement] = []

    def register(self) -> None:
        registration = workers.Registration(
            worker_id=self.id,
            supervisor_id=f"supervisor of {self.id}",
            host="here",
            boot_id=processes.boot_id(),
            pid=4711,
            slots=1,
            queues=self.queues,
        )
        workers.register(self.store, registration)

    def memory(self) -> tuple[str, int] | None:
        """Return the job and the version of what is in the slot."""
        known = self.claim or next((item.claim for item in self.ended), None)
        return (known.id, known.version) if known else None

    def go(self, *, properly: bool) -> None:
        """End as a process: its lock is free, and what it remembered is gone."""
        if self.lock is not None:
            self.lock.release(remove=properly)
        self.lock = None
        self.claim, self.ended = None, []
        self.store.close()
