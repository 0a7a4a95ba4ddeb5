"""Follow every step from the start, breadth first, and hold each state to the invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.model.protocol import (
    MAX_RETRIES,
    NOBODY,
    Job,
    Mistake,
    Mistakes,
    Tree,
    Worker,
    World,
    kind,
    put_worker,
    steps,
)

#: Stands for every version that has been and will never be again.
_STALE = -1


@dataclass(slots=True)
class Exploration:
    """What was found. ``history`` is the shortest one that breaks an invariant, if one does."""

    states: int = 0
    transitions: int = 0
    #: How often each kind of step was taken, without the numbers of jobs and workers.
    taken: Counter[str] = field(default_factory=Counter)
    broken: str | None = None
    history: list[str] = field(default_factory=list)


def explore(mistakes: Mistakes = frozenset()) -> Exploration:
    """Visit every state that can be reached; stop at the first one that breaks an invariant."""
    found = Exploration()
    known = {World()}
    layer = [World()]
    while layer:
        following = []
        for name, before, after in _all_steps(layer, mistakes):
            found.transitions += 1
            found.taken[name] += 1
            if after is before:
                continue
            folded = fold(after, mistakes)
            if folded in known:
                continue
            known.add(folded)
            following.append(folded)
            found.broken = broken_invariant(folded)
            if found.broken is not None:
                found.history = _shortest_history(mistakes)
                return found
        layer = following
    found.states = len(known)
    found.taken = _without_numbers(found.taken)
    return found


def _all_steps(layer: list[World], mistakes: Mistakes) -> Iterator[tuple[str, World, World]]:
    for world in layer:
        for name, after in steps(world, mistakes):
            yield name, world, after


def _shortest_history(mistakes: Mistakes) -> list[str]:
    """Look once more, without folding, so that numbers mean the same from beginning to end."""
    parents: dict[World, tuple[str, World] | None] = {World(): None}
    layer = [World()]
    while True:
        following = []
        for name, world, after in _all_steps(layer, mistakes):
            if after in parents:
                continue
            parents[after] = (name, world)
            following.append(after)
            if broken_invariant(after):
                return _path(parents, after)
        layer = following


def _path(parents: dict[World, tuple[str, World] | None], world: World) -> list[str]:
    names: list[str] = []
    while (parent := parents[world]) is not None:
        name, world = parent
        names.insert(0, name)
    return names


def broken_invariant(world: World) -> str | None:
    """Return which of the invariants of ``cases.md`` does not hold, in words; None: all hold."""
    running = [tree.job for tree in world.trees]
    if len(running) != len(set(running)):
        return "I2: two attempts of a job run at once"
    for tree in world.trees:
        job = world.jobs[tree.job]
        if job.state != "processing" or job.version != tree.version:
            return "I5: something that an ended attempt started is alive"
    for j, job in enumerate(world.jobs):
        if broken := _broken_job(job):
            return broken
        if job.state == "processing" and _is_stuck(world, j):
            return "I6: a job is in processing, and nobody will end it"
    return None


def _broken_job(job: Job) -> str | None:
    if job.acknowledged and job.state == "absent":
        return "I1: an acknowledged job is not there"
    if job.stale:
        return "I3: a result was applied whose claim was over"
    if job.recorded != job.runs - (job.state == "processing"):
        return "I4: the recorded attempts have a gap"
    if (job.attempts > MAX_RETRIES) != (job.state == "dead"):
        return "I4: the charged attempts are not within the retries"
    return None


def _is_stuck(world: World, j: int) -> bool:
    job = world.jobs[j]
    holder = world.workers[job.holder]
    if holder.row != "alive":
        return True
    if holder.process == "off" or holder.unsure:
        return False  # a rescuer, or the worker itself, will find it
    claim = holder.claim
    return claim is None or (claim.job, claim.version) != (j, job.version)


def fold(world: World, mistakes: Mistakes = frozenset()) -> World:
    """Return the one state that stands for all that go on in the same way.

    Versions only grow, so a version that somebody remembers is the current one or will never be
    again, and how many came before is of no matter; nor is which job and which worker bears which
    number. Where sorting cannot tell two workers apart without naming a worker, some states stay
    unfolded: that costs room and hides nothing.
    """
    if Mistake.TURN_OF_A_DEAD_WORKER not in mistakes:
        world = _forget_doomed(world)
    if any(job.version > 1 for job in world.jobs):
        world = _forget_numbers(world)
    if Mistake.CLAIM_WITHOUT_RECHECK not in mistakes:
        world = _forget_stale_selections(world)
    first, second = world.jobs
    if first[:4] + first[5:] > second[:4] + second[5:]:
        world = _swap_jobs(world)
    return _sort_workers(world)


def _forget_doomed(world: World) -> World:
    """What a worker remembers that was declared dead is of no matter: its next step is its last."""
    for w, worker in enumerate(world.workers):
        if worker.row != "alive":
            world = put_worker(world, w, Worker(worker.process, worker.row))
    return world


def _forget_stale_selections(world: World) -> World:
    """Which job a worker selected that is another's by now is of no matter: it gets none."""
    for w, worker in enumerate(world.workers):
        if worker.seen == (1, _STALE):
            world = put_worker(world, w, worker._replace(seen=(0, _STALE)))
    return world


def _forget_numbers(world: World) -> World:
    """Make each job's version 1, and each remembered one 1 or stale; keep attempts by their gap."""
    versions = [job.version for job in world.jobs]

    def forget(job: int, version: int) -> int:
        return 1 if version == versions[job] else _STALE

    jobs = tuple(
        job._replace(
            version=min(job.version, 1),
            runs=0,
            started=job.started and job.state == "processing",
            attempts=0 if job.state == "completed" else job.attempts,
            recorded=job.recorded - job.runs,
        )
        for job in world.jobs
    )
    trees = frozenset(Tree(j, forget(j, version), w) for j, version, w in world.trees)
    world = World(jobs, world.workers, trees)
    for w, worker in enumerate(world.workers):
        claim, seen = worker.claim, worker.seen
        if claim is not None:
            claim = claim._replace(version=forget(claim.job, claim.version))
        if seen is not None:
            seen = (seen[0], forget(*seen))
        if claim != worker.claim or seen != worker.seen:
            world = put_worker(world, w, worker._replace(claim=claim, seen=seen))
    return world


def _swap_jobs(world: World) -> World:
    workers = tuple(
        worker._replace(
            claim=worker.claim and worker.claim._replace(job=1 - worker.claim.job),
            seen=worker.seen and (1 - worker.seen[0], worker.seen[1]),
        )
        for worker in world.workers
    )
    trees = frozenset(tree._replace(job=1 - tree.job) for tree in world.trees)
    return World(world.jobs[::-1], workers, trees)


def _sort_workers(world: World) -> World:
    places = range(len(world.workers))
    first, second = world.jobs[0].holder, world.jobs[1].holder
    keys = [
        (process, row, claim or (), seen or (), unsure, first == w, second == w)
        for w, (process, row, claim, seen, unsure) in enumerate(world.workers)
    ]
    order = sorted(places, key=keys.__getitem__)
    if order == list(places):
        return world
    place = {old: new for new, old in enumerate(order)}
    place[NOBODY] = NOBODY
    return World(
        tuple(job._replace(holder=place[job.holder]) for job in world.jobs),
        tuple(world.workers[old] for old in order),
        frozenset(Tree(j, version, place[w]) for j, version, w in world.trees),
    )


def _without_numbers(taken: Counter[str]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for name, count in taken.items():
        kinds[kind(name)] += count
    return kinds
