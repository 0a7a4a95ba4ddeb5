"""Rates: how many jobs of a queue may start in a time, over all workers and machines.

A claim is a start. What started within the window stands on the queue's own row, as
``domain/rate.py`` writes it, and is changed in the transaction that claims; with it goes the
instant at which the queue opens again, if it is closed. Nobody else can claim from the queue
between: on SQLite a turn has the store to itself, on a server it holds the row's lock
(``service/limits.py``), and the time is the database's. So a rate is exact whoever claims.

A closed queue costs a turn nothing, and is not locked. A look tells when the first of those in
which something waits will open; workers sleep until then.

A claim that is given back before its job has started gives its start back. A worker that was
started for one job (``queuectl run``) does not wait for a rate, as for no pause and no limit; its
start is counted. A turn in which no served queue has a rate asks nothing of this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal_column, or_, select, update

from queuectl.db.engine import Store
from queuectl.db.instants import server_clock
from queuectl.db.models import QueueRow
from queuectl.db.prepared import Prepared, to_instant
from queuectl.domain.rate import Moment, Rate, Window, decode_starts, is_closed
from queuectl.service.rows import rate_of

#: Part of the lock of a turn on a server; ``domain.rate.is_closed`` says why there is a third way.
IS_OPEN = or_(
    QueueRow.opens_at.is_(None),
    QueueRow.opens_at <= func.clock_timestamp(),
    QueueRow.opens_at
    > func.clock_timestamp() + QueueRow.rate_seconds * literal_column("interval '1.02 seconds'"),
)
#: The time of a turn on a server, once it has the locks.
CLOCK = Prepared(select(server_clock()))
#: What SQLite, which locks nothing, is asked instead.
STARTS = Prepared(
    select(
        QueueRow.name,
        QueueRow.max_running,
        QueueRow.rate_count,
        QueueRow.rate_seconds,
        QueueRow.rate_starts,
        QueueRow.opens_at,
    ).where(QueueRow.rate_count.is_not(None))
)
_NOTE = Prepared(
    update(QueueRow)
    .where(QueueRow.name == bindparam("noted_queue", type_=QueueRow.name.type))
    .values(
        rate_starts=bindparam("starts", type_=QueueRow.rate_starts.type),
        opens_at=bindparam("opening", type_=QueueRow.opens_at.type),
    )
)


class Ledger:
    """The windows of queues that nobody else can claim from until the transaction is over.

    ``outdated`` ones are written though nothing starts there.
    """

    def __init__(
        self,
        windows: Mapping[str, Window] = MappingProxyType({}),
        outdated: Iterable[str] = (),
    ) -> None:
        self._windows = windows
        self._outdated = frozenset(outdated)

    def spend(self, connection: Connection, queues: Iterable[str]) -> None:
        """Note a start for each of these queues that has a rate."""
        counts = self._count(queues)
        for name, count in counts.items():
            self._windows[name].note(count)
        self._write(connection, counts.keys() | self._outdated)

    def give_back(self, connection: Connection, queues: Iterable[str]) -> None:
        """Take a start back for each of these queues that has a rate: it never was."""
        counts = self._count(queues)
        for name, count in counts.items():
            self._windows[name].give_back(count)
        self._write(connection, counts)

    def _count(self, queues: Iterable[str]) -> Counter[str]:
        return Counter(name for name in queues if name in self._windows)

    def _write(self, connection: Connection, names: Iterable[str]) -> None:
        rows = [_row(name, self._windows[name]) for name in names]
        if rows:
            _NOTE.tell(connection, rows)


def _row(name: str, window: Window) -> dict[str, Any]:
    return {"noted_queue": name, "starts": window.encode(), "opening": window.opens_at}


def read_window(rate: Rate, starts: str | None, now: datetime) -> Window:
    """Return the window of a queue; what somebody has written there by hand counts for nothing."""
    found: list[Moment] = []
    with suppress(ValueError):
        found = decode_starts(starts)
    return Window(rate, found, now)


def lock(store: Store, connection: Connection, queues: Iterable[str]) -> Ledger:
    """Return the windows of those of these queues that have a rate, open or not, locked."""
    query = select(
        QueueRow.name, QueueRow.rate_count, QueueRow.rate_seconds, QueueRow.rate_starts
    ).where(QueueRow.name.in_(set(queues)), QueueRow.rate_count.is_not(None))
    rows = connection.execute(query.order_by(QueueRow.name).with_for_update()).all()
    if not rows:
        return Ledger()
    now = store.clock(connection)
    windows = {}
    for row in rows:
        rate = rate_of(row.rate_count, row.rate_seconds)
        if rate is not None:
            windows[row.name] = read_window(rate, row.rate_starts, now)
    return Ledger(windows)


def change(store: Store, connection: Connection, name: str, rate: Rate | None) -> None:
    """Give a locked queue another rate, or none; what has started in its window still counts."""
    starts = select(QueueRow.rate_starts).where(QueueRow.name == name)
    values: dict[str, Any] = dict.fromkeys(("rate_count", "rate_seconds", "rate_starts"))
    values["opens_at"] = None
    if rate is not None:
        noted = connection.execute(starts).scalar()
        window = read_window(rate, noted, store.clock(connection))
        values = {
            "rate_count": rate.count,
            "rate_seconds": rate.seconds,
            "rate_starts": window.encode(),
            "opens_at": window.opens_at,
        }
    connection.execute(update(QueueRow).where(QueueRow.name == name).values(**values))


def sort_out(rows: Iterable[Any]) -> tuple[list[str], dict[str, datetime]]:
    """Return which of these queues are open, and when the others will be, by this machine's clock.

    A row has a queue's name, when it opens, the seconds of its window, and the server's time.
    """
    names: list[str] = []
    closed: dict[str, datetime] = {}
    here = datetime.now(UTC)
    for name, opening, seconds, clock in rows:
        opens_at = to_instant(opening)
        now = to_instant(clock) or here
        if opens_at is not None and is_closed(opens_at, seconds, now):
            closed[name] = here + (opens_at - now)
        else:
            names.append(name)
    return names, closed
