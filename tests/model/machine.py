"""The model's steps, taken by the real services on a real store, and compared after each one.

A worker of this machine is a registration, a lock, a connection, and what it remembers; its
commands are imagined. A step is made in the store first and then in the model, and both must stand
alike.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from sqlalchemy import func, select

from queuectl.db.engine import open_store
from queuectl.db.models import AttemptRow, JobRow, WorkerRow
from queuectl.domain.job import Ending, Outcome
from queuectl.domain.request import validate_request
from queuectl.service import claims, config, dead_letters, jobs, recall, rescues, workers
from queuectl.service.claims import Settlement
from queuectl.settings import StoreLocation
from queuectl.worker import rescue
from tests.model import protocol
from tests.model.actors import FaultyStore, Worker, refused
from tests.model.drawing import one_of
from tests.model.explorer import broken_invariant
from tests.model.protocol import ENDINGS, World, kind, steps

_ENDINGS = {
    "completed": Ending.COMPLETED,
    "failed": Ending.FAILED,
    "put back": Ending.STOPPED,
}
_RECORDED = (
    select(func.count()).where(AttemptRow.job_seq == JobRow.seq).correlate(JobRow).scalar_subquery()
)
_JOBS = select(*JobRow.__table__.columns, _RECORDED.label("recorded"))
_ALIVE = select(WorkerRow.id).where(WorkerRow.state == "alive")
#: Thousands of commits: in memory they take seconds, on a busy disk a minute.
_MEMORY = Path("/dev/shm")  # noqa: S108  # TemporaryDirectory makes a private folder in it
#: How a step's name ends, and what becomes of the transaction.
_REPLIES = {", reply lost": "lost", ", request fails": "fails", " fails": "fails", "": "heard"}


class Services(RuleBasedStateMachine):
    """The real services, held to the model. Which step can be taken, the model says."""

    #: How often each kind of step was taken, and what came of turns, in all examples.
    taken: ClassVar[Counter[str]] = Counter()
    #: The step that was taken last, or tried.
    last: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
        self.location = StoreLocation(Path(self.folder.name) / "store" / "queue.db", "test")
        open_store(self.location).close()
        self.store = FaultyStore(self.location)
        config.set_option(self.store, "max-retries", protocol.MAX_RETRIES)
        config.set_option(self.store, "backoff-max", 0)
        config.set_option(self.store, "max-crashes", 1_000)
        self.born = 0
        self.workers = [self._bear() for _ in range(protocol.WORKERS)]
        for worker in self.workers:
            worker.register()
        self.world = World()

    def _bear(self) -> Worker:
        self.born += 1
        return Worker(self.location, self.born)

    def teardown(self) -> None:
        for worker in self.workers:
            worker.go(properly=True)
        self.store.close()
        self.folder.cleanup()

    def enabled(self) -> set[str]:
        """Return the steps that can be taken. A turn of the services selects what it claims."""
        names = set()
        for name, _ in steps(self.world):
            selecting = re.fullmatch(r"worker (\d) selects job \d", name)
            if selecting is None:
                names.add(name)
            elif self.world.workers[int(selecting[1])].row == "alive":
                turn = f"turn of worker {selecting[1]}"
                names |= {turn, f"{turn}, reply lost", f"{turn} fails"}
        return names

    @rule(name=st.runner().flatmap(lambda machine: one_of(machine.enabled(), machine.world)))
    def step(self, name: str) -> None:
        """Take a step in the store and then in the model, and compare them."""
        note(name)  # a failure tells its story
        Services.last = name
        ending = next(ending for ending in _REPLIES if name.endswith(ending))
        numbers = [int(number) for number in re.findall(r" (\d)", name)]
        _TAKERS[kind(name.removesuffix(ending))](self, name, _REPLIES[ending], *numbers)
        self._compare_jobs()
        self._compare_workers()

    def follow(self, name: str) -> None:
        """Take the step of this name in the model, which must know it."""
        known = dict(steps(self.world))
        assert name in known, f"the model knows no {name!r}, only {sorted(known)}"
        before, self.world = self.world, known[name]
        self._count(name, before)

    def _count(self, name: str, before: World) -> None:
        self.taken[kind(name)] += 1
        for worker, after in zip(before.workers, self.world.workers, strict=True):
            ended = worker.claim is not None and worker.claim.phase in ENDINGS
            if name.endswith("is refused") and ended and after.process == "off":
                self.taken["a late result refused"] += 1
        for job, fresh in zip(before.jobs, self.world.jobs, strict=True):
            if job.state == "pending" and fresh.state == "processing":
                self.taken["a claim"] += 1
            if fresh.recorded > job.recorded:
                what = "a settlement" if name.startswith("turn") else "a loss"
                self.taken[what] += 1
                self.taken[f"{what}, reply lost"] += self.last.endswith("lost")
            if fresh.runs < job.runs:
                by = "holder" if name.startswith("turn") else "rescuer"
                self.taken[f"a claim given back by its {by}"] += 1

    # Clients

    def enqueue(self, name: str, reply: str, j: int) -> None:
        request = validate_request({"id": f"job-{j}", "command": "true"})
        was_there = self.world.jobs[j].state != "absent"
        with self.store.replying(reply):
            receipt = jobs.enqueue(self.store, [request], cwd="/")
            assert receipt.existing == ([f"job-{j}"] if was_there else [])
        self.follow(name)

    def requeue(self, name: str, reply: str, j: int) -> None:
        with self.store.replying(reply):
            dead_letters.requeue(self.store, [f"job-{j}"])
        self.follow(name)

    # Turns

    def take_turn(self, name: str, reply: str, w: int) -> None:
        worker = self.workers[w]
        unstarted = [worker.claim] if worker.claim else []
        turn = None
        with worker.store.replying(reply):
            turn = claims.take_turn(
                worker.store,
                worker.claimant,
                worker.ended,
                free=0 if unstarted else 1,
                idle=True,
                unstarted=unstarted,
            )
        if turn is not None:
            worker.claim = turn.claims[0] if turn.claims else None
            worker.ended = []
        self._follow_turn(name, w)

    def _follow_turn(self, name: str, w: int) -> None:
        """The model selects what the store chose, and takes the same turn."""
        chosen = self._chosen(w)
        if chosen is not None:
            if self.world.workers[w].claim is not None:
                # A turn settles before it selects: for the model these are two.
                self.follow(f"turn of worker {w}")
            self.follow(f"worker {w} selects job {chosen}")
        self.follow(name)

    def _chosen(self, w: int) -> int | None:
        """Return the job that the last turn of a worker claimed, as the store has it."""
        for j, row in self._job_rows().items():
            model = self.world.jobs[j]
            held_before = model.state == "processing" and model.holder == w
            if row.worker_id == self.workers[w].id and not (
                held_before and row.version == model.version
            ):
                return j
        return None

    def turn_is_refused(self, name: str, reply: str, w: int) -> None:
        worker = self.workers[w]
        unstarted = [worker.claim] if worker.claim else []
        with refused():
            claims.take_turn(
                worker.store,
                worker.claimant,
                worker.ended,
                free=1,
                idle=True,
                unstarted=unstarted,
            )
        worker.go(properly=True)
        self.follow(name)

    def recall(self, name: str, reply: str, w: int) -> None:
        """Read what stands, and be surer than need be: what was settled is settled once more."""
        worker = self.workers[w]
        found = recall.recall(worker.store, worker.id, worker.ended)
        known = {item.claim.mark for item in worker.ended}
        held = [claim for claim in found.held if claim.mark not in known]
        if self.world.workers[w].row == "alive":
            worker.claim = held[0] if held else None
            if held:
                assert found.settled == worker.ended
                worker.ended = []
        else:
            assert found.held == []
            with refused():
                claims.look(worker.store, worker.claimant)
            worker.go(properly=True)
        self.follow(name)

    # Commands

    def start(self, name: str, reply: str, w: int, j: int) -> None:
        worker = self.workers[w]
        assert worker.claim is not None
        assert worker.claim.id == f"job-{j}"
        assert worker.lock is not None
        worker.lock.note([worker.claim.mark])
        self.follow(name)

    def end(self, name: str, reply: str, j: int, w: int) -> None:
        worker = self.workers[w]
        assert worker.claim is not None
        now = datetime.now(UTC)
        outcome = Outcome(_ENDINGS[name.partition(": ")[2]], now, now)
        worker.ended, worker.claim = [Settlement(worker.claim, outcome)], None
        self.follow(name)

    # Lives and deaths

    def beat(self, name: str, reply: str, w: int) -> None:
        worker = self.workers[w]
        with worker.store.replying(reply):
            assert workers.beat(worker.store, worker.id, 30)
        self.follow(name)

    def beat_is_refused(self, name: str, reply: str, w: int) -> None:
        worker = self.workers[w]
        assert not workers.beat(worker.store, worker.id, 30)
        worker.go(properly=True)
        self.follow(name)

    def leave(self, name: str, reply: str, w: int) -> None:
        worker = self.workers[w]
        assert not worker.claim
        assert not worker.ended
        if self.world.workers[w].row == "alive":
            self._stop(worker)
        with worker.store.replying(reply):
            workers.leave(worker.store, worker.id)
        worker.go(properly=True)
        self.follow(name)

    def _stop(self, worker: Worker) -> None:
        """Ask the worker to stop; from then on its turns claim nothing."""
        asked = workers.request_stop(self.store, queue=worker.queues[-1], now=False)
        assert [each.id for each in asked] == [worker.id]
        turn = claims.take_turn(worker.store, worker.claimant, [], free=1, idle=True)
        assert (turn.stop_mode, turn.claims) == ("drain", [])

    def kill(self, name: str, reply: str, w: int) -> None:
        self.workers[w].go(properly=False)
        self.follow(name)

    def kill_what_is_left(self, name: str, reply: str, w: int) -> None:
        self.follow(name)  # commands are imagined

    def replace(self, name: str, reply: str, w: int) -> None:
        worker = self._bear()
        with worker.store.replying(reply):
            worker.register()
        if reply != "heard":
            worker.go(properly=False)
        if reply != "fails":
            self.workers[w] = worker
        self.follow(name)

    def rescue(self, name: str, reply: str, w: int, dead: int) -> None:
        """A rescuer takes all the dead at once."""
        ending = {"heard": "", "lost": ", reply lost", "fails": " fails"}[reply]
        store = self.workers[w].store
        with store.replying(reply):
            rescue.rescue_dead(store)
        for d, other in enumerate(self.world.workers):
            if other.process == "off" and any(tree.worker == d for tree in self.world.trees):
                self.follow(f"worker {w} kills what worker {d} left")
            if other.process == "off" and other.row == "alive":
                self.follow(f"rescue by worker {w} from worker {d}{ending}")

    def rescue_elsewhere(self, name: str, reply: str, w: int) -> None:
        with self.store.replying(reply):
            rescues.rescue(self.store, [self.workers[w].id])
        self.follow(name)

    # The comparison

    def _compare_jobs(self) -> None:
        assert broken_invariant(self.world) is None
        rows = self._job_rows()
        for j, model in enumerate(self.world.jobs):
            if model.state == "absent":
                assert j not in rows
                continue
            row = rows[j]
            holder = None if model.holder == protocol.NOBODY else self.workers[model.holder].id
            assert (row.state, row.version, row.runs) == (model.state, model.version, model.runs)
            assert (row.attempts, row.worker_id) == (model.attempts, holder)
            assert row.recorded == model.recorded
        letters = {letter.job.id for letter in dead_letters.list_dead(self.store)}
        dead = {f"job-{j}" for j, job in enumerate(self.world.jobs) if job.state == "dead"}
        assert letters == dead

    def _compare_workers(self) -> None:
        rows = self.store.read(lambda connection: connection.execute(_ALIVE).all())
        alive = set()
        for worker, model in zip(self.workers, self.world.workers, strict=True):
            claim = model.claim and (f"job-{model.claim.job}", model.claim.version)
            # Of a turn that settled and claimed, and whose reply was lost, the model made two.
            assert model.unsure or worker.memory() == claim
            if model.row == "alive":
                alive.add(worker.id)
        assert {row.id for row in rows} == alive

    def _job_rows(self) -> dict[int, Any]:
        rows = self.store.read(lambda connection: connection.execute(_JOBS).all())
        return {int(row.id.removeprefix("job-")): row for row in rows}


_TAKERS: dict[str, Callable[..., None]] = {
    "SIGKILL to worker": Services.kill,
    "enqueue job": Services.enqueue,
    "enqueue job again": Services.enqueue,
    "heartbeat of worker": Services.beat,
    "heartbeat of worker is refused": Services.beat_is_refused,
    "job of worker: completed": Services.end,
    "job of worker: failed": Services.end,
    "job of worker: put back": Services.end,
    "lease of worker is over: rescue elsewhere": Services.rescue_elsewhere,
    "recall by worker": Services.recall,
    "replacement of worker": Services.replace,
    "requeue of job": Services.requeue,
    "rescue by worker from worker": Services.rescue,
    "supervisor kills what worker left": Services.kill_what_is_left,
    "turn of worker": Services.take_turn,
    "turn of worker is refused": Services.turn_is_refused,
    "worker kills what worker left": Services.rescue,
    "worker leaves": Services.leave,
    "worker starts job": Services.start,
}
