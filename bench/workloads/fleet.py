"""W10: rows without commands on PostgreSQL: enqueue in bulk and one by one, claim and settle."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import psycopg

from bench.contest import Contender, Outcome, Role, compete, median_of
from bench.report import Bar, Report, ratio
from bench.stage import Stage, fill
from bench.workloads.fleet_peers import BULK, CLAIM, SINGLE, contenders
from bench.workloads.statements import completed, hired
from queuectl.db.engine import open_store
from queuectl.domain.job import Claim
from queuectl.domain.request import JobRequest
from queuectl.service import claims, jobs
from queuectl.settings import ServerLocation

#: How many jobs a worker settles and claims at once while jobs are short; and what PgQueuer does.
_BATCH, _SMALL_BATCH = 32, 10
_OURS = f"{CLAIM}queuectl, batches of {_BATCH}"


def run(stage: Stage) -> Report:
    """Count jobs a second."""
    own = [
        Contender(f"{BULK}queuectl", Role.OURS, lambda: _bulk(stage)),
        Contender(f"{SINGLE}queuectl", Role.OURS, lambda: _single(stage)),
        Contender(_OURS, Role.OURS, lambda: _claims(stage, _BATCH)),
        Contender(
            f"{CLAIM}queuectl, batches of {_SMALL_BATCH}",
            Role.OURS,
            lambda: _claims(stage, _SMALL_BATCH),
        ),
    ]
    # Of one kind one after the other: what is compared is measured at the same time.
    offered = [*own, *contenders(stage)]
    kinds = (BULK, SINGLE, CLAIM)
    outcome = compete(
        [c for kind in kinds for c in offered if c.name.startswith(kind)], rounds=stage.rounds
    )
    return Report(
        "W10",
        "rows without commands, on PostgreSQL",
        "jobs/s",
        "higher",
        outcome.rows,
        _bars(outcome),
        outcome.missing,
        [
            f"queuectl settles and claims {_BATCH} jobs a turn, as a worker does with short jobs",
            "PgQueuer takes ten, as it does by default; procrastinate takes one",
        ],
    )


def _bars(outcome: Outcome) -> list[Bar]:
    def times(ours: str, theirs: str) -> float | None:
        return ratio(median_of(outcome.rows, ours), median_of(outcome.rows, theirs))

    bulk, single = f"{BULK}queuectl", f"{SINGLE}queuectl"
    queuer, procrastinate = "PgQueuer", "procrastinate"
    return [
        Bar("bulk, times PgQueuer", times(bulk, f"{BULK}{queuer}"), "at least", 0.8),
        Bar("bulk, times procrastinate", times(bulk, f"{BULK}{procrastinate}"), "at least", 2),
        Bar("single, times PgQueuer", times(single, f"{SINGLE}{queuer}"), "at least", 1),
        Bar(
            "claim and settle, times PgQueuer",
            times(_OURS, f"{CLAIM}{queuer}, batches of 10"),
            "at least",
            1,
        ),
        Bar(
            "claim and settle, times procrastinate",
            times(_OURS, f"{CLAIM}{procrastinate}, one by one"),
            "at least",
            10,
        ),
    ]


def _rate(count: int, act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return count / (time.perf_counter() - began)


def _bulk(stage: Stage) -> float:
    location, count = stage.new_server_store(), stage.size(100_000, 100)
    fill(location, 1, "true")  # as the peers: their connections are warm
    return _rate(count, lambda: fill(location, count, "true"))


def _single(stage: Stage) -> float:
    location, count = stage.new_server_store(), stage.size(2000, 20)
    request = JobRequest(command="true")
    with closing(open_store(location)) as store:
        jobs.enqueue(store, [request], cwd="/")

        def act() -> None:
            for _ in range(count):
                jobs.enqueue(store, [JobRequest(command="true")], cwd="/")

        return _rate(count, act)


def _claims(stage: Stage, batch: int) -> float:
    location, count = stage.new_server_store(), stage.size(20_000, 100)
    fill(location, count, "true")
    _analyze(location)
    with hired(location) as (store, claimant):
        settled = 0

        def act() -> None:
            nonlocal settled
            held: list[Claim] = []
            while settled < count:
                ended = [completed(claim) for claim in held]
                turn = claims.take_turn(store, claimant, ended, free=batch, idle=True)
                settled += len(turn.decisions)
                held = turn.claims

        return _rate(count, act)


def _analyze(location: ServerLocation) -> None:
    """Do what autovacuum does in time, as for the peers."""
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
