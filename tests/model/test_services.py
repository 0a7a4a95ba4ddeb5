"""The model's steps, taken by the real services on a real store, and compared after each one.

A worker of this test is a registration, a lock, a connection, and what it remembers; its commands
are imagined. A step is made in the store first and then in the model, and both must stand alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection, func, select

from queuectl.db import presence
from queuectl.db.engine import Store, open_store
from queuectl.db.models import AttemptRow, JobRow, WorkerRow
from queuectl.domain.job import Claim, Ending, Outcome
from queuectl.domain.request import validate_request
from queuectl.errors import StoreUnavailable, WorkerDeclaredDead
from queuectl.service import claims, config, dead_letters, jobs, recall, workers
from queuectl.service.claims import Claimant, Settlement
from queuectl.settings import StoreLocation
from queuectl.worker import processes
from queuectl.worker.rescue import rescue_dead
from tests.model import protocol
from tests.model.explorer import broken_invariant
from tests.model.protocol import World, steps

pytestmark = pytest.mark.timeout(600)

Result = TypeVar("Result")

_ENDINGS = {
    "completed": Ending.COMPLETED,
    "failed": Ending.FAILED,
    "put back": Ending.STOPPED,
}
#: Thousands of commits: in memory they take seconds, on a busy disk a minute.
_MEMORY = Path("/dev/shm")  # noqa: S108  # TemporaryDirectory makes a private folder in it
WORKERS = st.integers(0, protocol.WORKERS - 1)
JOBS = st.integers(0, protocol.JOBS - 1)
REPLIES = st.sampled_from(["heard", "heard", "lost", "fails"])


class FaultyStore(Store):
    """A store whose next write may fail, or be committed without its caller hearing of it."""

    reply = "heard"

    def write(self, work: Callable[[Connection], Result]) -> Result:
        reply, self.reply = self.reply, "heard"
        if reply == "fails":
            return super().write(lambda connection: _fail(work(connection)))
        result = super().write(work)
        return result if reply == "heard" else _fail(result)


def _fail(result: Result) -> Result:
    raise StoreUnavailable("the disk failed")


class Worker:
    """A worker with one slot."""

    def __init__(self, location: StoreLocation, number: int) -> None:
        self.id = f"worker-{number}"
        self.store = FaultyStore(location)
        self.lock = presence.take(location, self.id, create=True)
        assert self.lock is not None
        self.lock.note([])
        self.claimant = Claimant(self.id, "here", 4711, None)
        self.claim: Claim | None = None
        self.ended: list[Settlement] = []
        self.running = False
        self.unsure = False
        registration = workers.Registration(
            worker_id=self.id,
            supervisor_id=f"supervisor of {self.id}",
            host="here",
            boot_id=processes.boot_id(),
            pid=4711,
            slots=1,
            queues=None,
        )
        workers.register(self.store, registration)

    @property
    def is_on(self) -> bool:
        return self.lock is not None

    def go(self, *, properly: bool) -> None:
        """End as a process: its lock is free, and what it remembered is gone."""
        if self.lock is not None:
            self.lock.release(remove=properly)
        self.lock = None
        self.claim, self.ended, self.running, self.unsure = None, [], False, False
        self.store.close()


class Services(RuleBasedStateMachine):
    """The real services, held to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
        location = StoreLocation(Path(self.folder.name) / "store" / "queue.db", "test")
        self.store = open_store(location)
        config.set_option(self.store, "max-retries", protocol.MAX_RETRIES)
        config.set_option(self.store, "backoff-max", 0)
        config.set_option(self.store, "max-crashes", 1_000)
        self.workers = [Worker(location, number) for number in range(protocol.WORKERS)]
        self.world = World()

    def teardown(self) -> None:
        for worker in self.workers:
            worker.go(properly=True)
        self.store.close()
        self.folder.cleanup()

    def follow(self, name: str) -> None:
        """Take the step of this name in the model, which must know it."""
        known = dict(steps(self.world))
        assert name in known, f"the model knows no {name!r}, only {sorted(known)}"
        self.world = known[name]

    # Clients

    @rule(j=JOBS)
    def enqueue(self, j: int) -> None:
        request = validate_request({"id": f"job-{j}", "command": "true"})
        was_there = self.world.jobs[j].state != "absent"

        receipt = jobs.enqueue(self.store, [request], cwd="/")

        assert receipt.existing == ([f"job-{j}"] if was_there else [])
        again = " again, its reply was lost" if was_there else ""
        self.follow(f"enqueue job {j}{again}")

    @rule(j=JOBS)
    def requeue(self, j: int) -> None:
        if self.world.jobs[j].state == "dead":
            dead_letters.requeue(self.store, [f"job-{j}"])
            self.follow(f"requeue job {j}")

    # Turns

    @rule(w=WORKERS, reply=REPLIES)
    def take_turn(self, w: int, reply: str) -> None:
        worker = self.workers[w]
        if not worker.is_on or worker.unsure or worker.running:
            return
        unstarted = [worker.claim] if worker.claim else []
        worker.store.reply = reply
        try:
            turn = claims.take_turn(
                worker.store,
                worker.claimant,
                worker.ended,
                free=0 if unstarted else 1,
                idle=True,
                unstarted=unstarted,
            )
        except StoreUnavailable:
            worker.unsure = True
        except WorkerDeclaredDead:
            self._leave_for_dead(w)
            return
        else:
            worker.claim = turn.claims[0] if turn.claims else None
            worker.ended = []
        finally:
            worker.store.reply = "heard"
        self._follow_turn(w, reply)

    def _follow_turn(self, w: int, reply: str) -> None:
        """The model selects what the store chose, and takes the same turn."""
        claim = self.world.workers[w].claim
        chosen = self._chosen(w)
        if chosen is not None:
            self.follow(f"worker {w} selects job {chosen}")
        elif claim is None:  # there was nothing to settle and nothing to claim
            assert recall.recall(self.store, f"worker-{w}", []).held == []
            self.workers[w].unsure = False
            return
        ending = {"heard": "", "lost": ", reply lost", "fails": " fails"}[reply]
        self.follow(f"turn of worker {w}{ending}")

    def _chosen(self, w: int) -> int | None:
        """Return the job that the last turn of a worker claimed, as the store has it."""
        for j, row in self._job_rows().items():
            model = self.world.jobs[j]
            held_before = model.state == "processing" and model.holder == w
            if row.worker_id == f"worker-{w}" and not (
                held_before and row.version == model.version
            ):
                return j
        return None

    @rule(w=WORKERS)
    def recall(self, w: int) -> None:
        worker = self.workers[w]
        if not worker.is_on or not worker.unsure:
            return
        if self.world.workers[w].row != "alive":
            self._leave_for_dead(w)
            return
        found = recall.recall(worker.store, worker.id, worker.ended)
        known = {item.claim.mark for item in worker.ended}
        held = [claim for claim in found.held if claim.mark not in known]
        worker.claim = held[0] if held else None
        if held:
            assert found.settled == worker.ended
            worker.ended = []
        worker.unsure = False
        self.follow(f"recall by worker {w}")

    # Commands

    @rule(w=WORKERS)
    def start(self, w: int) -> None:
        worker = self.workers[w]
        doomed = self.world.workers[w].row != "alive"
        if worker.claim is None or worker.running or worker.unsure or doomed:
            return
        worker.running = True
        assert worker.lock is not None
        worker.lock.note([worker.claim.mark])
        self.follow(f"worker {w} starts job {_number(worker.claim)}")

    @rule(w=WORKERS, phase=st.sampled_from(protocol.ENDINGS))
    def end(self, w: int, phase: str) -> None:
        worker = self.workers[w]
        if worker.claim is None or not worker.running:
            return
        now = datetime.now(UTC)
        outcome = Outcome(_ENDINGS[phase], now, now)
        self.follow(f"job {_number(worker.claim)} of worker {w}: {phase}")
        worker.ended = [Settlement(worker.claim, outcome)]
        worker.claim, worker.running = None, False

    # Lives and deaths

    @rule(w=WORKERS)
    def beat(self, w: int) -> None:
        worker = self.workers[w]
        if worker.is_on:
            alive = workers.beat(worker.store, worker.id, 30)
            assert alive == (self.world.workers[w].row == "alive")
            if not alive:
                self._leave_for_dead(w)

    @rule(w=WORKERS)
    def leave(self, w: int) -> None:
        worker = self.workers[w]
        busy = worker.claim or worker.ended or worker.unsure
        if worker.is_on and not busy:
            workers.leave(worker.store, worker.id)
            worker.go(properly=True)
            self.follow(f"worker {w} leaves")

    @rule(w=WORKERS)
    def kill(self, w: int) -> None:
        if self.workers[w].is_on:
            self.workers[w].go(properly=False)
            self.follow(f"SIGKILL to worker {w}")

    @rule(w=WORKERS)
    def rescue(self, w: int) -> None:
        if not self.workers[w].is_on:
            return
        rescue_dead(self.workers[w].store)
        for d, dead in enumerate(self.world.workers):
            if dead.process == "off" and any(tree.worker == d for tree in self.world.trees):
                self.follow(f"worker {w} kills what worker {d} left")
            if dead.process == "off" and dead.row == "alive":
                self.follow(f"worker {w} rescues from worker {d}")

    @precondition(lambda self: len(self.world.trees) < protocol.WORKERS)
    @rule(w=WORKERS)
    def rescue_elsewhere(self, w: int) -> None:
        has_tree = any(tree.worker == w for tree in self.world.trees)
        if not has_tree and self.world.workers[w].row == "alive":
            workers.rescue(self.store, [f"worker-{w}"])
            self.follow(f"lease of worker {w} is over: rescue elsewhere")

    def _leave_for_dead(self, w: int) -> None:
        assert self.world.workers[w].row != "alive"
        self.workers[w].go(properly=True)
        self.follow(f"heartbeat of worker {w} is refused")

    # The comparison

    @invariant()
    def the_store_stands_as_the_model_does(self) -> None:
        assert broken_invariant(self.world) is None
        rows = self._job_rows()
        for j, model in enumerate(self.world.jobs):
            if model.state == "absent":
                assert j not in rows
                continue
            row = rows[j]
            holder = None if model.holder == protocol.NOBODY else f"worker-{model.holder}"
            assert (row.state, row.version, row.runs) == (model.state, model.version, model.runs)
            assert (row.attempts, row.worker_id) == (model.attempts, holder)
            assert row.recorded == model.recorded
        letters = {letter.job.id for letter in dead_letters.list_dead(self.store)}
        dead = {f"job-{j}" for j, job in enumerate(self.world.jobs) if job.state == "dead"}
        assert letters == dead

    @invariant()
    def the_workers_stand_as_the_model_has_them(self) -> None:
        query = select(WorkerRow.id, WorkerRow.state)
        rows = self.store.read(lambda connection: connection.execute(query).all())
        states = {row.id: row.state for row in rows}
        for w, model in enumerate(self.world.workers):
            assert (states[f"worker-{w}"] == "alive") == (model.row == "alive")

    def _job_rows(self) -> dict[int, Any]:
        recorded = (
            select(func.count())
            .where(AttemptRow.job_seq == JobRow.seq)
            .correlate(JobRow)
            .scalar_subquery()
        )
        query = select(*JobRow.__table__.columns, recorded.label("recorded"))
        rows = self.store.read(lambda connection: connection.execute(query).all())
        return {int(row.id.removeprefix("job-")): row for row in rows}


def _number(claim: Claim) -> int:
    return int(claim.id.removeprefix("job-"))


# The same examples every time.
Services.TestCase.settings = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
TestServices = Services.TestCase
