"""A store with rows of every kind, made by the services."""

from __future__ import annotations

from queuectl.db.engine import Store
from queuectl.domain.job import LIVE, Ending
from queuectl.domain.rate import Rate
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import CatchUp, Overlap
from queuectl.domain.selection import Selection
from queuectl.service import cancelling, chunks, config, orders, queues, schedules
from queuectl.service.chunks import Chunk, Shipment
from queuectl.service.selection import choose
from tests.actors import Actor
from tests.jobs import add


def populate(store: Store) -> None:
    """Fill every table, and ``jobs`` with rows in every state, ready, due and not yet due."""
    config.set_option(store, "max-retries", 1)
    queues.set_rate(store, "default", Rate(1000, 86_400))
    actor = Actor(store.location)
    add(store, id="completed")
    actor.settle(actor.claim_one())
    add(store, id="dead", max_retries=0)
    actor.settle(actor.claim_one(), Ending.FAILED)
    add(store, id="failed", backoff="linear", jitter=0.5, stall="1m")
    actor.settle(actor.claim_one(), Ending.STALLED)
    add(store, id="processing")
    claim = actor.claim_one()
    chunks.ship(store, [Shipment(claim, 0, [Chunk(0, b"out"), Chunk(9, b"\0put")], 3, 9)])
    add(store, id="scheduled", delay="1h")
    add(store, id="pending", deadline="1h", stdin="in", queue="other", env={"A": "b"}, cwd="/")
    add(store, id="cancelled", name="no use", tags=["t", "u"], unique="once")
    selection = Selection(("cancelled",))
    cancelling.cancel(store, choose(store, selection, among=LIVE, verb="cancelled"), reason="late")
    add(store, id="held", hold=True, tags=["t"], expect="^done", retry_on=[75, 124])
    add(store, id="blocked", after=["failed"], after_any=["dead"])
    orders.freeze(store, choose(store, Selection(("processing",)), among=LIVE, verb="frozen"))
    nightly = JobRequest(command="true", cwd="/", env={"A": "b"}, tags=["t"], timeout=0.1)
    definition = schedules.Definition(
        "30 2 * * *", None, "Europe/Berlin", CatchUp.ALL, Overlap.SKIP, nightly
    )
    schedules.add(store, "nightly", definition)
    actor.die()
