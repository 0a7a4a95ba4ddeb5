"""The ear of a PostgreSQL store: it hears what others commit, and what it cannot hear it says."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from queuectl.db.engine import Store, open_store
from queuectl.settings import ServerLocation
from tests import servers
from tests.jobs import add
from tests.proxies import Proxy
from tests.waiting import LIMIT_SECONDS


@pytest.fixture
def location() -> ServerLocation:
    return servers.empty_store()


@pytest.fixture
def store(location: ServerLocation) -> Iterator[Store]:
    with closing(open_store(location)) as opened:
        opened.read(lambda connection: None)
        yield opened


@pytest.fixture
def other(location: ServerLocation) -> Iterator[Store]:
    with closing(open_store(location)) as opened:
        yield opened


def is_readable(descriptor: int | None) -> bool:
    assert descriptor is not None
    return bool(select.select([descriptor], [], [], LIMIT_SECONDS)[0])


def test_what_others_commit_is_heard_and_seen_on_the_descriptor(store: Store, other: Store) -> None:
    with store.doorbell() as bell:
        bell.heard()

        add(other)

        assert is_readable(bell.fileno)
        assert bell.heard()
        assert not bell.heard()


def test_what_came_while_a_statement_ran_is_heard(store: Store, other: Store) -> None:
    with store.doorbell() as bell:
        bell.heard()

        add(other)
        store.read(lambda connection: connection.execute(text("SELECT 1")))

        assert bell.wait(LIMIT_SECONDS)


def test_what_changes_nothing_or_is_hushed_or_ones_own_is_not_heard(
    store: Store, other: Store
) -> None:
    with store.doorbell() as bell:
        bell.heard()

        def quietly(connection: object) -> None:
            other.hush(connection)  # type: ignore[arg-type]  # it is one
            connection.execute(text("INSERT INTO queues (name) VALUES ('q')"))  # type: ignore[attr-defined]

        other.write(quietly)
        other.write(lambda connection: connection.execute(text("SELECT 1")))
        add(store)

        assert not bell.wait(0.2)


def test_a_lost_connection_rings_and_is_listened_on_again(store: Store, other: Store) -> None:
    with store.doorbell() as bell:
        bell.heard()
        descriptor = bell.fileno
        pid = store.read(lambda connection: connection.scalar(text("SELECT pg_backend_pid()")))

        other.read(lambda c: c.execute(text(f"SELECT pg_terminate_backend({pid}, 10000)")))

        assert bell.wait(LIMIT_SECONDS)
        store.read(lambda connection: None)
        bell.heard()
        add(other)
        assert bell.wait(LIMIT_SECONDS)
        assert bell.fileno == descriptor


def test_a_connection_that_was_lost_before_it_was_listened_on_is_made_anew(
    store: Store, other: Store
) -> None:
    pid = store.read(lambda connection: connection.scalar(text("SELECT pg_backend_pid()")))
    other.read(lambda c: c.execute(text(f"SELECT pg_terminate_backend({pid}, 10000)")))

    with store.doorbell() as bell:
        store.read(lambda connection: None)

        assert bell.heard()
        add(other)
        assert bell.wait(LIMIT_SECONDS)


def test_behind_a_pooler_it_says_that_it_hears_nothing(
    location: ServerLocation, tmp_path: Path
) -> None:
    with (
        Proxy(location, tmp_path, renumbers=True) as pooler,
        closing(open_store(pooler.location)) as store,
        store.doorbell() as bell,
    ):
        store.read(lambda connection: None)

        assert bell.deafness is not None
        assert not bell.wait(0.05)


def test_nobody_listens_who_need_not(store: Store, location: ServerLocation) -> None:
    with psycopg.connect(location.url) as own:
        assert own.execute("SELECT count(*) FROM pg_listening_channels()").fetchone() == (0,)
