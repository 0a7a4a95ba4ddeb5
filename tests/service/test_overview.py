"""What a live screen shows of a store, at one moment."""

from __future__ import annotations

from typing import Any

from queuectl.db.engine import Store
from queuectl.domain.job import Ending, State
from queuectl.service import overview
from tests.actors import Hire
from tests.jobs import add


def look(store: Store, **wishes: Any) -> overview.Overview:
    return store.read(
        lambda connection: overview.read_in(store, connection, **{"limit": 10, **wishes})
    )


def ids(jobs: list[Any]) -> list[str]:
    return [job.id for job in jobs]


def test_it_lists_what_runs_then_waits_and_what_ended_last_first(store: Store, hire: Hire) -> None:
    actor = hire()
    for name in ("one", "two", "three"):
        add(store, id=name)
    one, two, _ = actor.claim(3)
    actor.settle(two)
    actor.settle(one, Ending.FAILED)
    add(store, id="low", priority=-1)
    add(store, id="high", priority=5, queue="other")
    add(store, id="held", hold=True)
    add(store, id="tomorrow", delay="1d")

    seen = look(store)

    assert ids(seen.running) == ["three"]
    assert ids(seen.waiting) == ["high", "low", "one", "tomorrow", "held"]
    assert ids(seen.ended) == ["two"]
    assert seen.hosts == {job.seq: "here" for job in (*seen.running, *seen.ended)}
    assert [worker.id for worker in seen.workers] == ["w1"]
    assert seen.tally.states[State.COMPLETED] == 1
    other = next(queue for queue in seen.tally.queues if queue.name == "other")
    assert (other.states[State.PENDING], other.workers) == (1, ["w1"])


def test_lists_are_cut_and_one_that_was_seen_running_is_found_when_it_has_ended(
    store: Store, hire: Hire
) -> None:
    actor = hire()
    old = add(store, id="old")
    claim = actor.claim_one()
    for number in range(3):
        add(store, id=f"new{number}")
        actor.settle(actor.claim_one())
    actor.settle(claim)

    assert ids(look(store, limit=2).ended) == ["new2", "new1"]
    assert ids(look(store, limit=2, seen=[old.seq]).ended) == ["old", "new2"]


def test_only_some_queues_are_listed_and_a_tally_is_passed_on(store: Store, hire: Hire) -> None:
    actor = hire()
    for name in ("mail", "film"):
        add(store, id=name, queue=name)
        actor.settle(actor.claim_one())
    for name in ("mail", "film"):
        add(store, id=f"{name}-waits", queue=name)
    before = look(store).tally
    add(store, id="later", queue="film", delay="1h")

    seen = look(store, queues=["film"], tally=before)

    assert ids(seen.waiting) == ["film-waits", "later"]
    assert ids(seen.ended) == ["film"]
    assert seen.tally is before
