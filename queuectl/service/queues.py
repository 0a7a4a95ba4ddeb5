"""Queues: a row appears with a queue's first job."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Connection, select, text

from queuectl.db.models import QueueRow
from queuectl.db.prepared import Prepared

_OPEN_QUEUES = Prepared(
    select(QueueRow.name).where(QueueRow.paused_at.is_(None)).order_by(QueueRow.name)
)
_ALL_QUEUES = Prepared(select(QueueRow.name))
#: Two who enqueue may meet in a new queue.
_INSERT = text(
    f"INSERT INTO {QueueRow.__tablename__} (name) VALUES (:name)"  # noqa: S608  # a constant
    " ON CONFLICT DO NOTHING"
)


def ask_known(connection: Connection) -> Callable[[], set[str]]:
    """Return what gives the names of all queues; part of the enqueueing transaction."""
    found = _ALL_QUEUES.ask(connection)
    return lambda: {name for (name,) in found()}


def add(connection: Connection, names: Iterable[str]) -> None:
    """Add queues that are new; part of the enqueueing transaction."""
    if rows := [{"name": name} for name in sorted(names)]:
        connection.execute(_INSERT, rows)


def ask_open(connection: Connection) -> Callable[[], list[str]]:
    """Return what gives the names of the queues that are not paused."""
    found = _OPEN_QUEUES.ask(connection)
    return lambda: [name for (name,) in found()]
