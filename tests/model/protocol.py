"""The protocol of ``service/claims.py`` and ``worker/rescue.py`` as a small model.

Three workers with one slot each, and two jobs. A step is whatever happens at once: one transaction,
one signal, one death. ``steps`` yields every step that can be taken in a state, so that whoever
follows all of them sees every interleaving. Faults are steps like others: a worker may die at any
time, and of each transaction the reply may be lost, after the commit or before it. A worker that
has ended may be replaced by a new one.

What stands for what:

    SIGSTOP, SIGCONT    a stopped worker is one that takes no step for as long as the others like
    the lease           it may be over at any time, as long as the worker runs nothing: a worker's
                        own deadline comes before, and it starts nothing once that has passed
    stop                a worker that has nothing to end or to find out may leave at any time; with
                        ``now``, its command is ended and put back, as at a deadline
    backoff             a failed job may be due at once, or much later

Left out: more than one slot, ``max-crashes``, and the death of a supervisor and its workers in one
blow where the lease decides, which is the one window that ``worker/supervisor.py`` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Literal, NamedTuple

JOBS = 2
WORKERS = 3
MAX_RETRIES = 1
NOBODY = -1

#: Every kind of step, without the numbers of jobs and workers.
KINDS = frozenset(
    {
        "SIGKILL to worker",
        "enqueue job",
        "enqueue job again",
        "enqueue job fails",
        "enqueue job, reply lost",
        "heartbeat of worker",
        "heartbeat of worker fails",
        "heartbeat of worker is refused",
        "heartbeat of worker, reply lost",
        "job of worker: completed",
        "job of worker: failed",
        "job of worker: put back",
        "lease of worker is over: rescue elsewhere",
        "lease of worker is over: rescue elsewhere fails",
        "lease of worker is over: rescue elsewhere, reply lost",
        "recall by worker",
        "replacement of worker",
        "replacement of worker fails",
        "replacement of worker, reply lost",
        "requeue of job",
        "requeue of job fails",
        "requeue of job, reply lost",
        "rescue by worker from worker",
        "rescue by worker from worker fails",
        "rescue by worker from worker, reply lost",
        "supervisor kills what worker left",
        "turn of worker",
        "turn of worker fails",
        "turn of worker is refused",
        "turn of worker, reply lost",
        "worker kills what worker left",
        "worker leaves",
        "worker leaves, request fails",
        "worker leaves, reply lost",
        "worker selects job",
        "worker starts job",
    }
)

JobState = Literal["absent", "pending", "processing", "failed", "completed", "dead"]
Phase = Literal["claimed", "running", "completed", "failed", "put back"]


class Mistake(Enum):
    """What a careless queue gets wrong; with any of them the model must break an invariant."""

    ACKNOWLEDGE_BEFORE_COMMIT = auto()
    SETTLE_WITHOUT_VERSION = auto()
    CLAIM_WITHOUT_RECHECK = auto()
    RESCUE_WITHOUT_KILL = auto()
    RESCUE_BY_AGE = auto()
    TURN_OF_A_DEAD_WORKER = auto()
    FORGET_AFTER_LOST_REPLY = auto()
    START_AFTER_LOST_REPLY = auto()
    SPARE_STRAYS = auto()


class Job(NamedTuple):
    """A row of ``jobs``, and what is remembered of it to judge by."""

    state: JobState = "absent"
    version: int = 0
    runs: int = 0
    #: Failures that were charged since it was enqueued or requeued.
    attempts: int = 0
    holder: int = NOBODY
    #: Its holder has noted in the file of its lock that it starts it.
    started: bool = False
    #: Rows of ``attempts``.
    recorded: int = 0
    #: Its client was told that it is there. Once it is, this is of no matter and no more kept.
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

    process: Literal["on", "off"] = "on"
    #: ``ended``: it has left, or was declared dead.
    row: Literal["alive", "ended"] = "alive"
    claim: Claim | None = None
    #: The (job, version) that it has selected and not yet claimed.
    seen: tuple[int, int] | None = None
    #: The reply to its last transaction was lost.
    unsure: bool = False


class Tree(NamedTuple):
    """The processes of one attempt."""

    job: int
    version: int
    worker: int


class World(NamedTuple):
    """One state of everything."""

    jobs: tuple[Job, ...] = (Job(),) * JOBS
    workers: tuple[Worker, ...] = (Worker(),) * WORKERS
    trees: frozenset[Tree] = frozenset()


Step = tuple[str, World]
Mistakes = frozenset[Mistake]


def steps(world: World, mistakes: Mistakes = frozenset()) -> Iterator[Step]:
    """Yield every step that can be taken: its name, and the state behind it."""
    for j in range(len(world.jobs)):
        yield from _client_steps(world, j, mistakes)
    for w, worker in enumerate(world.workers):
        if worker.process == "on":
            yield from _turns(world, w, mistakes)
            yield from _command_steps(world, w, mistakes)
            yield from _rescue_steps(world, w, mistakes)
        yield from _outside_steps(world, w, mistakes)


def kind(name: str) -> str:
    """Return the name of a step without the numbers of jobs and workers."""
    return re.sub(r" \d", "", name)


def _told(name: str, before: World, after: World) -> Iterator[Step]:
    """Yield a transaction that its caller repeats until it hears of it: it remembers no more."""
    yield name, after
    yield f"{name}, reply lost", after
    yield f"{name} fails", before


def _client_steps(world: World, j: int, mistakes: Mistakes) -> Iterator[Step]:
    job = world.jobs[j]
    if job.state == "absent":
        if Mistake.ACKNOWLEDGE_BEFORE_COMMIT in mistakes:
            yield f"acknowledge job {j}", _put_job(world, j, job._replace(acknowledged=True))
        yield from _told(f"enqueue job {j}", world, _put_job(world, j, Job("pending", version=1)))
    else:
        yield f"enqueue job {j} again", world
    if job.state == "dead":
        fresh = job._replace(state="pending", version=job.version + 1, attempts=0)
        yield from _told(f"requeue of job {j}", world, _put_job(world, j, fresh))


# Turns: what a worker does to the store


def _turns(world: World, w: int, mistakes: Mistakes) -> Iterator[Step]:
    worker = world.workers[w]
    if worker.unsure:
        yield f"recall by worker {w}", _recall(world, w)
        return
    idle = worker.claim is None or worker.claim.phase in ENDINGS
    if worker.seen is None and idle:
        yield from _looks(world, w)
    if worker.claim is not None and worker.claim.phase == "running":
        return
    if worker.row != "alive" and Mistake.TURN_OF_A_DEAD_WORKER not in mistakes:
        yield f"turn of worker {w} is refused", _leave_for_dead(world, w)
        return
    if worker.claim is None and worker.seen is None:
        yield f"turn of worker {w} fails", put_worker(world, w, worker._replace(unsure=True))
        return
    after = _turn(world, w, mistakes)
    yield f"turn of worker {w}", after
    if Mistake.FORGET_AFTER_LOST_REPLY in mistakes:
        unaware = worker._replace(seen=None, claim=None)
        yield f"turn of worker {w}, reply lost", put_worker(after, w, unaware)
    else:
        unsure = worker._replace(seen=None, unsure=True)
        yield f"turn of worker {w}, reply lost", put_worker(after, w, unsure)
        yield f"turn of worker {w} fails", put_worker(world, w, unsure)


def _looks(world: World, w: int) -> Iterator[Step]:
    """Select a job; those that failed and are due are made pending on the way."""
    jobs = tuple(
        job._replace(state="pending", version=job.version + 1) if job.state == "failed" else job
        for job in world.jobs
    )
    for j, job in enumerate(jobs):
        if job.state == "pending":
            worker = world.workers[w]._replace(seen=(j, job.version))
            yield f"worker {w} selects job {j}", put_worker(world._replace(jobs=jobs), w, worker)


def _turn(world: World, w: int, mistakes: Mistakes) -> World:
    """Settle what has ended, or give back what was not started, and claim what was selected."""
    claim, seen = world.workers[w].claim, world.workers[w].seen
    if claim is not None:
        give_back = claim.phase == "claimed"
        world = _give_back(world, claim) if give_back else _settle(world, claim, mistakes)
        claim = None
    if seen is not None:
        j, version = seen
        job = world.jobs[j]
        stands = job.state == "pending" and job.version == version
        if stands or Mistake.CLAIM_WITHOUT_RECHECK in mistakes:
            claimed = job._replace(
                state="processing",
                version=job.version + 1,
                runs=job.runs + 1,
                holder=w,
                started=False,
            )
            world = _put_job(world, j, claimed)
            claim = Claim(j, claimed.version, "claimed")
    return put_worker(world, w, world.workers[w]._replace(claim=claim, seen=None))


def _settle(world: World, claim: Claim, mistakes: Mistakes) -> World:
    job = world.jobs[claim.job]
    if not _stands(world, claim):
        stale = Mistake.SETTLE_WITHOUT_VERSION in mistakes
        return _put_job(world, claim.job, job._replace(stale=True)) if stale else world
    job = job._replace(version=job.version + 1, holder=NOBODY, recorded=job.recorded + 1)
    if claim.phase == "completed":
        job = job._replace(state="completed")
    elif claim.phase == "failed":
        attempts = job.attempts + 1
        job = job._replace(state="dead" if attempts > MAX_RETRIES else "failed", attempts=attempts)
    else:
        job = job._replace(state="pending")
    return _put_job(world, claim.job, job)


def _give_back(world: World, claim: Claim) -> World:
    """A claim of which nothing was started counts as never made."""
    if not _stands(world, claim):
        return world
    job = world.jobs[claim.job]
    back = job._replace(state="pending", version=job.version + 1, runs=job.runs - 1, holder=NOBODY)
    return _put_job(world, claim.job, back)


def _stands(world: World, claim: Claim) -> bool:
    job = world.jobs[claim.job]
    return job.state == "processing" and job.version == claim.version


def _recall(world: World, w: int) -> World:
    """Read back which claims stand. A settlement is repeated: its version tells if it was made."""
    worker = world.workers[w]
    if worker.row != "alive":
        return _leave_for_dead(world, w)
    claim = worker.claim
    if claim is not None and claim.phase == "claimed" and not _stands(world, claim):
        claim = None
    for j, job in enumerate(world.jobs):
        if job.holder == w and (claim is None or (j, job.version) != claim[:2]):
            claim = Claim(j, job.version, "claimed")
    return put_worker(world, w, worker._replace(claim=claim, unsure=False))


def _leave_for_dead(world: World, w: int) -> World:
    """The worker finds that it was declared dead: it ends what it runs and leaves."""
    return put_worker(_kill(world, w), w, Worker("off", "ended"))


# Commands, and the time that a worker has


def _command_steps(world: World, w: int, mistakes: Mistakes) -> Iterator[Step]:
    worker = world.workers[w]
    claim = worker.claim
    if worker.row == "alive":
        yield from _told(f"heartbeat of worker {w}", world, world)
    else:
        yield f"heartbeat of worker {w} is refused", _leave_for_dead(world, w)
    if claim is None:
        if not worker.unsure:  # it goes, whatever it hears
            left = put_worker(world, w, Worker("off", "ended"))
            yield f"worker {w} leaves", left
            yield f"worker {w} leaves, reply lost", left
            gone = put_worker(world, w, Worker("off", worker.row))
            yield f"worker {w} leaves, request fails", gone
    elif claim.phase == "claimed":
        knows = not worker.unsure or Mistake.START_AFTER_LOST_REPLY in mistakes
        if worker.row == "alive" and knows:
            tree = Tree(claim.job, claim.version, w)
            started = _put_claim(world, w, claim._replace(phase="running"))
            if _stands(world, claim):
                noted = world.jobs[claim.job]._replace(started=True)
                started = _put_job(started, claim.job, noted)
            name = f"worker {w} starts job {claim.job}"
            yield name, started._replace(trees=world.trees | {tree})
    elif claim.phase == "running":
        after = world if Mistake.SPARE_STRAYS in mistakes else _kill(world, w)
        for phase in ENDINGS:
            name = f"job {claim.job} of worker {w}: {phase}"
            yield name, _put_claim(after, w, claim._replace(phase=phase))


ENDINGS: tuple[Phase, ...] = ("completed", "failed", "put back")


# Deaths, and what follows them


def _rescue_steps(world: World, w: int, mistakes: Mistakes) -> Iterator[Step]:
    """A worker whose lock is free is dead: first its processes are killed, then come its jobs."""
    for d, dead in enumerate(world.workers):
        if dead.process == "on":
            continue
        has_tree = any(tree.worker == d for tree in world.trees)
        if has_tree:
            yield f"worker {w} kills what worker {d} left", _kill(world, d)
        if dead.row == "alive" and (not has_tree or Mistake.RESCUE_WITHOUT_KILL in mistakes):
            name = f"rescue by worker {w} from worker {d}"
            yield from _told(name, _lose_note(world, d), _rescue(world, d, "by the lock's note"))


def _lose_note(world: World, dead: int) -> World:
    """The rescuer that did not succeed let go of the file: what it said counts as started."""
    for j, job in enumerate(world.jobs):
        if job.state == "processing" and job.holder == dead:
            world = _put_job(world, j, job._replace(started=True))
    return world


def _rescue(world: World, dead: int, how: Literal["by the lock's note", "by the lease"]) -> World:
    """Declare a worker dead, and take back what no living worker holds, in one transaction."""
    world = put_worker(world, dead, world.workers[dead]._replace(row="ended"))
    for j, job in enumerate(world.jobs):
        if job.state != "processing" or world.workers[job.holder].row == "alive":
            continue
        if how == "by the lock's note" and not job.started:
            world = _give_back(world, Claim(j, job.version, "claimed"))
            continue
        back = job._replace(
            state="pending", version=job.version + 1, holder=NOBODY, recorded=job.recorded + 1
        )
        world = _put_job(world, j, back)
    return world


def _outside_steps(world: World, w: int, mistakes: Mistakes) -> Iterator[Step]:
    worker = world.workers[w]
    has_tree = any(tree.worker == w for tree in world.trees)
    if worker.process == "on":
        yield f"SIGKILL to worker {w}", put_worker(world, w, Worker("off", worker.row))
    elif has_tree:
        yield f"supervisor kills what worker {w} left", _kill(world, w)
    if worker.row == "alive" and (not has_tree or Mistake.RESCUE_BY_AGE in mistakes):
        rescued = _rescue(world, w, "by the lease")
        yield from _told(f"lease of worker {w} is over: rescue elsewhere", world, rescued)
    if worker.process == "off" and worker.row == "ended":  # one that cannot register dies of it
        yield f"replacement of worker {w}", put_worker(world, w, Worker())
        yield f"replacement of worker {w}, reply lost", put_worker(world, w, Worker("off"))
        yield f"replacement of worker {w} fails", world


def _put_job(world: World, j: int, job: Job) -> World:
    jobs = (*world.jobs[:j], job, *world.jobs[j + 1 :])
    return World(jobs, world.workers, world.trees)


def put_worker(world: World, w: int, worker: Worker) -> World:
    """Return the world with another worker in this place."""
    workers = (*world.workers[:w], worker, *world.workers[w + 1 :])
    return World(world.jobs, workers, world.trees)


def _put_claim(world: World, w: int, claim: Claim) -> World:
    return put_worker(world, w, world.workers[w]._replace(claim=claim))


def _kill(world: World, w: int) -> World:
    """End all processes that a worker started."""
    if not world.trees:
        return world
    return world._replace(trees=frozenset(tree for tree in world.trees if tree.worker != w))
