"""Workers behind a real PgBouncer in transaction mode: they look by themselves, and say so once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from queuectl.db.engine import Store, open_store
from queuectl.settings import ServerLocation
from tests.jobs import add, attempts_of, state_of
from tests.poolers import pooler
from tests.supervision import Supervisors
from tests.waiting import wait_until

pytestmark = pytest.mark.postgresql

_JOBS = [f"job-{number}" for number in range(10)]
_PREPARED = text("SELECT count(*) FROM pg_prepared_statements")


@pytest.fixture
def pooled(store: Store) -> Iterator[ServerLocation]:
    """The store, through one connection to the server that its clients take in turns."""
    assert isinstance(store.location, ServerLocation)
    with pooler(store.location, size=1) as between:
        yield between.location


def test_workers_behind_a_pooler_say_once_that_they_look_by_themselves(
    store: Store, pooled: ServerLocation, tmp_path: Path
) -> None:
    behind = Supervisors(pooled, tmp_path)
    try:
        supervisor = behind.start()
        [told] = supervisor.wait_for("deaf")
        for name in _JOBS:
            add(store, id=name)
            wait_until(lambda name=name: state_of(store, name) == "completed")  # type: ignore[misc]
    finally:
        behind.end()

    assert "a pooler stands between" in told["message"]
    assert supervisor.events("deaf") == [told]
    assert {len(attempts_of(store, name)) for name in _JOBS} == {1}


def test_behind_a_pooler_nothing_is_prepared_that_another_client_could_take_for_its_own(
    store: Store, pooled: ServerLocation
) -> None:
    """Each client names its statements alike, and here all have one session of the server."""
    for name in _JOBS:
        add(store, id=name)
    direct = store.read(lambda connection: connection.scalar(_PREPARED))

    with closing(open_store(pooled)) as first, closing(open_store(pooled)) as second:
        for number, opened in enumerate([first, second] * 10):
            add(opened, id=f"pooled-{number}")
        behind = first.read(lambda connection: connection.scalar(_PREPARED))

    assert direct
    assert behind == 0
