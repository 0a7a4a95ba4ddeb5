"""A store with rows of every kind, made by the services."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import insert

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.job import Ending, State
from queuectl.service import chunks, config
from queuectl.service.chunks import Chunk, Shipment
from tests.actors import Actor
from tests.jobs import add


def populate(store: Store) -> None:
    """Fill every table, and ``jobs`` with rows in every state, ready, due and not yet due."""
    config.set_option(store, "max-retries", 1)
    actor = Actor(store.location)
    add(store, id="completed")
    actor.settle(actor.claim_one())
    add(store, id="dead", max_retries=0)
    actor.settle(actor.claim_one(), Ending.FAILED)
    add(store, id="failed")
    actor.settle(actor.claim_one(), Ending.FAILED)
    add(store, id="processing")
    claim = actor.claim_one()
    chunks.ship(store, [Shipment(claim, 0, [Chunk(0, b"out"), Chunk(9, b"\0put")], 3, 9)])
    add(store, id="scheduled", delay="1h")
    add(store, id="pending", queue="other", env={"A": "b"}, cwd="/")
    _cancel(store)
    actor.die()


def _cancel(store: Store) -> None:
    # No service cancels yet; the state is in the schema already.
    now = datetime.now(UTC)
    row = {
        "id": "cancelled",
        "queue": "default",
        "command": "true",
        "state": State.CANCELLED,
        "priority": 0,
        "run_at": now,
        "runs": 0,
        "attempts": 0,
        "max_retries": 0,
        "crashes": 0,
        "created_at": now,
        "updated_at": now,
        "version": 1,
    }
    store.write(lambda connection: connection.execute(insert(JobRow).values(**row)))
