"""How many workers run: asked after every enqueue, so it stands apart from what imports more."""

from __future__ import annotations

from sqlalchemy import select

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.models import WorkerRow

_ALIVE = select(WorkerRow.id, WorkerRow.boot_id, WorkerRow.lease_expires_at).where(
    WorkerRow.state == "alive"
)


def count_alive(store: Store) -> int:
    """Return how many workers run."""
    rows, now = store.read(
        lambda connection: (connection.execute(_ALIVE).all(), store.clock(connection))
    )
    neighbours = presence.Neighbours(store.location, now)
    return sum(neighbours.lives(row.id, row.boot_id, row.lease_expires_at) for row in rows)
