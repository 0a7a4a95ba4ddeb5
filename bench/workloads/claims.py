"""W4: one claim, with ever more rows waiting and lying behind it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from bench.contest import Contender, Role, compete, median_of
from bench.population import populate
from bench.report import Bar, Report, ratio
from bench.stage import Stage, fill
from bench.workloads.statements import completed, hired
from queuectl.service import claims
from queuectl.service.claims import Settlement
from queuectl.settings import StoreLocation

_SMALL = "1,000 pending"
_LARGE = "1,000,000 pending"
_BEHIND = "1,000,000 pending, 1,000,000 finished, 1,000,000 scheduled"


def run(stage: Stage) -> Report:
    """Time turns that settle one job and claim the next, in milliseconds, commit included."""
    million = stage.size(1_000_000, 1000)
    stores = {
        _SMALL: (1000, 0, 0),
        "100,000 pending": (stage.size(100_000, 1000), 0, 0),
        _LARGE: (million, 0, 0),
        _BEHIND: (million, million, million),
    }
    contenders: list[Contender] = []
    for name, (pending, finished, scheduled) in stores.items():
        location = stage.new_store()
        populate(location, pending=pending, finished=finished, scheduled=scheduled)
        contenders.append(Contender(f"queuectl, {name}", Role.OURS, turns(stage, location)))
    contenders += _peers(stage)
    outcome = compete(contenders, rounds=stage.rounds)
    small, behind = (median_of(outcome.rows, f"queuectl, {name}") for name in (_SMALL, _BEHIND))
    large = median_of(outcome.rows, f"queuectl, {_LARGE}")
    return Report(
        "W4",
        "settle one job and claim the next, commit included",
        "ms",
        "lower",
        outcome.rows,
        [
            Bar("a million pending, times a thousand", ratio(large, small), "at most", 1.2),
            Bar("two million more behind, times a thousand", ratio(behind, small), "at most", 1.2),
            Bar("with all behind it, ms", behind, "at most", 0.3),
        ],
        outcome.missing,
        ["each figure is the median of a run's turns; the peers take a job and settle nothing"],
    )


def turns(stage: Stage, location: StoreLocation) -> Callable[[], float]:
    """Return what measures turns that settle one job and claim the next: their median, in ms."""

    def measure() -> float:
        times = []
        ended: list[Settlement] = []
        warm_up, measured = stage.size(400, 1), stage.size(200, 5)
        fill(location, warm_up + measured, "true")  # as many as are taken: the depth stays
        with hired(location) as (store, claimant):
            # A worker writes its log (WAL) over and over; a new one grows, and each sync is dearer.
            for _ in range(warm_up):
                turn = claims.take_turn(store, claimant, ended, free=1, idle=True)
                ended = [completed(claim) for claim in turn.claims]
            for _ in range(measured):
                began = time.perf_counter()
                turn = claims.take_turn(store, claimant, ended, free=1, idle=True)
                times.append(time.perf_counter() - began)
                ended = [completed(claim) for claim in turn.claims]
            claims.take_turn(store, claimant, ended, free=0, idle=True)
        return statistics.median(times) * 1000

    return measure


def _peers(stage: Stage) -> list[Contender]:
    def huey(depth: int) -> float:
        path = stage.new_folder() / "huey.db"
        return float(stage.peers.run("huey_app", "depth", path, depth, stage.size(200, 5)))

    def procrastinate(depth: int) -> float:
        url = stage.new_database("procrastinate_app")
        figure = stage.peers.run("procrastinate_app", "depth", url, depth, stage.size(200, 5))
        return float(figure)

    found = []
    if stage.peers.has("huey"):
        found.append(Contender("huey, 1,000 pending", Role.PEER, lambda: huey(1000)))
    if stage.peers.has("procrastinate"):
        name = "procrastinate, 1,000 pending"
        found.append(Contender(name, Role.PEER, lambda: procrastinate(1000)))
    return found
