"""What a job costs an SQLite store: the bytes that docs/performance.md says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from queuectl.db import sqlite
from queuectl.db.engine import Store
from queuectl.domain.request import validate_request
from queuectl.service import jobs
from tests.actors import Actor, ended

_PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
_JOBS = 4000


def packed_bytes(store: Store) -> int:
    driver = store.read(sqlite.driver_connection)
    driver.execute("VACUUM")
    pages, size = (
        driver.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    return int(pages * size)


def said(state: str) -> int:
    found = re.search(rf"^\| {state} \| (\d+) \|", _PAGE.read_text(), re.MULTILINE)
    assert found is not None, f"{_PAGE} has no size of a job that is {state}"
    return int(found[1])


@pytest.mark.sqlite
def test_a_job_takes_the_bytes_that_are_said(store: Store) -> None:
    def added(**fields: object) -> float:
        before = packed_bytes(store)
        request = validate_request({"command": "true", **fields})
        jobs.enqueue(store, [request] * _JOBS, cwd="/")
        return (packed_bytes(store) - before) / _JOBS

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    empty = packed_bytes(store)
    pending = added()
    worker = Actor(store.location)
    while claims := worker.claim(500):
        worker.turn(*(ended(claim) for claim in claims))
    worker.die()
    finished = (packed_bytes(store) - empty) / _JOBS
    scheduled = added(run_at=tomorrow.isoformat())

    found = {"pending": pending, "scheduled": scheduled, "finished, with its attempt": finished}
    assert found == pytest.approx({state: said(state) for state in found}, rel=0.1)
