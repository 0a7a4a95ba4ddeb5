"""The counts behind ``status``."""

from __future__ import annotations

from queuectl.db.engine import Store
from queuectl.domain.job import State
from queuectl.service import counts, workers
from queuectl.service.counts import QueueCount
from tests.actors import Hire
from tests.db.population import populate
from tests.jobs import add


def test_an_empty_store_counts_nothing(store: Store) -> None:
    status = counts.read_status(store)

    assert status.states == dict.fromkeys(State, 0)
    assert (status.queues, status.workers_alive, status.stop_requested) == ([], 0, False)
    assert (status.oldest_due, status.next_due_at) == (None, None)


def test_every_state_is_counted_by_itself(store: Store) -> None:
    populate(store)
    for _ in range(2):
        add(store, delay="1h")

    status = counts.read_status(store)

    assert status.states == {**dict.fromkeys(State, 1), State.SCHEDULED: 3}
    assert sum(status.states.values()) == 11


def test_every_queue_tells_what_waits_and_runs_there(store: Store) -> None:
    populate(store)

    status = counts.read_status(store)

    assert status.queues == [
        QueueCount("default", pending=0, processing=1, waiting=4, paused=False),
        QueueCount("other", pending=1, processing=0, waiting=0, paused=False),
    ]


def test_the_job_that_has_waited_longest_is_told(store: Store) -> None:
    add(store, id="a")
    add(store, id="older", run_at="2001-01-01T00:00:00Z", priority=-5)
    later = add(store, id="later", delay="1h")

    status = counts.read_status(store)

    assert status.oldest_due is not None
    assert status.oldest_due.id == "older"
    assert status.next_due_at == later.run_at


def test_a_job_for_later_is_not_due(store: Store) -> None:
    add(store, delay="1h")

    assert counts.read_status(store).oldest_due is None


def test_workers_are_counted_while_they_live(store: Store, hire: Hire) -> None:
    hire("w1")
    dead = hire("w2")
    workers.request_stop(store, queue=None, now=False)
    dead.die()

    status = counts.read_status(store)

    assert (status.workers_alive, status.stop_requested) == (1, True)
