"""How many workers run: asked after every enqueue, so it stands apart from what imports more."""

from __future__ import annotations

from sqlalchemy import select

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.models import WorkerRow

_ALIVE = select(WorkerRow.id).where(WorkerRow.state == "alive")


def count_alive(store: Store) -> int:
    """Return how many workers run."""
    ids = store.read(lambda connection: list(connection.execute(_ALIVE).scalars()))
    return sum(presence.is_held(store.location, worker_id) for worker_id in ids)
