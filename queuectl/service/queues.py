"""Queues: a row appears with a queue's first job."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select, text

from queuectl.db.models import QueueRow
from queuectl.db.prepared import Prepared

_OPEN_QUEUES = Prepared(
    select(QueueRow.name).where(QueueRow.paused_at.is_(None)).order_by(QueueRow.name)
)
_ALL_QUEUES = select(QueueRow.name)
#: Two who enqueue may meet in a new queue.
_INSERT = text(
    f"INSERT INTO {QueueRow.__tablename__} (name) VALUES (:name)"  # noqa: S608  # a constant
    " ON CONFLICT DO NOTHING"
)


def ensure(connection: Connection, names: Iterable[str]) -> None:
    """Add the queues that are new; part of the enqueueing transaction."""
    wanted = set(names)
    if new := wanted.difference(connection.execute(_ALL_QUEUES).scalars()):
        connection.execute(_INSERT, [{"name": name} for name in sorted(new)])


def open_queues(connection: Connection) -> list[str]:
    """Return the names of the queues that are not paused."""
    return [name for (name,) in _OPEN_QUEUES.fetch(connection)]
