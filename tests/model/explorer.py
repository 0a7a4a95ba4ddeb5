"""Follow every step from the start, breadth first, and hold each state to the invariants."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from tests.model.protocol import (
    MAX_RETRIES,
    NOBODY,
    START,
    Claim,
    Mistakes,
    Tree,
    World,
    steps,
)


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
    found = Exploration(states=1)
    parents: dict[World, World | None] = {fold(START): None}
    layer = [fold(START)]
    while layer:
        following = []
        for world in layer:
            for name, after in steps(world, mistakes):
                found.transitions += 1
                found.taken[name] += 1
                folded = fold(after)
                if folded in parents:
                    continue
                parents[folded] = world
                found.broken = broken_invariant(folded)
                if found.broken is not None:
                    found.states = len(parents)
                    found.history = _history(parents, folded, mistakes)
                    return found
                following.append(folded)
        layer = following
    found.states = len(parents)
    found.taken = _without_numbers(found.taken)
    return found


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
        if job.acknowledged and job.state == "absent":
            return "I1: an acknowledged job is not there"
        if job.stale:
            return "I3: a result was applied whose claim was over"
        if job.recorded != job.runs - (job.state == "processing"):
            return "I4: the recorded attempts have a gap"
        if (job.attempts > MAX_RETRIES) != (job.state == "dead"):
            return "I4: the charged attempts are not within the retries"
        if job.state == "processing" and _is_stuck(world, j):
            return "I6: a job is in processing, and nobody will end it"
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


def fold(world: World) -> World:
    """Return the one state that stands for all that differ only in who bears which number.

    Jobs and workers are sorted by all that does not name a worker; where that is not enough to
    tell two apart, some states stay unfolded, which costs room and hides nothing.
    """
    jobs, workers, trees = world
    first, second = jobs
    if first[:4] + first[5:] > second[:4] + second[5:]:
        return _sort_workers(_swap_jobs(world))
    return _sort_workers(world)


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
    workers = world.workers
    keys = [
        (worker[:3], worker.claim or (), worker.seen or (), worker[5:7], worker.buries != NOBODY)
        for worker in workers
    ]
    order = sorted(range(len(workers)), key=keys.__getitem__)
    if order == list(range(len(workers))):
        return world
    place = {old: new for new, old in enumerate(order)}
    place[NOBODY] = NOBODY
    return World(
        tuple(job._replace(holder=place[job.holder]) for job in world.jobs),
        tuple(workers[old]._replace(buries=place[workers[old].buries]) for old in order),
        frozenset(Tree(tree.job, tree.version, place[tree.worker]) for tree in world.trees),
    )


def _history(parents: dict[World, World | None], last: World, mistakes: Mistakes) -> list[str]:
    """Return the steps to a state, told with the same numbers from beginning to end."""
    path: list[World] = []
    at: World | None = last
    while at is not None:
        path.append(at)
        at = parents[at]
    history = []
    world = START
    for folded in path[-2::-1]:
        name, world = next(step for step in steps(world, mistakes) if fold(step[1]) == folded)
        history.append(name)
    return history


def _without_numbers(taken: Counter[str]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for name, count in taken.items():
        kinds[re.sub(r" \d", "", name)] += count
    return kinds


__all__ = ["Claim", "Exploration", "broken_invariant", "explore", "fold"]
