"""Whom locks cannot tell about, leases do: workers of other machines, by the database's clock."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from queuectl.db.engine import Store
from queuectl.errors import WorkerDeclaredDead
from queuectl.service import headcount, rescues, workers
from queuectl.worker.rescue import rescue_dead
from tests.actors import Actor, Hire
from tests.jobs import add, state_of

pytestmark = pytest.mark.postgresql


def test_a_worker_elsewhere_lives_as_long_as_its_lease(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    actor.claim_one()
    actor.move_elsewhere(lease_left_seconds=60)

    assert rescue_dead(store) == []
    assert [worker.state for worker in workers.list_workers(store)] == ["alive"]
    assert headcount.count_alive(store) == 1
    assert state_of(store, "a") == "processing"


def test_once_its_lease_is_over_its_jobs_are_taken_back(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    claim = actor.claim_one()
    actor.move_elsewhere(lease_left_seconds=-1)

    assert [worker.state for worker in workers.list_workers(store)] == ["dead"]
    assert headcount.count_alive(store) == 0
    assert rescue_dead(store) == ["a"]
    assert state_of(store, "a") == "pending"
    with pytest.raises(WorkerDeclaredDead):
        actor.settle(claim)
    assert not workers.beat(actor.store, actor.id, 30)


def test_a_worker_of_this_machine_outlives_its_lease_while_it_holds_its_lock(
    store: Store, hire: Hire
) -> None:
    add(store, id="a")
    hire().claim_one()
    store.write(
        lambda connection: connection.execute(
            text("UPDATE workers SET lease_expires_at = clock_timestamp() - interval '1 hour'")
        )
    )

    assert rescue_dead(store) == []
    assert state_of(store, "a") == "processing"


def test_a_worker_of_this_machine_is_dead_once_its_lock_is_free(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    actor.claim_one()
    actor.die()

    assert rescue_dead(store) == ["a"]


def lease_left(store: Store, actor: Actor) -> float:
    """Return what is left of a worker's lease, in seconds, by the server's clock."""
    query = text(
        "SELECT extract(epoch FROM lease_expires_at - clock_timestamp()) FROM workers"
        " WHERE id = :id"
    )
    return float(store.read(lambda connection: connection.scalar(query, {"id": actor.id})))


def test_who_was_seen_silent_and_has_renewed_its_lease_since_is_spared(
    store: Store, hire: Hire
) -> None:
    """Of a rescuer that looks, and is slow: the server's clock is not read again."""
    add(store, id="a")
    actor = hire()
    actor.claim_one()
    actor.move_elsewhere(lease_left_seconds=-1)
    seen = rescues.suspects(store)

    assert workers.beat(actor.store, actor.id, 30)

    assert rescue_dead(store, seen) == []
    assert state_of(store, "a") == "processing"


def test_silence_that_is_not_believed_makes_nobody_dead(store: Store, hire: Hire) -> None:
    """Nor does a neighbour's death, which is rescued at the same time."""
    add(store, id="a")
    add(store, id="b")
    far, near = hire("far"), hire("near")
    far.claim_one()
    near.claim_one()
    far.move_elsewhere(lease_left_seconds=-1)
    near.die()

    assert rescue_dead(store, rescues.suspects(store).spared()) == ["b"]
    assert state_of(store, "a") == "processing"


def test_a_claim_cuts_a_longer_lease_and_a_vain_turn_leaves_it(store: Store, hire: Hire) -> None:
    """Who holds a claim must be known to be dead within the lease of a busy worker."""
    actor = hire()
    assert workers.beat(store, actor.id, 90)
    actor.claimant.cut_lease_seconds = 30

    assert actor.claim() == []
    assert 60 < lease_left(store, actor) <= 90

    add(store, id="a")
    actor.claim_one()
    assert lease_left(store, actor) <= 30
