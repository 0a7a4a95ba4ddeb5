"""W12: one claim, with ever more rows waiting in queues that are paused, full or at their rate."""

from __future__ import annotations

from contextlib import closing

from bench.contest import Contender, Role, compete, median_of
from bench.population import populate
from bench.report import Bar, Report, ratio
from bench.stage import Stage
from bench.workloads.claims import turns
from bench.workloads.statements import hired
from queuectl.db.engine import open_store
from queuectl.domain.rate import Rate
from queuectl.service import claims, queues
from queuectl.service.claims import Claimant
from queuectl.settings import StoreLocation

_NONE = "100,000 pending, all in an open queue"
_PAUSED = "900,000 more in paused queues"
_FULL = "900,000 more in full queues"
_BOTH = "450,000 more in paused and 450,000 in full queues"
_USED_UP = "900,000 more in queues that have used up their rate"
#: The queues of each kind; their names stand before and behind the open one's.
_NAMES = ("a", "b", "z")


def run(stage: Stage) -> Report:
    """Time turns that settle one job and claim the next, in milliseconds, commit included."""
    more = stage.size(900_000, 900) // len(_NAMES)
    stores = {
        _NONE: (0, 0, 0),
        _PAUSED: (more, 0, 0),
        _FULL: (0, more, 0),
        _BOTH: (more // 2, more // 2, 0),
        _USED_UP: (0, 0, more),
    }
    contenders: list[Contender] = []
    for name, (paused, full, used_up) in stores.items():
        location = stage.new_store()
        populate(location, pending=stage.size(100_000, 100))
        for queue in _NAMES:
            _add_paused(location, f"{queue}-paused", paused)
            _add_full(location, f"{queue}-full", full)
            _add_used_up(location, f"{queue}-used-up", used_up)
        contenders.append(Contender(f"queuectl, {name}", Role.OURS, turns(stage, location)))
    outcome = compete(contenders, rounds=stage.rounds)
    none = median_of(outcome.rows, f"queuectl, {_NONE}")
    return Report(
        "W12",
        "settle one job and claim the next, beside queues that are closed",
        "ms",
        "lower",
        outcome.rows,
        [
            Bar(
                f"{name}, times none of them",
                ratio(median_of(outcome.rows, f"queuectl, {name}"), none),
                "at most",
                1.3,
            )
            for name in (_PAUSED, _FULL, _BOTH, _USED_UP)
        ],
        outcome.missing,
        ["each figure is the median of a run's turns, by a worker that serves all queues"],
    )


def _add_paused(location: StoreLocation, name: str, pending: int) -> None:
    if pending:
        populate(location, pending=pending, queue=name)
        with closing(open_store(location)) as store:
            queues.pause(store, [name])


def _add_full(location: StoreLocation, name: str, pending: int) -> None:
    """One job of each such queue runs for as long as is measured."""
    if pending:
        populate(location, pending=pending, queue=name)
        with hired(location) as (store, holder):
            queues.limit(store, name, 1)
            only = Claimant(holder.worker_id, holder.host, holder.pid, (name,))
            [_] = claims.take_turn(store, only, [], free=1, idle=True).claims


def _add_used_up(location: StoreLocation, name: str, pending: int) -> None:
    """Of each such queue one job has started, and no other will for as long as is measured."""
    if pending:
        populate(location, pending=pending, queue=name)
        with hired(location) as (store, holder):
            queues.set_rate(store, name, Rate(1, 86_400))
            only = Claimant(holder.worker_id, holder.host, holder.pid, (name,))
            [_] = claims.take_turn(store, only, [], free=1, idle=True).claims
