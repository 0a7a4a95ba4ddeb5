"""Shorthands for tests that need jobs in a store."""

from __future__ import annotations

from queuectl.db.engine import Store
from queuectl.domain.job import Job
from queuectl.domain.request import validate_request
from queuectl.service import jobs


def add(store: Store, command: str = "true", **fields: object) -> Job:
    """Enqueue one job of these fields, as JSON has them, and return it as it stands."""
    request = validate_request({"command": command, **fields})
    receipt = jobs.enqueue(store, [request], cwd=str(store.location.folder))
    return jobs.find(store, receipt.ids[0])


def state_of(store: Store, reference: str) -> str:
    """Return the state of a job."""
    return jobs.find(store, reference).state
