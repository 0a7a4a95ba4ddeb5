"""A notification that never comes delays a job, and does not lose it: polling is the truth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from queuectl.db.engine import Store
from queuectl.settings import ServerLocation
from tests.jobs import add, state_of
from tests.supervision import Supervisors
from tests.waiting import wait_until

pytestmark = pytest.mark.postgresql

#: What makes a job ready, and tells nobody.
_RELEASE = "UPDATE jobs SET state = 'pending' WHERE id = 'a'"
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_POLL_OFTEN = "from queuectl.db import postgresql\npostgresql.POLL_SECONDS = 0.5\n"
#: Less than the poll of a worker that is left as it is, jitter included, in seconds.
_LIMIT_SECONDS = 20.0


@pytest.fixture
def server(store: Store) -> Iterator[psycopg.Connection[Any]]:
    assert isinstance(store.location, ServerLocation)
    with psycopg.connect(store.location.url, autocommit=True) as connection:
        yield connection


def test_a_job_whose_notification_is_lost_is_found_by_polling(
    store: Store, supervisors: Supervisors, server: psycopg.Connection[Any], tmp_path: Path
) -> None:
    add(store, id="a", hold=True)
    (tmp_path / "sitecustomize.py").write_text(_POLL_OFTEN)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    supervisors.start(environment={"PYTHONPATH": path})

    server.execute(_RELEASE)

    wait_until(lambda: state_of(store, "a") == "completed", limit=_LIMIT_SECONDS)


def test_a_job_whose_notification_is_lost_is_found_when_the_listener_is_ended(
    store: Store, supervisors: Supervisors, server: psycopg.Connection[Any]
) -> None:
    add(store, id="a", hold=True)
    supervisors.start()

    server.execute(_RELEASE)
    server.execute(_END_OTHERS)

    wait_until(lambda: state_of(store, "a") == "completed", limit=_LIMIT_SECONDS)
