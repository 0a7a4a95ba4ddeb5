"""Whom locks cannot tell about, leases do: workers of other machines, by the database's clock."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from queuectl.db.engine import Store
from queuectl.errors import WorkerDeclaredDead
from queuectl.service import headcount, workers
from queuectl.worker.rescue import rescue_dead
from tests.actors import Actor, Hire
from tests.jobs import add, state_of

pytestmark = pytest.mark.postgresql


def move(store: Store, actor: Actor, *, lease_left_seconds: float) -> None:
    """Let a worker be another machine's, whose lock nobody here can try."""
    store.write(
        lambda connection: connection.execute(
            text(
                "UPDATE workers SET host = 'elsewhere', boot_id = 'another boot',"
                " lease_expires_at = clock_timestamp() + make_interval(secs => :left)"
                " WHERE id = :id"
            ),
            {"id": actor.id, "left": lease_left_seconds},
        )
    )
    assert actor.lock is not None
    actor.lock.release(remove=True)
    actor.lock = None


def test_a_worker_elsewhere_lives_as_long_as_its_lease(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    actor.claim_one()
    move(store, actor, lease_left_seconds=60)

    assert rescue_dead(store) == []
    assert [worker.state for worker in workers.list_workers(store)] == ["alive"]
    assert headcount.count_alive(store) == 1
    assert state_of(store, "a") == "processing"


def test_once_its_lease_is_over_its_jobs_are_taken_back(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    claim = actor.claim_one()
    move(store, actor, lease_left_seconds=-1)

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
