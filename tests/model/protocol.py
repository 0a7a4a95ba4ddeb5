"""The protocol of ``service/claims.py`` and ``worker/rescue.py`` as a small model: states and steps.

Three workers with one slot each, two jobs, three runs of a job at most. A step is whatever happens
at once: one transaction, one signal, one death. ``steps`` yields every step that can be taken in a
state, so that whoever follows all of them sees every interleaving. Faults are steps like others:
a worker may die, be stopped and go on again at any time, and of each transaction the reply may be
lost, after the commit or before it.

Left out: more than one slot, ``max-crashes``, backoff (a failed job may be due at once), and the
death of a whole supervisor together with its workers where the lease decides, which is the one
window that ``worker/supervisor.py`` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Literal, NamedTuple

JOBS = 2
WORKERS = 3
MOST_RUNS = 3
MAX_RETRIES = 1
NOBODY = -1

JobState = Literal["absent", "pending", "processing", "failed", "completed", "dead"]
Phase = Literal["claimed", "running", "completed", "failed", "stopped", "lost"]


class Mistake(Enum):
    """What a careless queue leaves out; the model without it must break an invariant."""

    SETTLE_WITHOUT_VERSION = auto()
    CLAIM_WITHOUT_RECHECK = auto()
    RESCUE_WITHOUT_KILL = auto()
    RESCUE_BY_AGE = auto()
    TURN_OF_A_DEAD_WORKER = auto()
    FORGET_AFTER_LOST_REPLY = auto()
    ACKNOWLEDGE_BEFORE_COMMIT = auto()
    SPARE_STRAYS = auto()


class Job(NamedTuple):
    """A row of ``jobs``, how many attempts are recorded, and what its client was told."""

    state: JobState = "absent"
    version: int = 0
    runs: int = 0
    #: Failures that were charged since it was enqueued or requeued.
    attempts: int = 0
    holder: int = NOBODY
    recorded: int = 0
    acknowledged: bool = False
    #: A result was applied whose claim was over.
    stale: bool = False


class Claim(NamedTuple):
    """What a worker knows of the attempt in its slot."""

    job: int
    version: int
    phase: Phase


class Worker(NamedTuple):
    """A process, its row, and its memory."""

    process: Literal["on", "paused", "off"] = "on"
    row: Literal["alive", "stopped", "dead"] = "alive"
    stop: Literal["", "drain", "now"] = ""
    claim: Claim | None = None
    #: The (job, version) that it has selected and not yet claimed.
    seen: tuple[int, int] | None = None
    #: The reply to its last commit was lost.
    unsure: bool = False
    #: Its own deadline has passed without a heartbeat.
    late: bool = False
    #: The dead worker whose lock it holds, and whose processes it has killed.
    buries: int = NOBODY


class Tree(NamedTuple):
    """The processes of one attempt."""

    job: int
    version: int
    worker: int


class World(NamedTuple):
    """One state of everything."""

    jobs: tuple[Job, ...]
    workers: tuple[Worker, ...]
    trees: frozenset[Tree] = frozenset()


Step = tuple[str, World]
Mistakes = frozenset[Mistake]

START = World((Job(),) * JOBS, (Worker(),) * WORKERS)


def steps(world: World, mistakes: Mistakes = frozenset()) -> Iterator[Step]:
    """Yield every step that can be taken: its name, and the state behind it."""
    for j in range(len(world.jobs)):
        yield from _client_steps(world, j, mistakes)
    for w, worker in enumerate(world.workers):
        if worker.process == "on":
            yield from _turns(world, w, mistakes)
            yield from _command_steps(world, w, mistakes)
            yield from _time_steps(world, w)
            yield from _rescue_steps(world, w, mistakes)
        yield from _outside_steps(world, w, mistakes)


def _client_steps(world: World, j: int, mistakes: Mistakes) -> Iterator[Step]:
    job = world.jobs[j]
    if job.state == "absent":
        if Mistake.ACKNOWLEDGE_BEFORE_COMMIT in mistakes:
            yield f"acknowledge job {j}", _put_job(world, j, job._replace(acknowledged=True))
        stored = job._replace(state="pending", version=1)
        yield f"enqueue job {j}", _put_job(world, j, stored._replace(acknowledged=True))
        yield f"enqueue job {j}, reply lost", _put_job(world, j, stored)
    elif not job.acknowledged:
        yield f"enqueue job {j} again", _put_job(world, j, job._replace(acknowledged=True))
    if job.state == "dead" and job.runs < MOST_RUNS:
        fresh = job._replace(state="pending", version=job.version + 1, attempts=0)
        yield f"requeue job {j}", _put_job(world, j, fresh)


# Turns: what a worker does to the store


def _turns(world: World, w: int, mistakes: Mistakes) -> Iterator[Step]:
    worker = world.workers[w]
    if worker.unsure:
        yield f"recall by worker {w}", _recall(world, w)
        return
    ended = worker.claim is not None and worker.claim.phase not in ("claimed", "running")
    if worker.seen is None and worker.stop == "" and (ended or worker.claim is None):
        yield from _looks(world, w)
    if worker.seen is None and not ended:
        return
    after = _turn(world, w, mistakes)
    yield f"turn of worker {w}", after
    if after.workers[w].process == "off":
        return  # it was told that it is dead, and is
    unsure = worker._replace(
        seen=None, unsure=Mistake.FORGET_AFTER_LOST_REPLY not in mistakes
    )
    if unsure.claim is not None and not unsure.unsure:
        unsure = unsure._replace(claim=None)  # it takes the lost reply for a success
    yield f"turn of worker {w}, reply lost", _put_worker(after, w, unsure)
    if unsure.unsure:
        yield f"turn of worker {w} fails", _put_worker(world, w, unsure)


def _looks(world: World, w: int) -> Iterator[Step]:
    """Select a job; failed ones that are due are made pending on the way."""
    for j, job in enumerate(world.jobs):
        if job.state in ("pending", "failed") and job.runs < MOST_RUNS:
            if job.state == "failed":
                job = job._replace(state="pending", version=job.version + 1)
            worker = world.workers[w]._replace(seen=(j, job.version))
            yield f"worker {w} selects job {j}", _put_worker(_put_job(world, j, job), w, worker)


def _turn(world: World, w: int, mistakes: Mistakes) -> World:
    worker = world.workers[w]
    if worker.row != "alive" and Mistake.TURN_OF_A_DEAD_WORKER not in mistakes:
        return _leave_for_dead(world, w)
    if worker.claim is not None:
        world = _settle(world, worker.claim, mistakes)
        worker = worker._replace(claim=None)
    if worker.seen is not None:
        j, version = worker.seen
        worker = worker._replace(seen=None)
        job = world.jobs[j]
        stands = job.state == "pending" and job.version == version
        if worker.stop == "" and (stands or Mistake.CLAIM_WITHOUT_RECHECK in mistakes):
            claimed = job._replace(
                state="processing", version=job.version + 1, runs=job.runs + 1, holder=w
            )
            world = _put_job(world, j, claimed)
            worker = worker._replace(claim=Claim(j, claimed.version, "claimed"))
    return _put_worker(world, w, worker)


def _settle(world: World, claim: Claim, mistakes: Mistakes) -> World:
    job = world.jobs[claim.job]
    stands = job.state == "processing" and job.version == claim.version
    if not stands and Mistake.SETTLE_WITHOUT_VERSION not in mistakes:
        return world
    job = job._replace(
        version=job.version + 1, holder=NOBODY, recorded=job.recorded + 1, stale=not stands
    )
    if claim.phase == "completed":
        job = job._replace(state="completed")
    elif claim.phase == "failed":
        attempts = job.attempts + 1
        job = job._replace(state="dead" if attempts > MAX_RETRIES else "failed", attempts=attempts)
    else:
        job = job._replace(state="pending")
    return _put_job(world, claim.job, job)


def _recall(world: World, w: int) -> World:
    """Read back what of the last turn stands in the store."""
    worker = world.workers[w]
    if worker.row != "alive":
        return _leave_for_dead(world, w)
    claim = worker.claim
    if claim is not None and not _stands(world, claim):
        claim = None
    for j, job in enumerate(world.jobs):
        if job.state == "processing" and job.holder == w and claim is None:
            claim = Claim(j, job.version, "claimed")
    return _put_worker(world, w, worker._replace(claim=claim, unsure=False))


def _stands(world: World, claim: Claim) -> bool:
    job = world.jobs[claim.job]
    return job.state == "processing" and job.version == claim.version


def _leave_for_dead(world: World, w: int) -> World:
    """The worker was told that it is dead: it ends what it runs and leaves."""
    return _put_worker(_kill(world, w), w, Worker("off", world.workers[w].row))


# Commands


def _command_steps(world: World, w: int, mistakes: Mistakes) -> Iterator[Step]:
    worker = world.workers[w]
    claim = worker.claim
    if claim is None:
        if worker.stop and not worker.unsure:
            row = "stopped" if worker.row == "alive" else worker.row
            yield f"worker {w} leaves", _put_worker(world, w, Worker("off", row))
    elif claim.phase == "claimed" and not worker.late:
        running = _put_claim(world, w, claim._replace(phase="running"))
        tree = Tree(claim.job, claim.version, w)
        yield (
            f"worker {w} starts job {claim.job}",
            running._replace(trees=world.trees | {tree}),
        )
    elif claim.phase == "running":
        ended = world if Mistake.SPARE_STRAYS in mistakes else _kill(world, w)
        endings: tuple[Phase, ...] = ("completed", "failed")
        for phase in endings:
            done = _put_claim(ended, w, claim._replace(phase=phase))
            yield f"job {claim.job} of worker {w}: {phase}", done
        if worker.stop == "now":
            put_back = _put_claim(_kill(world, w), w, claim._replace(phase="stopped"))
            yield f"worker {w} ends job {claim.job}", put_back


def _time_steps(world: World, w: int) -> Iterator[Step]:
    worker = world.workers[w]
    if worker.row != "alive":
        yield f"heartbeat of worker {w} finds no row", _leave_for_dead(world, w)
    elif worker.late:
        yield f"heartbeat of worker {w}", _put_worker(world, w, worker._replace(late=False))
    else:
        claim = worker.claim
        if claim is not None and claim.phase == "running":
            claim = claim._replace(phase="lost")
        late = worker._replace(late=True, claim=claim)
        yield f"deadline of worker {w}", _put_worker(_kill(world, w), w, late)


# Deaths, and what follows them


def _rescue_steps(world: World, w: int, mistakes: Mistakes) -> Iterator[Step]:
    worker = world.workers[w]
    if worker.buries != NOBODY:
        freed = _put_worker(world, w, worker._replace(buries=NOBODY))
        yield f"worker {w} rescues from worker {worker.buries}", _rescue(freed, worker.buries)
        return
    locked = {other.buries for other in world.workers}
    for d, dead in enumerate(world.workers):
        if dead.process == "off" and dead.row == "alive" and d not in locked:
            killed = world if Mistake.RESCUE_WITHOUT_KILL in mistakes else _kill(world, d)
            buries = _put_worker(killed, w, worker._replace(buries=d))
            yield f"worker {w} kills what worker {d} left", buries


def _rescue(world: World, dead: int) -> World:
    world = _put_worker(world, dead, world.workers[dead]._replace(row="dead"))
    for j, job in enumerate(world.jobs):
        if job.state == "processing" and world.workers[job.holder].row != "alive":
            back = job._replace(
                state="pending",
                version=job.version + 1,
                holder=NOBODY,
                recorded=job.recorded + 1,
            )
            world = _put_job(world, j, back)
    return world


def _outside_steps(world: World, w: int, mistakes: Mistakes) -> Iterator[Step]:
    worker = world.workers[w]
    if worker.process == "on":
        yield f"SIGSTOP to worker {w}", _put_worker(world, w, worker._replace(process="paused"))
    if worker.process == "paused":
        yield f"SIGCONT to worker {w}", _put_worker(world, w, worker._replace(process="on"))
    has_tree = any(tree.worker == w for tree in world.trees)
    if worker.process != "off":
        crashed = Worker("off", worker.row)
        yield f"SIGKILL to worker {w}", _put_worker(world, w, crashed)
    elif has_tree:
        yield f"supervisor kills what worker {w} left", _kill(world, w)
    if worker.row != "alive":
        return
    if (worker.late and not has_tree) or Mistake.RESCUE_BY_AGE in mistakes:
        yield f"lease of worker {w} is over: rescue elsewhere", _rescue(world, w)
    if worker.process != "off" and worker.stop != "now":
        if worker.stop == "":
            drain = worker._replace(stop="drain")
            yield f"stop worker {w}: drain", _put_worker(world, w, drain)
        yield f"stop worker {w}: now", _put_worker(world, w, worker._replace(stop="now"))


def _put_job(world: World, j: int, job: Job) -> World:
    return World((*world.jobs[:j], job, *world.jobs[j + 1 :]), world.workers, world.trees)


def _put_worker(world: World, w: int, worker: Worker) -> World:
    workers = (*world.workers[:w], worker, *world.workers[w + 1 :])
    return World(world.jobs, workers, world.trees)


def _put_claim(world: World, w: int, claim: Claim) -> World:
    return _put_worker(world, w, world.workers[w]._replace(claim=claim))


def _kill(world: World, w: int) -> World:
    """End all processes that a worker started."""
    if not world.trees:
        return world
    return world._replace(trees=frozenset(tree for tree in world.trees if tree.worker != w))
