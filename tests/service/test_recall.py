"""What stands of a worker's last turn, when the reply to its commit was lost."""

from __future__ import annotations

from queuectl.db.engine import Store
from queuectl.domain.job import Ending
from queuectl.service import rescues
from queuectl.service.recall import recall
from tests.actors import Hire, ended
from tests.jobs import add


def test_every_claim_that_a_worker_holds_is_found_again_as_it_was_made(
    store: Store, hire: Hire
) -> None:
    add(store, "echo hi", id="a", env={"A": "b"}, cwd="/", timeout=9, backoff_base=3)
    add(store, id="b")
    add(store, id="theirs")
    claims = hire("w1").claim(2)
    hire("w2").claim(1)

    found = recall(store, "w1", [])

    assert sorted(found.held, key=lambda claim: claim.seq) == claims
    assert found.settled == []


def test_a_settlement_that_was_recorded_is_told_from_one_that_was_not(
    store: Store, hire: Hire
) -> None:
    add(store, id="a")
    add(store, id="b")
    actor = hire()
    first, second = (ended(claim) for claim in actor.claim(2))
    actor.turn(first)

    found = recall(store, "w1", [first, second])

    assert found.settled == [first]
    assert found.held == [second.claim]


def test_an_attempt_that_a_rescuer_recorded_as_lost_is_not_settled(
    store: Store, hire: Hire
) -> None:
    add(store, id="a")
    late = ended(hire().claim_one(), Ending.FAILED)
    rescues.rescue(store, ["w1"])

    found = recall(store, "w1", [late])

    assert (found.held, found.settled) == ([], [])
