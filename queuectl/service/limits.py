"""Limits: how many jobs of a queue may run at once, over all workers and machines.

What runs is what stands in ``processing``, so a claim that still waits for a slot counts too. A
limit holds because nobody else can claim from the queue between the count and the commit. On SQLite
a turn has the store to itself. On a server it locks the queue's row, and counts with a statement
that begins when it has the lock, so it sees what the holder before it has committed. The rows of
several queues are locked in the order of their names, which all writers keep to. A full queue, or
one in which nothing waits, is not locked at all. What may start by a queue's rate
(``service/rates.py``) is read by the same lock.

A turn in which no served queue has a limit or a rate asks nothing of this.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    Connection,
    String,
    any_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
)

from queuectl.db.engine import Store
from queuectl.db.models import JobRow, QueueRow
from queuectl.db.prepared import Prepared, to_instant
from queuectl.domain.job import Claim, State
from queuectl.domain.rate import is_closed
from queuectl.service import rates
from queuectl.service.rows import in_states, rate_of

#: By the index of what is processing, which holds no more than there are slots.
RUNNING = Prepared(
    select(JobRow.queue, func.count()).where(in_states(State.PROCESSING)).group_by(JobRow.queue)
)
#: The same for one queue, inside a query of queues.
_RUNNING_THERE = (
    select(func.count())
    .where(in_states(State.PROCESSING), JobRow.queue == QueueRow.name)
    .correlate(QueueRow)
    .scalar_subquery()
)
#: Whether there is a place; what is counted here is counted for limited queues alone.
HAS_PLACE = or_(QueueRow.max_running.is_(None), QueueRow.max_running > _RUNNING_THERE)
#: Whether something is ready. It asks for the next one, as a claim does: EXISTS lets PostgreSQL
#: gather the queues of all pending rows first, of 50,000 in 34 ms, where a probe takes 0.04.
IS_WAITED_IN = (
    select(JobRow.seq)
    .where(in_states(State.PENDING), JobRow.queue == QueueRow.name)
    .order_by(JobRow.priority.desc(), JobRow.run_at, JobRow.seq)
    .limit(literal_column("1"))
    .correlate(QueueRow)
    .scalar_subquery()
    .is_not(None)
)

LOCK = (
    select(
        QueueRow.name,
        QueueRow.max_running,
        QueueRow.rate_count,
        QueueRow.rate_seconds,
        QueueRow.rate_starts,
        QueueRow.opens_at,
    )
    .where(
        QueueRow.name == any_(bindparam("names", type_=ARRAY(String))),
        QueueRow.paused_at.is_(None),
        rates.IS_OPEN,
        HAS_PLACE,
        IS_WAITED_IN,
    )
    .order_by(QueueRow.name)
    .with_for_update()
)
_LOCK = Prepared(LOCK)
_LOCK_NOBODYS = Prepared(select(QueueRow.name).where(QueueRow.name == "").with_for_update())


class Terms(NamedTuple):
    """What holds of a queue: how many may run at once, and start in how many seconds."""

    max_running: int | None = None
    rate_count: int | None = None
    rate_seconds: int | None = None

    @property
    def is_free(self) -> bool:
        """Whether it has neither a limit nor a rate."""
        return self.max_running is None and self.rate_count is None


class Places(NamedTuple):
    """How many more jobs may be claimed from each queue that has a limit or a rate.

    ``ledger`` is to be told which were.
    """

    most: Mapping[str, int] = MappingProxyType({})
    ledger: rates.Ledger = rates.Ledger()


def read_places(store: Store, connection: Connection, terms: Mapping[str, Terms]) -> Places:
    """Return how many more jobs may be claimed from each bound queue, until the commit.

    Only what a turn has settled before is no longer counted. A server answers in one round trip.
    """
    bound = {name: each for name, each in terms.items() if not each.is_free}
    if not bound:
        return Places()
    limited = any(each.max_running is not None for each in bound.values())
    rated = any(each.rate_count is not None for each in bound.values())
    asked: Callable[[], list[Any]] = list
    if store.is_shared:
        asked = _LOCK.ask(connection, {"names": sorted(bound)})
    elif rated:
        asked = rates.STARTS.ask(connection)
    clock = rates.CLOCK.ask(connection) if rated else None
    running = dict(RUNNING.fetch(connection)) if limited else {}
    now = (None if clock is None else to_instant(clock()[0][0])) or datetime.now(UTC)
    # As they stand now; one that was not locked is full, closed, or nothing waits there.
    most = {
        name: 0 if store.is_shared else _places(each.max_running, running.get(name, 0))
        for name, each in bound.items()
    }
    windows, outdated = {}, set()
    for name, max_running, rate_count, rate_seconds, starts, opens_at in asked():
        most[name] = _places(max_running, running.get(name, 0))
        rate = rate_of(rate_count, rate_seconds)
        if rate is not None:
            windows[name] = window = rates.read_window(rate, starts, now)
            most[name] = min(most[name], window.room)
            if not window.room and not is_closed(to_instant(opens_at), rate_seconds, now):
                outdated.add(name)  # a clock was set back: whoever looks takes it for open
    return Places(most, rates.Ledger(windows, outdated))


def _places(max_running: int | None, running: int) -> int:
    return sys.maxsize if max_running is None else max(0, max_running - running)


def frees_place(
    terms: Mapping[str, Terms], settled: Iterable[Claim], claimed: Iterable[Claim]
) -> bool:
    """Whether a turn leaves a place in a limited queue that was taken before it."""
    limited = {name for name, each in terms.items() if each.max_running is not None}
    if not limited:
        return False
    freed = Counter(claim.queue for claim in settled)
    freed.subtract(claim.queue for claim in claimed)
    return any(count > 0 and name in limited for name, count in freed.items())


def require_right(connection: Connection) -> None:
    """Let a server refuse a role that may not lock a queue."""
    _LOCK_NOBODYS.fetch(connection)
