"""The plan of a campaign: which faults, in which order, how far apart; all of it from the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WORKER_KILLED = "worker killed"
SUPERVISOR_KILLED = "supervisor killed"
BOTH_KILLED = "supervisor and workers killed"
CLIENT_KILLED = "client killed"
WORKER_FROZEN = "worker frozen"
TREE_FROZEN = "supervisor and workers frozen"
FAILPOINT = "failpoint"
DISK_FULL = "disk full"
SYNC_FAILED = "sync failed"
REPLY_LOST = "commit's reply lost"
STOPPED = "stopped"
#: Those of a store on a server.
SERVER_PROCESS_KILLED = "server process killed"
SERVER_RESTARTED = "server restarted"
SERVER_KILLED = "server killed"
CONNECTION_ENDED = "connection ended"
PARTITIONED = "host cut off"

#: How often each kind comes up.
KINDS: Mapping[str, int] = {
    WORKER_KILLED: 26,
    SUPERVISOR_KILLED: 6,
    BOTH_KILLED: 6,
    CLIENT_KILLED: 14,
    WORKER_FROZEN: 4,
    TREE_FROZEN: 1,
    FAILPOINT: 38,
    DISK_FULL: 1,
    SYNC_FAILED: 1,
    REPLY_LOST: 4,
    STOPPED: 2,
}

#: The same where the store is on a server: what only happens to a file is left out.
SERVER_KINDS: Mapping[str, int] = {
    **{kind: weight for kind, weight in KINDS.items() if kind not in (DISK_FULL, SYNC_FAILED)},
    SERVER_PROCESS_KILLED: 4,
    SERVER_RESTARTED: 3,
    SERVER_KILLED: 3,
    CONNECTION_ENDED: 4,
    PARTITIONED: 6,
}

#: What a server that is somebody else's is spared.
OWN_SERVER_KINDS = (SERVER_PROCESS_KILLED, SERVER_RESTARTED, SERVER_KILLED)

#: The transactions at which a process is killed: the service function that runs each.
TRANSACTIONS: Mapping[str, int] = {
    "take_turn": 52,
    "enqueue": 20,
    "rescue": 12,
    "beat": 6,
    "register": 6,
    "leave": 2,
    "request_stop": 2,
    "_change": 2,  # of the dead letters: a requeue
}

#: ``within`` is behind the n-th statement of the transaction.
STAGES = ("before", "after", "within")
STOPS = ("command", "command", "command now", "signal", "signal", "signals")

#: What a job does, and how often: the words that ``job.sh`` gets.
JOBS: Mapping[str, int] = {
    "quick": 54,
    "tick 2": 10,
    "tick 6": 8,
    "fail 1": 6,
    "fail 99": 3,
    "setsid": 5,
    "fork": 4,
    "hidden": 4,
    "slow": 2,
    "print": 2,
    "tick 20": 2,
}

#: The same where the store is on a server: some run for longer than a lease.
SERVER_JOBS: Mapping[str, int] = {**JOBS, "nap 30": 4}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to bring about, ``pause_seconds`` after the one before it.

    ``pick`` chooses among those who can be hit when it comes; ``amount`` is what else the kind
    needs, from 0 to 1.
    """

    number: int
    pause_seconds: float
    kind: str
    pick: float
    amount: float
    stage: str
    transaction: str
    stop: str


def make_random(seed: int) -> random.Random:
    """Return the source of everything that is random in a campaign of this seed."""
    return random.Random(seed)  # noqa: S311  # a plan must replay; it is no secret


def make_plan(
    seed: int,
    faults_per_second: float,
    kinds: Mapping[str, int] = KINDS,
    transactions: Mapping[str, int] = TRANSACTIONS,
    stages: Sequence[str] = STAGES,
) -> Iterator[Fault]:
    """Yield the faults of this seed for ever; the same seed yields the same ones."""
    source = make_random(seed)
    number = 0
    while True:
        number += 1
        yield Fault(
            number,
            source.expovariate(faults_per_second),
            choose(source, kinds),
            source.random(),
            source.random(),
            source.choice(stages),
            choose(source, transactions),
            source.choice(STOPS),
        )


def choose(source: random.Random, weights: Mapping[str, int]) -> str:
    """Return one of the names, each as often as its weight says."""
    return source.choices(list(weights), list(weights.values()))[0]
