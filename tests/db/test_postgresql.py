"""PostgreSQL itself: what reaches libpq, what its errors become, and what a lost reply costs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from queuectl.db import schema
from queuectl.db.engine import Store, open_store
from queuectl.domain.job import Ending, State
from queuectl.domain.request import validate_request
from queuectl.errors import OutcomeUnknown, SchemaMismatch, StoreError, StoreUnavailable
from queuectl.service import config, counts, jobs
from queuectl.service.claims import Turn
from queuectl.settings import ServerLocation, locate_store
from tests import servers
from tests.actors import Actor, ended
from tests.jobs import add
from tests.waiting import wait_until

_WAITS_FOR_LOCK = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'jobs'"


def server(url: str) -> ServerLocation:
    location = locate_store(url, {})
    assert isinstance(location, ServerLocation)
    return location


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


def count_of(store: Store) -> int:
    return sum(counts.read_status(store).states.values())


def add_named(store: Store, name: str) -> jobs.Receipt:
    request = validate_request({"command": "true", "id": name, "queue": "new"})
    return jobs.enqueue(store, [request], cwd="/")


def end_session(store: Store, other: psycopg.Connection[Any]) -> None:
    """End the server's side of the store's connection, as a crash of its process does."""
    pid = store.read(lambda connection: connection.scalar(text("SELECT pg_backend_pid()")))
    other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


def test_a_store_without_tables_is_refused_with_what_to_do() -> None:
    with servers.new_database("queuectl_test_bare") as url:
        with pytest.raises(SchemaMismatch, match="no tables") as caught:
            open_store(server(url)).read(lambda connection: None)
        assert caught.value.hint == "run: queuectl db upgrade"


def test_migrations_go_up_and_down_and_leave_what_the_models_say() -> None:
    from alembic import command

    with servers.new_database("queuectl_test_steps") as url:
        location = server(url)

        assert schema.upgrade(location)
        assert schema.check(location) == []
        assert not schema.upgrade(location)
        with schema.migrating(location) as connection:
            config = schema.alembic_config(location)
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
        assert schema.stored_revision(location) is None
        assert schema.upgrade(location)
        assert schema.check(location) == []


def test_two_who_migrate_at_once_do_it_once() -> None:
    with servers.new_database("queuectl_test_twice") as url:
        failures: list[BaseException] = []

        def upgrade() -> None:
            try:
                schema.upgrade(server(url))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=upgrade) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failures == []
        assert schema.check(server(url)) == []


def test_of_several_hosts_the_one_that_answers_is_taken(location: ServerLocation) -> None:
    given = psycopg.conninfo.conninfo_to_dict(location.url)
    url = (
        f"postgresql:///{given['dbname']}?user={given['user']}&host=/nowhere,{given['host']}"
        "&target_session_attrs=read-write"
    )

    with closing(open_store(server(url))) as store:
        assert count_of(store) == 0


def test_the_variables_of_libpq_count(
    location: ServerLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = psycopg.conninfo.conninfo_to_dict(location.url)
    monkeypatch.setenv("PGHOST", str(given["host"]))
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGDATABASE", str(given["dbname"]))

    with closing(open_store(server("postgresql://"))) as store:
        assert count_of(store) == 0


def test_a_database_without_an_encoding_holds_every_text() -> None:
    """A server that was made without a locale has such databases: SQL_ASCII."""
    with servers.new_database("plain", "ENCODING SQL_ASCII TEMPLATE template0 LOCALE 'C'") as url:
        location = locate_store(f"{url}&client_encoding=LATIN1", {})
        schema.upgrade(location)
        with closing(open_store(location)) as store:
            add(store, "echo ☃", id="a")

            assert jobs.find(store, "a").command == "echo ☃"


@pytest.mark.parametrize(
    ("url", "reason", "kind"),
    [
        ("postgresql://me:s3cret@/none?host=/nowhere", "out of reach", StoreUnavailable),
        ("postgresql://me:s3cret@h/none?nonsense=1", "nonsense", StoreError),
        ("postgresql://me:s3cret@h:port/none", "port", StoreError),
    ],
)
def test_what_cannot_be_reached_is_told_without_the_password(
    url: str, reason: str, kind: type[StoreError]
) -> None:
    with pytest.raises(kind, match=reason) as caught:
        open_store(server(url)).read(lambda connection: None)

    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"


def test_a_database_that_is_not_there_says_how_to_make_it() -> None:
    with pytest.raises(StoreError, match="does not exist") as caught:
        open_store(server(servers.url_of("queuectl_test_none"))).read(lambda connection: None)

    assert "createdb" in str(caught.value.hint)


def test_a_standby_is_refused_with_that_reason() -> None:
    """P5: a standby can be read, but no worker could claim there."""
    with pytest.raises(StoreError, match="read-only standby") as caught:
        open_store(server(servers.standby_url())).read(lambda connection: None)

    assert "target_session_attrs" in str(caught.value.hint)


def test_a_host_that_takes_writes_is_chosen_before_a_standby(location: ServerLocation) -> None:
    standby = psycopg.conninfo.conninfo_to_dict(servers.standby_url())["host"]
    given = psycopg.conninfo.conninfo_to_dict(location.url)
    url = (
        f"postgresql:///{given['dbname']}?user={given['user']}&host={standby},{given['host']}"
        "&target_session_attrs=read-write"
    )

    with closing(open_store(server(url))) as store:
        assert count_of(store) == 0


def test_jobs_that_many_enqueue_at_once_are_there_once(location: ServerLocation) -> None:
    """They meet in a new queue, and in each other's ids."""
    receipts = []

    def enqueue() -> None:
        with closing(open_store(location)) as store:
            receipts.extend([add_named(store, f"job-{number}") for number in range(10)])

    threads = [threading.Thread(target=enqueue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(receipts) == 40
    with closing(open_store(location)) as store:
        assert count_of(store) == 10
    assert sum(not receipt.existing for receipt in receipts) == 10


def test_workers_that_claim_at_once_never_get_the_same_job(
    location: ServerLocation, store: Store
) -> None:
    """P3: and none of them waits for another's rows."""
    config.set_option(store, "backoff-max", 0)
    for _ in range(200):
        add(store)
    taken: list[int] = []

    def work(name: str) -> None:
        actor = Actor(location, name)
        while claims := actor.claim(7):
            taken.extend(claim.seq for claim in claims)
            actor.turn(*(ended(claim) for claim in claims))
        actor.die()

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == list(range(1, 201))
    assert counts.read_status(store).states[State.COMPLETED] == 200


def test_a_claim_after_a_wait_is_not_older_than_what_was_waited_for(
    store: Store, other: psycopg.Connection[Any], location: ServerLocation
) -> None:
    add(store, id="held", priority=1)
    slow, quick = Actor(location, "slow"), Actor(location, "quick")
    held = slow.claim_one()
    add(store, id="again")
    again = quick.claim_one()
    turns: list[Turn] = []

    with psycopg.connect(location.url) as lock:
        lock.execute("SELECT FROM jobs WHERE id = 'held' FOR UPDATE")
        waiting = threading.Thread(target=lambda: turns.append(slow.turn(ended(held), free=1)))
        waiting.start()
        wait_until(lambda: other.execute(_WAITS_FOR_LOCK).fetchone())
        quick.settle(again, Ending.STOPPED)
    waiting.join()

    assert [claim.id for claim in turns[0].claims] == ["again"]
    history = jobs.history(store, "again")
    assert history.job.claimed_at is not None
    assert history.job.claimed_at >= history.attempts[0].finished_at


def test_a_deadlock_is_tried_again(store: Store, other: psycopg.Connection[Any]) -> None:
    """P3: each holds one row and wants the other's; the server ends one, and both get through."""
    add(store, id="a")
    add(store, id="b")
    tries = []
    held, opposed = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("UPDATE jobs SET priority = 1 WHERE id = 'a'"))
        held.set()
        connection.execute(text("UPDATE jobs SET priority = 1 WHERE id = 'b'"))

    def cross() -> None:
        with other.transaction():
            other.execute("SET LOCAL deadlock_timeout = '1h'")  # the store is the victim
            other.execute("UPDATE jobs SET priority = 2 WHERE id = 'b'")
            opposed.set()
            held.wait(30)
            other.execute("UPDATE jobs SET priority = 2 WHERE id = 'a'")

    opponent = threading.Thread(target=cross)
    opponent.start()
    opposed.wait(30)
    store.write(work)
    opponent.join()

    assert len(tries) == 2
    assert {jobs.find(store, name).priority for name in ("a", "b")} == {1}


def test_a_serialization_failure_is_tried_again(store: Store) -> None:
    tries = []

    def work(connection: Connection) -> int:
        tries.append(1)
        if len(tries) < 3:
            connection.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))
        return len(tries)

    assert store.write(work) == 3


def test_trying_again_has_an_end(store: Store) -> None:
    store.patience_seconds = 0.3
    query = text("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")

    with pytest.raises(StoreUnavailable):
        store.write(lambda connection: connection.execute(query))


def test_a_connection_that_was_lost_is_made_anew(
    store: Store, other: psycopg.Connection[Any]
) -> None:
    add(store, id="a")

    end_session(store, other)

    assert add(store, id="b").state == "pending"


def test_a_statement_that_takes_too_long_is_ended(store: Store) -> None:
    store.patience_seconds = 0.2

    with pytest.raises(StoreUnavailable, match="timeout"):
        store.write(lambda connection: connection.execute(text("SELECT pg_sleep(60)")))


class Saboteur:
    """Cuts the connection when the commit is on its way: before it, or before its reply."""

    def __init__(self, store: Store, other: psycopg.Connection[Any], *, arrives: bool) -> None:
        self._store = store
        self._other = other
        self._arrives = arrives
        self.struck = False

    def cut(self) -> None:
        """Let the next commit's reply be lost."""
        driver = self._store._open().connection.driver_connection
        assert driver is not None
        commit = driver.commit

        def lose() -> None:
            self.struck = True
            if self._arrives:
                commit()
            driver.pgconn.finish()
            raise psycopg.OperationalError("the connection is lost")

        driver.commit = lose


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_jobs_whose_commit_was_not_confirmed_are_there_once(
    store: Store, other: psycopg.Connection[Any], arrives: bool, count: int
) -> None:
    saboteur = Saboteur(store, other, arrives=arrives)
    saboteur.cut()

    receipt = jobs.enqueue(
        store, [validate_request({"command": "true"}) for _ in range(count)], cwd="/"
    )

    assert saboteur.struck
    assert receipt.existing == []
    assert sorted(job.id for job in jobs.list_jobs(store)) == sorted(receipt.ids)
    assert len(receipt.ids) == count


def test_a_commit_that_was_not_confirmed_is_told_apart(
    store: Store, other: psycopg.Connection[Any]
) -> None:
    Saboteur(store, other, arrives=True).cut()

    with pytest.raises(OutcomeUnknown):
        store.write(lambda connection: connection.execute(text("SELECT 1")))
