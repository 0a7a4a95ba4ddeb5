"""Choose among the steps that can be taken: the common ones often."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from tests.model.protocol import World, kind

#: How often a kind of step is drawn among those that can be taken; the others: once. What brings
#: jobs on comes often, what ends a worker or the last of the work seldom.
_WEIGHTS = {
    "SIGKILL to worker": 7,
    "enqueue job": 8,
    "enqueue job fails": 4,
    "enqueue job, reply lost": 6,
    "heartbeat of worker is refused": 12,
    "job of worker: completed": 4,
    "job of worker: failed": 32,
    "job of worker: put back": 8,
    "lease of worker is over: rescue elsewhere": 5,
    "recall by worker": 20,
    "replacement of worker": 20,
    "requeue of job": 30,
    "requeue of job fails": 40,
    "requeue of job, reply lost": 30,
    "rescue by worker from worker": 10,
    "rescue by worker from worker fails": 3,
    "rescue by worker from worker, reply lost": 4,
    "supervisor kills what worker left": 32,
    "turn of worker": 24,
    "turn of worker fails": 4,
    "turn of worker is refused": 14,
    "turn of worker, reply lost": 12,
    "worker kills what worker left": 32,
    "worker starts job": 60,
}
_OTHERS = 1


def one_of(enabled: set[str], world: World) -> st.SearchStrategy[str]:
    """Draw a step by a number: first its kind, then who takes it.

    In the same state the same number means the same step, so that a failure can be shrunk. In
    another it means another, since Hypothesis likes to repeat a number.
    """
    names = sorted(enabled)
    weights = {kind(name): _WEIGHTS.get(kind(name), _OTHERS) for name in names}

    def pick(number: int) -> str:
        chance = random.Random(f"{number} in {world.jobs} {world.workers}")  # noqa: S311  # no secret
        chosen = chance.choices(list(weights), list(weights.values()))[0]
        return chance.choice([name for name in names if kind(name) == chosen])

    return st.integers(0, 2**16).map(pick)
