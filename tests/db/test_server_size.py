"""What a job costs a PostgreSQL server: the bytes that docs/fleet.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from queuectl.db.engine import Store, open_store
from queuectl.domain.request import validate_request
from queuectl.service import jobs
from queuectl.settings import ServerLocation
from tests import servers
from tests.actors import Actor, ended

_PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"
_JOBS = 10_000
_PACKED = "VACUUM FULL jobs, attempts"
_SIZE = "SELECT pg_total_relation_size('jobs') + pg_total_relation_size('attempts')"


@pytest.fixture
def location() -> ServerLocation:
    return servers.empty_store()


@pytest.fixture
def store(location: ServerLocation) -> Iterator[Store]:
    with closing(open_store(location)) as opened:
        yield opened


def bytes_a_job(location: ServerLocation) -> float:
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute(_PACKED)
        [size] = connection.execute(_SIZE).fetchone() or (0,)
    return float(size / _JOBS)


def said(state: str) -> int:
    found = re.search(rf"^\| {state} \| (\d+) \|", _PAGE.read_text(), re.MULTILINE)
    assert found is not None, f"{_PAGE} has no size of a job that is {state}"
    return int(found[1])


def test_a_job_takes_the_bytes_that_are_said(location: ServerLocation, store: Store) -> None:
    request = validate_request({"command": "./encode.sh film.mkv"})
    jobs.enqueue(store, [request] * _JOBS, cwd="/srv/films")
    pending = bytes_a_job(location)

    worker = Actor(location)
    while claims := worker.claim(500):
        worker.turn(*(ended(claim) for claim in claims))
    worker.die()
    finished = bytes_a_job(location)

    assert pending == pytest.approx(said("pending"), rel=0.1)
    assert finished == pytest.approx(said("finished, with its attempt"), rel=0.1)
