"""Fixtures of every room: a store in a folder of its own, and supervisors that end with the test.

A test that starts processes by itself gives them ``marked_environment``, so that none survives.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import settings

from queuectl.db.engine import Store, open_store
from queuectl.settings import StoreLocation
from tests import servers
from tests.actors import Actor, Hire
from tests.supervision import Supervisors

pytest_plugins = ["tests.unrun"]

# Whoever runs the tests in the background of a script ignores Ctrl-C, and what they start would
# inherit that. A handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No example is worth a failure because the machine was busy.
settings.register_profile("queuectl", deadline=None, max_examples=100)
settings.load_profile("queuectl")


@pytest.fixture(autouse=True)
def no_store_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep every test away from the store of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("QUEUECTL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def sqlite_location(tmp_path: Path) -> StoreLocation:
    """The place of an SQLite store that nobody has created yet."""
    return StoreLocation(tmp_path / "store" / "queue.db", "test")


@pytest.fixture
def location(request: pytest.FixtureRequest, sqlite_location: StoreLocation) -> StoreLocation:
    """The place of a store; PostgreSQL's is there already, as nothing makes one by itself.

    The tests of tests/service and tests/worker run on each kind of store; those of the others,
    and those marked ``sqlite``, on SQLite.
    """
    if getattr(request, "param", "sqlite") == "postgresql":
        return servers.empty_store()
    return sqlite_location


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what promises something of every store on each kind of store."""
    room = metafunc.definition.path.parent.name
    kinds = ["sqlite", "postgresql"]
    chosen = [kind for kind in kinds if metafunc.definition.get_closest_marker(kind)]
    if "location" in metafunc.fixturenames and room in ("service", "worker"):
        metafunc.parametrize("location", chosen or kinds, indirect=True)


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Store]:
    """An open store without jobs."""
    with closing(open_store(location)) as opened:
        yield opened


@pytest.fixture
def hire(store: Store) -> Iterator[Hire]:
    """Registers workers that live in the test."""
    with ExitStack() as hired:

        def hire_one(
            worker_id: str = "w1",
            *,
            queues: Iterable[str] | None = None,
            supervisor_id: str | None = None,
        ) -> Actor:
            actor = Actor(store.location, worker_id, queues=queues, supervisor_id=supervisor_id)
            hired.callback(actor.die)
            return actor

        yield hire_one


@pytest.fixture
def supervisors(location: StoreLocation, tmp_path: Path) -> Iterator[Supervisors]:
    """Starts supervisors as real processes; at the end all have left and no process survives."""
    started = Supervisors(location, tmp_path)
    try:
        yield started
    finally:
        started.end()
