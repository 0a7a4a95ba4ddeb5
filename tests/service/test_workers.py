"""Workers register, beat, are asked to stop, and leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any, TypeVar

import psycopg
import pytest
from sqlalchemy import Connection, select, update

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.models import WorkerRow
from queuectl.service import config, headcount, rescues, workers
from queuectl.service.workers import Worker
from queuectl.settings import ServerLocation, StoreLocation
from tests.actors import Hire
from tests.jobs import add
from tests.waiting import wait_until

Result = TypeVar("Result")


def only(store: Store) -> Worker:
    [worker] = workers.list_workers(store)
    return worker


def lease_of(worker: Worker) -> int:
    """In seconds; a server's clock goes on between the two columns."""
    return round((worker.lease_expires_at - worker.heartbeat_at).total_seconds())


def modes(store: Store) -> dict[str, str | None]:
    return {worker.id: worker.stop_mode for worker in workers.list_workers(store)}


def test_a_registered_worker_is_listed_with_what_it_said(store: Store, hire: Hire) -> None:
    hire(queues=["a", "b"])

    worker = only(store)

    assert (worker.id, worker.host, worker.pid, worker.slots) == ("w1", "here", 4711, 10)
    assert (worker.queues, worker.state, worker.running) == (["a", "b"], "alive", [])
    assert (worker.stop_mode, worker.stop_requested_at) == (None, None)
    assert lease_of(worker) == 30


def test_a_worker_is_listed_with_the_jobs_it_runs(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="b")
    actor = hire()
    actor.settle(actor.claim(1)[0])
    actor.claim(1)

    [running] = only(store).running

    assert (running.id, running.run) == ("b", 1)
    assert running.claimed_at is not None


def test_a_worker_whose_lock_is_free_is_listed_as_dead(store: Store, hire: Hire) -> None:
    actor = hire("w1")
    hire("w2")

    actor.die()

    assert {worker.id: worker.state for worker in workers.list_workers(store)} == {
        "w1": "dead",
        "w2": "alive",
    }
    assert headcount.count_alive(store) == 1


def test_a_beat_renews_the_lease(store: Store, hire: Hire) -> None:
    hire()
    before = only(store)

    assert workers.beat(store, "w1", 90.0)

    after = only(store)
    assert after.heartbeat_at > before.heartbeat_at
    assert lease_of(after) == 90


def test_the_first_lease_is_the_stored_option(store: Store, hire: Hire) -> None:
    config.set_option(store, "lease", "2m")
    hire()

    worker = only(store)

    assert lease_of(worker) == 120


def test_a_worker_that_was_declared_dead_cannot_beat(store: Store, hire: Hire) -> None:
    hire()
    rescues.rescue(store, ["w1"])

    assert not workers.beat(store, "w1", 30.0)
    assert not workers.beat(store, "nobody", 30.0)


def test_a_worker_that_left_is_no_longer_listed(store: Store, hire: Hire) -> None:
    hire()

    workers.leave(store, "w1")

    assert workers.list_workers(store) == []
    assert not workers.beat(store, "w1", 30.0)


def test_rows_of_ended_workers_are_kept_for_a_day(store: Store, hire: Hire) -> None:
    hire("old")
    hire("recent")
    hire("silent")
    workers.leave(store, "old")
    workers.leave(store, "recent")
    long_ago = datetime.now(UTC) - timedelta(days=2)
    store.write(
        lambda connection: connection.execute(
            update(WorkerRow)
            .where(WorkerRow.id.in_(["old", "silent"]))
            .values(heartbeat_at=long_ago)
        )
    )

    hire("new")

    kept = store.read(lambda connection: set(connection.execute(select(WorkerRow.id)).scalars()))
    assert kept == {"recent", "silent", "new"}


# Stop requests


def test_a_stop_is_asked_of_every_worker(store: Store, hire: Hire) -> None:
    hire("w1")
    hire("w2")

    asked = workers.request_stop(store, queue=None, now=False)

    assert {worker.id for worker in asked} == {"w1", "w2"}
    assert modes(store) == {"w1": "drain", "w2": "drain"}
    assert all(worker.stop_requested_at for worker in workers.list_workers(store))


def test_a_stop_for_a_queue_is_asked_of_its_own_workers_only(store: Store, hire: Hire) -> None:
    hire("all")
    hire("a", queues=["a"])
    hire("both", queues=["a", "b"])
    hire("b", queues=["b"])

    asked = workers.request_stop(store, queue="a", now=False)

    assert {worker.id for worker in asked} == {"a", "both"}
    assert modes(store) == {"all": None, "a": "drain", "both": "drain", "b": None}


def test_a_stop_reaches_every_worker_of_the_same_supervisor(store: Store, hire: Hire) -> None:
    hire("w1", supervisor_id="s", queues=["a"])
    hire("w2", supervisor_id="s", queues=["a"])
    hire("w3", supervisor_id="t", queues=["b"])

    workers.request_stop(store, queue="a", now=True)

    assert modes(store) == {"w1": "now", "w2": "now", "w3": None}


def test_now_is_never_weakened_and_drain_can_be_strengthened(store: Store, hire: Hire) -> None:
    hire()
    workers.request_stop(store, queue=None, now=False)
    first = only(store).stop_requested_at

    workers.request_stop(store, queue=None, now=True)
    workers.request_stop(store, queue=None, now=False)

    assert only(store).stop_mode == "now"
    assert only(store).stop_requested_at == first


def test_a_replacement_inherits_the_stop_of_its_supervisor(store: Store, hire: Hire) -> None:
    hire("w1", supervisor_id="s")
    workers.request_stop(store, queue=None, now=True)
    rescues.rescue(store, ["w1"])

    hire("w2", supervisor_id="s")
    hire("w3", supervisor_id="t")

    assert modes(store) == {"w2": "now", "w3": None}


def test_a_replacement_inherits_a_stop_that_came_after_its_predecessor_was_declared_dead(
    store: Store, hire: Hire
) -> None:
    hire("w1", supervisor_id="s", queues=["a"])
    hire("w2", supervisor_id="t", queues=["b"])
    rescues.rescue(store, ["w1", "w2"])

    assert workers.request_stop(store, queue="a", now=False) == []
    hire("w3", supervisor_id="s")
    hire("w4", supervisor_id="t")

    assert modes(store) == {"w3": "drain", "w4": None}


class HeldStore(Store):
    """A store whose writes are made at once, and committed when they are let go."""

    def __init__(self, location: StoreLocation) -> None:
        super().__init__(location)
        self.made, self.let_go = Event(), Event()

    def write(self, work: Callable[[Connection], Result]) -> Result:
        def held(connection: Connection) -> Result:
            result = work(connection)
            self.made.set()
            self.let_go.wait()
            return result

        return super().write(held)


@pytest.mark.postgresql
def test_a_replacement_that_registers_while_a_stop_is_asked_is_asked_too(
    store: Store, hire: Hire
) -> None:
    actor = hire("w1", supervisor_id="s")
    beginner = HeldStore(store.location)
    said = workers.Registration("w2", "s", "here", presence.boot_id(), 1, 1, None)
    lock = presence.take(store.location, "w2", create=True)

    with ThreadPoolExecutor() as threads, closing(beginner), server(store) as watching:
        registered = threads.submit(workers.register, beginner, said)
        beginner.made.wait()
        asked = threads.submit(workers.request_stop, actor.store, queue=None, now=False)
        try:
            wait_until(lambda: asked.done() or is_somebody_waiting(watching))
        finally:
            beginner.let_go.set()
        registered.result()
        asked.result()

    assert lock is not None
    assert modes(store) == {"w1": "drain", "w2": "drain"}
    lock.release(remove=True)


@contextmanager
def server(store: Store) -> Iterator[psycopg.Connection[Any]]:
    assert isinstance(store.location, ServerLocation)
    with psycopg.connect(store.location.url, autocommit=True) as connection:
        yield connection


def is_somebody_waiting(connection: psycopg.Connection[Any]) -> bool:
    query = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return connection.execute(query).fetchone() is not None


def test_a_stop_of_nobody_asks_nobody(store: Store) -> None:
    assert workers.request_stop(store, queue=None, now=True) == []
