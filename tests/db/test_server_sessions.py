"""The sessions of a PostgreSQL store: how long they wait, for whom, and what they tell others."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from queuectl.db.engine import Store, open_store
from queuectl.domain.request import validate_request
from queuectl.errors import StoreUnavailable
from queuectl.service import jobs, queues
from queuectl.settings import ServerLocation, locate_store
from tests import servers
from tests.jobs import add
from tests.proxies import Proxy
from tests.waiting import LIMIT_SECONDS, wait_until

_LIMITS = text(
    "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
    " current_setting('idle_in_transaction_session_timeout')"
)
_TOUCH = text("UPDATE jobs SET priority = 1 WHERE id = 'a'")


@pytest.fixture
def location() -> ServerLocation:
    return servers.empty_store()


@pytest.fixture
def store(location: ServerLocation) -> Iterator[Store]:
    with closing(open_store(location)) as opened:
        yield opened


@pytest.fixture
def other(location: ServerLocation) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's connection to the same database."""
    with psycopg.connect(location.url, autocommit=True) as connection:
        yield connection


def test_each_transaction_sets_its_limits_and_leaves_the_session_as_it_was(store: Store) -> None:
    store.patience_seconds, store.reading_seconds = 3.0, 60.0

    writing = store.write(lambda connection: tuple(connection.execute(_LIMITS).one()))
    reading = store.read(lambda connection: tuple(connection.execute(_LIMITS).one()))
    driver: Any = store._open().connection.driver_connection
    [outside] = driver.execute(str(_LIMITS)).fetchall()

    assert writing == ("3s", "1s", "3s")
    assert reading == ("1min", "20s", "1min")
    assert outside == ("0", "0", "0")


def test_a_lock_of_another_session_is_waited_for_and_then_told(
    store: Store, other: psycopg.Connection[Any]
) -> None:
    add(store, id="a")
    store.patience_seconds = 0.6
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(_TOUCH)

    with other.transaction():
        other.execute(str(_TOUCH))
        with pytest.raises(StoreUnavailable, match="lock timeout") as caught:
            store.write(work)

    assert len(tries) > 1
    assert "another session holds a lock" in str(caught.value.hint)
    assert (caught.value.exit_code, jobs.find(store, "a").priority) == (5, 1)


def test_what_waited_for_a_lock_in_vain_is_done_again_as_a_whole(
    store: Store, other: psycopg.Connection[Any]
) -> None:
    add(store, id="a")
    store.patience_seconds = 1.5
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        queues.add(connection, [f"try-{len(tries)}"])
        if len(tries) == 2:
            other.execute("ROLLBACK")
        connection.execute(_TOUCH)

    other.execute("BEGIN")
    other.execute("UPDATE jobs SET priority = 2 WHERE id = 'a'")
    store.write(work)

    made = other.execute("SELECT name FROM queues WHERE name LIKE 'try%'").fetchall()
    assert made == [("try-2",)]
    assert jobs.find(store, "a").priority == 1


def test_a_session_that_falls_silent_in_a_transaction_is_ended_and_holds_up_nobody(
    store: Store, other: psycopg.Connection[Any]
) -> None:
    add(store, id="a")
    store.patience_seconds = 0.3
    session = "SELECT pid FROM pg_stat_activity WHERE pid = %s"

    def work(connection: Connection) -> None:
        connection.execute(_TOUCH)
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        wait_until(lambda: other.execute(session, [pid]).fetchone() is None)
        connection.execute(_TOUCH)

    with pytest.raises(StoreUnavailable, match="idle-in-transaction timeout"):
        store.write(work)

    assert jobs.find(store, "a").priority == 0


@pytest.mark.parametrize(("given", "idle"), [("", 5), ("&keepalives_idle=60", 60)])
def test_a_connection_over_a_network_notices_that_the_other_side_is_gone(
    location: ServerLocation, tmp_path: Path, given: str, idle: int
) -> None:
    """What the URL says itself counts."""
    with (
        Proxy(location, tmp_path, tcp=True) as network,
        closing(open_store(locate_store(network.location.url + given, {}))) as store,
    ):
        driver: Any = store._open().connection.driver_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            kept = line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            found = [line.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]

    assert (kept, found) == (1, [idle, 2, 3, 10_000])


def test_a_transaction_notifies_once_whatever_it_holds(
    store: Store, other: psycopg.Connection[Any]
) -> None:
    request = validate_request({"command": "true"})
    other.execute("LISTEN queuectl")

    jobs.enqueue(store, [request] * 100, cwd="/")
    jobs.enqueue(store, [request], cwd="/")
    other.execute("NOTIFY queuectl, 'last'")

    heard = [note.payload for note in other.notifies(timeout=LIMIT_SECONDS, stop_after=3)]
    assert heard == ["", "", "last"]
