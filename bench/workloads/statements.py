"""W3: rows without commands: enqueue in bulk, enqueue one by one, settle and claim."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from bench.contest import Contender, Outcome, Role, Row, compete, median_of
from bench.report import Bar, Report, ratio
from bench.stage import Stage, fill
from queuectl.db import presence, sqlite
from queuectl.db.engine import Store, open_store
from queuectl.domain.job import Claim, Ending
from queuectl.domain.job import Outcome as JobOutcome
from queuectl.domain.request import JobRequest
from queuectl.service import claims, jobs, workers
from queuectl.service.claims import Claimant, Settlement
from queuectl.settings import StoreLocation

_BULK, _SINGLE, _CLAIM = "bulk: ", "single: ", "settle and claim: "
_RAW = f"{_SINGLE}raw sqlite3, the same row and durability"
#: How many jobs a worker settles and claims at once while jobs are short.
_BATCH = 32


def run(stage: Stage) -> Report:
    """Count jobs a second."""
    contenders = [
        Contender(f"{_BULK}queuectl", Role.OURS, lambda: _bulk(stage)),
        Contender(f"{_SINGLE}queuectl", Role.OURS, lambda: _single(stage)),
        Contender(_RAW, Role.LIMIT, lambda: _raw(stage)),
        Contender(f"{_CLAIM}queuectl", Role.OURS, lambda: _claims(stage)),
        *_peers(stage),
    ]
    outcome = compete(contenders, rounds=stage.rounds)
    return Report(
        "W3",
        "rows without commands",
        "jobs/s",
        "higher",
        outcome.rows,
        _bars(outcome),
        outcome.missing,
        [
            "huey has no bulk: its single figure is what its bulk is compared with",
            "litequeue does not sync each commit to disk; huey, persist-queue and queuectl do",
            f"queuectl settles and claims {_BATCH} jobs a turn, as a worker does with short jobs",
        ],
    )


def _bars(outcome: Outcome) -> list[Bar]:
    def median(name: str) -> float | None:
        return median_of(outcome.rows, name)

    drained = [row.median for row in outcome.rows if _is_peer_of(_CLAIM, row)]
    huey = median(f"{_SINGLE}huey")
    return [
        Bar("bulk, times huey", ratio(median(f"{_BULK}queuectl"), huey), "at least", 10),
        Bar(
            "single, times raw sqlite3",
            ratio(median(f"{_SINGLE}queuectl"), median(_RAW)),
            "at least",
            0.8,
        ),
        Bar(
            "settle and claim, times the best peer",
            ratio(median(f"{_CLAIM}queuectl"), max(drained, default=None)),
            "at least",
            4,
        ),
    ]


def _is_peer_of(kind: str, row: Row) -> bool:
    return row.role is Role.PEER and row.name.startswith(kind)


def _rate(count: int, act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return count / (time.perf_counter() - began)


def _bulk(stage: Stage) -> float:
    location, count = stage.new_store(), stage.size(100_000, 100)
    rate = _rate(count, lambda: fill(location, count, "true"))
    stage.discard(location)
    return rate


def _single(stage: Stage) -> float:
    location, count = stage.new_store(), stage.size(2000, 20)
    with closing(open_store(location)) as store:
        folder = str(location.folder)
        jobs.enqueue(store, [JobRequest(command="true")], cwd=folder)

        def act() -> None:
            for _ in range(count):
                jobs.enqueue(store, [JobRequest(command="true")], cwd=folder)

        rate = _rate(count, act)
    stage.discard(location)
    return rate


def _raw(stage: Stage) -> float:
    """Insert the row that an enqueue makes, with the bare driver."""
    location, count = stage.new_store(), stage.size(2000, 20)
    fill(location, 1, "true")
    with closing(open_store(location)) as store:
        connection = store.read(sqlite.driver_connection)
        cursor = connection.execute("SELECT * FROM jobs")
        names = [column[0] for column in cursor.description]
        row = dict(zip(names, cursor.fetchone(), strict=True))
        del row["seq"]
        insert = f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608  # our own column names

        def act() -> None:
            for number in range(count):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(insert, [f"raw{number}", *list(row.values())[1:]])
                connection.execute("COMMIT")

        rate = _rate(count, act)
    stage.discard(location)
    return rate


def _claims(stage: Stage) -> float:
    location, count = stage.new_store(), stage.size(20_000, 100)
    fill(location, count, "true")
    with hired(location) as (store, claimant):

        def act() -> None:
            held: list[Claim] = []
            for _ in range(0, count + _BATCH, _BATCH):
                ended = [completed(claim) for claim in held]
                held = claims.take_turn(store, claimant, ended, free=_BATCH, idle=True).claims

        rate = _rate(count, act)
    stage.discard(location)
    return rate


class hired:  # noqa: N801  # used as a function is: with hired(...) as ...
    """Registers a worker that lives in this process; yields its store and itself."""

    def __init__(self, location: StoreLocation) -> None:
        self._location = location
        self._id = secrets.token_hex(8)

    def __enter__(self) -> tuple[Store, Claimant]:
        self._lock = presence.take(self._location, self._id, create=True)
        self._store = open_store(self._location)
        workers.register(self._store, workers.Registration(self._id, "s", "h", "b", 1, 1, None))
        return self._store, Claimant(self._id, "h", 1, None)

    def __exit__(self, *exception: object) -> None:
        self._store.close()
        if self._lock is not None:
            self._lock.release(remove=True)


def completed(claim: Claim) -> Settlement:
    """Return the attempt of a claim as a runner reports it when all went well."""
    now = datetime.now(UTC)
    return Settlement(
        claim, JobOutcome(Ending.COMPLETED, now, now, 0, None, 0.001, 0.001, None, 0, b"")
    )


def _peers(stage: Stage) -> list[Contender]:
    peers, count = stage.peers, stage.size(2000, 20)
    found: list[Contender] = []

    def add(name: str, app: str, mode: str) -> None:
        def run() -> float:
            figure: Any = peers.run(app, mode, stage.new_folder() / "queue", count)
            return float(figure)

        found.append(Contender(name, Role.PEER, run))

    if peers.has("huey"):
        add(f"{_SINGLE}huey", "huey_app", "single")
        add(f"{_CLAIM}huey", "huey_app", "claim")
    if peers.has("litequeue"):
        add(f"{_SINGLE}litequeue", "lite_app", "litequeue_single")
        add(f"{_CLAIM}litequeue", "lite_app", "litequeue_claim")
    if peers.has("persist-queue"):
        add(f"{_SINGLE}persist-queue", "lite_app", "persistqueue_single")
        add(f"{_CLAIM}persist-queue", "lite_app", "persistqueue_claim")
    return found
