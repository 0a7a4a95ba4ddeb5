"""The model's steps, taken by the real services on a real store, and compared after each one.

A worker of this test is a registration, a lock, a connection, and what it remembers; its commands
are imagined. A step is made in the store first and then in the model, and both must stand alike.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import Connection, func, select

from queuectl.db import presence
from queuectl.db.engine import Store, open_store
from queuectl.db.models import AttemptRow, JobRow, WorkerRow
from queuectl.domain.job import Claim, Ending, Outcome
from queuectl.domain.request import validate_request
from queuectl.errors import StoreUnavailable, WorkerDeclaredDead
from queuectl.service import claims, config, dead_letters, jobs, recall, statements, workers
from queuectl.service.claims import Claimant, Settlement
from queuectl.settings import StoreLocation
from queuectl.worker import processes
from queuectl.worker.rescue import rescue_dead
from tests.campaign.mutants import without
from tests.model import protocol
from tests.model.explorer import broken_invariant
from tests.model.protocol import KINDS, World, kind, steps

pytestmark = pytest.mark.timeout(600)

Result = TypeVar("Result")

_ENDINGS = {
    "completed": Ending.COMPLETED,
    "failed": Ending.FAILED,
    "put back": Ending.STOPPED,
}
#: Thousands of commits: in memory they take seconds, on a busy disk a minute.
_MEMORY = Path("/dev/shm")  # noqa: S108  # TemporaryDirectory makes a private folder in it
#: How a step's name ends, and what becomes of the transaction.
_REPLIES = {", reply lost": "lost", ", request fails": "fails", " fails": "fails", "": "heard"}
#: How often a kind of step is drawn among those that can be taken; the others: once. What brings
#: jobs on comes often, what ends a worker or the last of the work seldom.
_WEIGHTS = {
    "SIGKILL to worker": 3,
    "enqueue job": 4,
    "enqueue job fails": 2,
    "enqueue job, reply lost": 3,
    "job of worker: completed": 2,
    "job of worker: failed": 6,
    "job of worker: put back": 3,
    "recall by worker": 8,
    "replacement of worker": 6,
    "requeue of job": 6,
    "requeue of job fails": 6,
    "requeue of job, reply lost": 6,
    "rescue by worker from worker": 2,
    "supervisor kills what worker left": 8,
    "turn of worker": 12,
    "turn of worker fails": 2,
    "turn of worker is refused": 3,
    "turn of worker, reply lost": 4,
    "worker kills what worker left": 12,
    "worker starts job": 14,
}


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
def _refused() -> Iterator[None]:
    try:
        yield
    except WorkerDeclaredDead:
        return
    raise AssertionError("a worker that was declared dead went on")


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

    def register(self) -> None:
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

    def go(self, *, properly: bool) -> None:
        """End as a process: its lock is free, and what it remembered is gone."""
        if self.lock is not None:
            self.lock.release(remove=properly)
        self.lock = None
        self.claim, self.ended = None, []
        self.store.close()


def _all_names(of_kind: str) -> list[str]:
    """Return the steps of a kind, with every number of a job and a worker."""
    names = [""]
    for part in re.split(r"(?<=job|ker)", of_kind):
        count = {"job": protocol.JOBS, "ker": protocol.WORKERS}.get(part[-3:], 0)
        numbers = [f" {number}" for number in range(count)] or [""]
        names = [f"{name}{part}{number}" for name in names for number in numbers]
    return names


def _spread() -> list[str]:
    """Return each kind as often as its weight says, spread evenly; the first are the common ones.

    A failure shrinks to what comes first.
    """
    places = []
    for each in KINDS:
        weight = _WEIGHTS.get(each, 1)
        places += [((turn + 0.5) / weight, each) for turn in range(weight)]
    return [each for _, each in sorted(places)]


_DRAWN = _spread()
_NAMES = {each: _all_names(each) for each in KINDS}


def _one_of(enabled: set[str]) -> st.SearchStrategy[str]:
    """Draw a step: first its kind, and always out of the same lists.

    So a number that Hypothesis has drawn means the same step whatever came before it, if that can
    be taken, and a failure can be shrunk; else the next in the list is taken.
    """
    kinds = {kind(name) for name in enabled}

    def pick(places: tuple[int, int]) -> str:
        of_kind = _next_of(_DRAWN, places[0], kinds)
        return _next_of(_NAMES[of_kind], places[1], enabled)

    return st.tuples(st.integers(0, len(_DRAWN) - 1), st.integers(0, 8)).map(pick)


def _next_of(listed: list[str], place: int, enabled: set[str]) -> str:
    place %= len(listed)
    return next(each for each in listed[place:] + listed[:place] if each in enabled)


class Services(RuleBasedStateMachine):
    """The real services, held to the model. Which step can be taken, the model says."""

    #: How often each kind of step was taken, and what came of turns, in all examples.
    taken: ClassVar[Counter[str]] = Counter()

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

    @rule(name=st.runner().flatmap(lambda machine: _one_of(machine.enabled())))
    def step(self, name: str) -> None:
        """Take a step in the store and then in the model, and compare them."""
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
        self.taken[kind(name)] += 1
        for job, after in zip(before.jobs, self.world.jobs, strict=True):
            if job.state == "pending" and after.state == "processing":
                self.taken["a claim"] += 1
            if name.startswith("turn") and after.recorded > job.recorded:
                self.taken["a settlement"] += 1
            if name.startswith("turn") and after.runs < job.runs:
                self.taken["a claim given back"] += 1

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
        with _refused():
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
            with _refused():
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
        with worker.store.replying(reply):
            workers.leave(worker.store, worker.id)
        worker.go(properly=True)
        self.follow(name)

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
            rescue_dead(store)
        for d, other in enumerate(self.world.workers):
            if other.process == "off" and any(tree.worker == d for tree in self.world.trees):
                self.follow(f"worker {w} kills what worker {d} left")
            if other.process == "off" and other.row == "alive":
                self.follow(f"rescue by worker {w} from worker {d}{ending}")

    def rescue_elsewhere(self, name: str, reply: str, w: int) -> None:
        with self.store.replying(reply):
            workers.rescue(self.store, [self.workers[w].id])
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
        query = select(WorkerRow.id).where(WorkerRow.state == "alive")
        rows = self.store.read(lambda connection: connection.execute(query).all())
        alive = {
            worker.id
            for worker, model in zip(self.workers, self.world.workers, strict=True)
            if model.row == "alive"
        }
        assert {row.id for row in rows} == alive

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
#: Each comes at least so often in a run, or the run shows little.
_OFTEN = {
    "a claim": 200,
    "a claim given back": 20,
    "a settlement": 100,
    "job of worker: completed": 5,
    "recall by worker": 40,
    "requeue of job": 40,
    "worker starts job": 100,
}


def _run(examples: int, *phases: Phase) -> Counter[str]:
    """Run the machine, with the same examples every time; return what was done."""
    Services.taken.clear()
    run_state_machine_as_test(
        Services,
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,  # a busy machine is no failure
            report_multiple_bugs=False,
            max_examples=examples,
            stateful_step_count=50,
            phases=phases,
        ),
    )
    return Services.taken


def test_the_services_follow_the_model_through_every_kind_of_step() -> None:
    taken = _run(100, Phase.generate, Phase.shrink)

    print(*sorted(taken.items()), sep="\n")  # noqa: T201  # for -s
    assert KINDS - taken.keys() == set(), "a kind of step was never taken"
    rare = {what: taken[what] for what, least in _OFTEN.items() if taken[what] < least}
    assert rare == {}


def _settle_whatever_stands(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claims, "SETTLE", without(statements.SETTLE, "version", "state"))


def _go_on_when_declared_dead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claims, "_require_alive", lambda *rest: None)


@pytest.mark.parametrize(
    ("bring_in", "caught"),
    [
        # The store itself refuses to record one attempt twice, if that is what it comes to.
        (_settle_whatever_stands, r"UNIQUE constraint failed: attempts\.|assert"),
        (_go_on_when_declared_dead, "a worker that was declared dead went on"),
    ],
)
def test_a_mistake_in_the_services_is_caught(
    monkeypatch: pytest.MonkeyPatch, bring_in: Callable[[pytest.MonkeyPatch], None], caught: str
) -> None:
    bring_in(monkeypatch)

    with pytest.raises(Exception, match=caught) as error:
        _run(100, Phase.generate)

    print(*getattr(error.value, "__notes__", []), sep="\n")  # noqa: T201  # for -s
