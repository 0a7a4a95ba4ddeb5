"""Shorthands for tests that need jobs in a store."""

from __future__ import annotations

from pathlib import Path

from queuectl.db.engine import Store
from queuectl.domain.job import Attempt, Job
from queuectl.domain.request import validate_request
from queuectl.service import jobs, logs


def add(store: Store, command: str = "true", **fields: object) -> Job:
    """Enqueue one job of these fields, as JSON has them, and return it as it stands."""
    request = validate_request({"command": command, **fields})
    receipt = jobs.enqueue(store, [request], cwd=str(store.location.folder))
    return jobs.find(store, receipt.ids[0])


def state_of(store: Store, reference: str) -> str:
    """Return the state of a job."""
    return jobs.find(store, reference).state


def attempts_of(store: Store, reference: str) -> list[Attempt]:
    """Return the ended attempts of a job, oldest first."""
    return jobs.history(store, reference).attempts


def output_of(store: Store, reference: str, run: int = 1) -> str:
    """Return what an attempt of a job printed."""
    job = jobs.find(store, reference)
    return b"".join(logs.read_all(store.location, job.seq, run)).decode()


def until(path: Path) -> str:
    """Return a command that ends when that file is there."""
    return f"until [ -e '{path}' ]; do sleep 0.02; done"
