"""Rates inside the claim: never more starts in a time than a queue allows, whoever claims."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from queuectl.db.engine import Store
from queuectl.db.models import QueueRow
from queuectl.domain.job import Ending
from queuectl.domain.rate import Rate, decode_starts
from queuectl.service import claims, counts, explanation, queues, rescues
from queuectl.service.claims import Claimant
from tests.actors import Actor, Hire, ended
from tests.jobs import add, state_of
from tests.waiting import LIMIT_SECONDS, wait_until

_HOURLY = Rate(2, 3600)


def fill(store: Store, queue: str, count: int) -> None:
    for number in range(count):
        add(store, id=f"{queue}{number}", queue=queue)


def claimed(actor: Actor, free: int = 9) -> list[str]:
    return sorted(claim.id for claim in actor.claim(free))


def look(actor: Actor) -> claims.Outlook:
    return claims.look(actor.store, actor.claimant)


def started(store: Store, queue: str = "q") -> int:
    """Return how many starts count in the queue's window."""
    query = select(QueueRow.rate_starts).where(QueueRow.name == queue)
    text = store.read(lambda connection: connection.execute(query).scalar())
    return sum(count for _, count in decode_starts(text))


def pass_time(store: Store, seconds: float, queue: str = "q") -> None:
    """Let everything that a queue remembers be so much longer ago."""

    def work(connection: Connection) -> None:
        row = connection.execute(select(QueueRow).where(QueueRow.name == queue)).one()
        starts = [[at - int(seconds * 1e6), n] for at, n in decode_starts(row.rate_starts)]
        opens_at = None if row.opens_at is None else row.opens_at - timedelta(seconds=seconds)
        values = {"rate_starts": json.dumps(starts), "opens_at": opens_at}
        connection.execute(update(QueueRow).where(QueueRow.name == queue).values(**values))

    store.write(work)


def test_no_more_start_in_a_window_than_the_rate_allows_whoever_claims(
    store: Store, hire: Hire
) -> None:
    fill(store, "q", 5)
    fill(store, "r", 1)
    queues.set_rate(store, "q", _HOURLY)
    first, second = hire("w1"), hire("w2")

    held = first.claim(9)

    assert sorted(claim.id for claim in held) == ["q0", "q1", "r0"]
    first.turn(*(ended(claim) for claim in held))
    assert (claimed(first), claimed(second)) == ([], [])
    pass_time(store, 3599)
    assert claimed(second) == []
    pass_time(store, 1)
    assert claimed(second) == ["q2", "q3"]
    assert claimed(first) == []


def test_a_retry_is_a_start_too(store: Store, hire: Hire) -> None:
    add(store, id="a", queue="q", backoff_base=1)
    queues.set_rate(store, "q", Rate(1, 3600))
    actor = hire()

    actor.settle(actor.claim_one(), Ending.FAILED)

    assert claimed(actor) == []
    pass_time(store, 3600)
    wait_until(lambda: claimed(actor) == ["a"])  # its backoff is a second


def test_a_rate_and_a_limit_hold_together_and_of_several_queues(store: Store, hire: Hire) -> None:
    for name in ("a", "b", "c"):
        fill(store, name, 4)
    queues.set_rate(store, "a", Rate(2, 3600))
    queues.set_rate(store, "b", Rate(3, 60))
    queues.limit(store, "b", 1)
    queues.limit(store, "c", 3)
    actor = hire()

    held = actor.claim(12)

    assert sorted(claim.id for claim in held) == ["a0", "a1", "b0", "c0", "c1", "c2"]
    assert (started(store, "a"), started(store, "b")) == (2, 1)
    turn = actor.turn(*(ended(claim) for claim in held), free=12)
    assert sorted(claim.id for claim in turn.claims) == ["b1", "c3"]


def test_a_closed_queue_tells_when_it_opens_and_is_not_due(store: Store, hire: Hire) -> None:
    fill(store, "q", 3)
    queues.set_rate(store, "q", Rate(1, 3600))
    actor, other = hire("w1"), hire("w2", queues=["r"])
    assert look(actor).due
    begun = datetime.now(UTC)

    actor.claim_one()

    seen = look(actor)
    assert not seen.due
    assert seen.next_due_at is not None
    assert timedelta(seconds=3590) < seen.next_due_at - begun < timedelta(seconds=3610)
    assert look(other).next_due_at is None  # it does not serve the queue
    pass_time(store, 3600)
    assert look(actor).due


def test_a_closed_queue_in_which_nothing_waits_wakes_nobody(store: Store, hire: Hire) -> None:
    fill(store, "q", 1)
    queues.set_rate(store, "q", Rate(1, 3600))
    actor = hire()

    actor.claim_one()

    assert look(actor) == claims.Outlook(False, None, None, 0)


def test_a_claim_that_is_given_back_gives_its_start_back_and_rings(
    store: Store, hire: Hire
) -> None:
    fill(store, "q", 2)
    queues.set_rate(store, "q", Rate(1, 3600))
    actor, other = hire("w1"), hire("w2")
    claim = actor.claim(9)

    with other.store.doorbell(hushed=False) as bell:
        assert not look(other).due
        bell.heard()
        claims.take_turn(actor.store, actor.claimant, [], free=0, idle=True, unstarted=claim)

        assert bell.wait(LIMIT_SECONDS)
    assert claimed(other) == ["q0"]


def test_what_a_dead_worker_had_not_started_gives_its_start_back(store: Store, hire: Hire) -> None:
    fill(store, "q", 2)
    queues.set_rate(store, "q", _HOURLY)
    dead, heir = hire("dead"), hire("heir")
    begun, _ = dead.claim(9)
    dead.die()

    rescues.rescue(store, ["dead"], started={"dead": frozenset({begun.mark})})

    assert started(store) == 1
    assert len(claimed(heir)) == 1


def test_a_clock_that_was_set_back_does_not_block_a_queue_for_ever(
    store: Store, hire: Hire
) -> None:
    fill(store, "q", 2)
    queues.set_rate(store, "q", Rate(1, 60))
    actor = hire()
    actor.claim_one()

    pass_time(store, -86_400)

    assert look(actor).due
    assert claimed(actor) == []  # as if it had started just now
    assert not look(actor).due  # it asks for no turn after the other
    pass_time(store, 60)
    assert claimed(actor) == ["q1"]


def test_what_is_no_record_of_starts_counts_for_nothing(store: Store, hire: Hire) -> None:
    fill(store, "q", 1)
    queues.set_rate(store, "q", _HOURLY)
    broken = update(QueueRow).values(rate_starts="what?")
    store.write(lambda connection: connection.execute(broken))

    assert claimed(hire()) == ["q0"]


def test_a_rate_is_changed_with_what_counts_and_taken_away_without(
    store: Store, hire: Hire
) -> None:
    fill(store, "q", 6)
    assert queues.set_rate(store, "q", Rate(1, 3600)).changed
    assert not queues.set_rate(store, "q", Rate(1, 3600)).changed
    actor = hire()
    actor.claim_one()

    with actor.store.doorbell(hushed=False) as bell:
        look(actor)
        bell.heard()
        queues.set_rate(store, "q", _HOURLY)
        assert bell.wait(LIMIT_SECONDS)
    assert claimed(actor) == ["q1"]
    lifted = queues.set_rate(store, "q", None)
    assert (lifted.rate, lifted.changed, lifted.running) == (None, True, 2)
    assert len(claimed(actor)) == 4
    assert started(store) == 0


def test_a_worker_of_one_job_does_not_wait_for_a_rate_and_is_counted(
    store: Store, hire: Hire
) -> None:
    fill(store, "q", 2)
    job = add(store, id="only", queue="q", hold=True)
    queues.set_rate(store, "q", Rate(1, 3600))
    actor = hire("w1")
    actor.claim_one()
    single = hire("w2")
    single.claimant = Claimant("w2", "here", 1, None, only=job.seq)

    assert claimed(single) == ["only"]
    assert started(store) == 2


def test_many_who_claim_at_once_start_no_more_than_the_rate(store: Store, hire: Hire) -> None:
    fill(store, "q", 40)
    fill(store, "other", 40)
    queues.set_rate(store, "q", Rate(7, 3600))
    actors = [hire(f"w{number}") for number in range(6)]
    held: list[list[Any]] = [[] for _ in actors]

    def take_turn(number: int) -> None:
        done = [ended(claim) for claim in held[number]]
        held[number] = actors[number].turn(*done, free=2).claims

    with ThreadPoolExecutor(len(actors)) as threads:
        for _ in range(8):
            list(threads.map(take_turn, range(len(actors))))

    states = [state_of(store, f"q{number}") for number in range(40)]
    assert states.count("pending") == 33
    assert started(store) == 7


def test_the_list_and_the_explanation_tell_the_rate_and_the_next_start(
    store: Store, hire: Hire
) -> None:
    fill(store, "q", 2)
    queues.set_rate(store, "q", Rate(1, 3600))
    [before] = counts.list_queues(store)
    hire().claim_one()

    [after] = counts.list_queues(store)
    reasons = {reason.name: reason for reason in explanation.explain(store, "q1").reasons}

    assert (before.rate, before.opens_at) == (Rate(1, 3600), None)
    assert after.opens_at is not None
    assert "its queue q starts at most 1/h; next start at 2" in reasons["rate-reached"].text
    assert "queuectl queue rate q" in str(reasons["rate-reached"].hint)


@pytest.mark.postgresql
def test_a_queue_that_is_closed_by_its_rate_is_not_locked(store: Store, hire: Hire) -> None:
    from tests.service.test_limits import locking

    fill(store, "q", 2)
    fill(store, "other", 1)
    queues.set_rate(store, "q", Rate(1, 3600))
    hire("w1", queues=["q"]).claim_one()

    with locking(store, "q"):
        assert claimed(hire("w2")) == ["other0"]
