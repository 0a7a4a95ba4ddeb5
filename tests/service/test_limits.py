"""Limits inside the claim: never more at once than a queue allows, and never less for long."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import update

from queuectl.db.engine import Store, open_store
from queuectl.db.models import JobRow
from queuectl.domain.job import Ending
from queuectl.service import claims, queues, rescues
from queuectl.settings import ServerLocation
from tests.actors import Actor, Hire, ended
from tests.jobs import add, state_of
from tests.waiting import LIMIT_SECONDS, wait_until


def fill(store: Store, queue: str, count: int, priority: int = 0) -> None:
    for number in range(count):
        add(store, id=f"{queue}{number}", queue=queue, priority=priority)


def claimed(actor: Actor, free: int = 9, *, idle: bool = True) -> list[str]:
    """Claim, and return the jobs' ids in order."""
    return sorted(claim.id for claim in actor.claim(free, idle=idle))


def running(store: Store, queue: str) -> int:
    return queues.find_waiting(store, queue).running


def is_due(actor: Actor) -> bool:
    return claims.look(actor.store, actor.claimant).due


def test_no_more_is_claimed_than_the_limit_allows_whoever_claims(store: Store, hire: Hire) -> None:
    fill(store, "q", 5)
    queues.limit(store, "q", 2)
    first, second = hire("w1"), hire("w2")

    held = first.claim(9)

    assert [claim.id for claim in held] == ["q0", "q1"]
    assert claimed(second) == []
    first.settle(held[0])
    assert claimed(second) == ["q2"]
    assert claimed(first) == []


def test_a_turn_that_settles_claims_into_the_place_that_it_frees(store: Store, hire: Hire) -> None:
    fill(store, "q", 3)
    queues.limit(store, "q", 1)
    actor = hire()
    [claim] = actor.claim(9)

    turn = actor.turn(ended(claim), free=9)

    assert [claim.id for claim in turn.claims] == ["q1"]


@pytest.mark.parametrize("limited", ["a", "b", "c"])
def test_a_full_queue_leaves_its_share_to_the_others(
    store: Store, hire: Hire, limited: str
) -> None:
    for queue in ("a", "b", "c"):
        fill(store, queue, 9, priority=5 if queue == limited else 0)
    queues.limit(store, limited, 1)
    actor = hire()

    first = claimed(actor, 9)
    second = claimed(actor, 6)

    assert [job_id for job_id in first if job_id.startswith(limited)] == [f"{limited}0"]
    assert len(first) == 9
    assert len(second) == 6
    assert not [job_id for job_id in second if job_id.startswith(limited)]


def test_room_that_the_shares_left_is_filled_up_to_the_limit(store: Store, hire: Hire) -> None:
    fill(store, "a", 9)
    fill(store, "b", 1)
    queues.limit(store, "a", 4)

    assert claimed(hire(), 8) == ["a0", "a1", "a2", "a3", "b0"]


def test_a_limit_below_what_runs_starts_nothing_until_fewer_run(store: Store, hire: Hire) -> None:
    fill(store, "q", 5)
    actor = hire()
    held = actor.claim(3)

    queues.limit(store, "q", 2)

    actor.settle(held[0])
    assert claimed(actor) == []
    actor.settle(held[1])
    assert claimed(actor) == ["q3"]
    queues.limit(store, "q", None)
    assert claimed(actor) == ["q4"]


def test_a_claim_that_is_given_back_gives_its_place_back(store: Store, hire: Hire) -> None:
    fill(store, "q", 2)
    queues.limit(store, "q", 1)
    actor = hire()
    claim = actor.claim(9)

    claims.take_turn(actor.store, actor.claimant, [], free=0, idle=True, unstarted=claim)

    assert claimed(hire("w2")) == ["q0"]


def test_a_failed_attempt_gives_its_place_back(store: Store, hire: Hire) -> None:
    fill(store, "q", 2)
    queues.limit(store, "q", 1)
    actor = hire()
    [claim] = actor.claim(9)

    actor.settle(claim, Ending.FAILED)

    assert claimed(hire("w2")) == ["q1"]


def test_what_is_taken_back_from_a_dead_worker_gives_its_place_back(
    store: Store, hire: Hire
) -> None:
    fill(store, "q", 2)
    queues.limit(store, "q", 1)
    dead, heir = hire("dead"), hire("heir")
    dead.claim(9)
    dead.die()
    assert not is_due(heir)

    rescues.rescue(store, ["dead"])

    assert is_due(heir)
    assert claimed(heir) == ["q0"]


def test_a_job_that_crashed_a_worker_holds_nobody_up_while_its_queue_is_full(
    store: Store, hire: Hire
) -> None:
    fill(store, "a", 2)
    fill(store, "b", 1)
    queues.limit(store, "a", 1)
    hire("w1").claim(1)
    set_crashes = update(JobRow).where(JobRow.id == "a1").values(crashes=1)
    store.write(lambda connection: connection.execute(set_crashes))

    assert claimed(hire("w2"), idle=False) == ["b0"]


def test_a_paused_queue_with_a_limit_is_passed_over(store: Store, hire: Hire) -> None:
    fill(store, "a", 1)
    fill(store, "b", 1)
    queues.limit(store, "a", 1)
    queues.pause(store, ["a"])

    assert claimed(hire()) == ["b0"]


# An idle worker


def test_a_look_finds_nothing_in_a_full_queue(store: Store, hire: Hire) -> None:
    fill(store, "q", 3)
    queues.limit(store, "q", 1)
    busy, idle = hire("w1"), hire("w2")
    assert is_due(idle)

    [claim] = busy.claim(9)

    assert not is_due(idle)
    busy.settle(claim)
    assert is_due(idle)


def test_whoever_leaves_a_place_in_a_limited_queue_rings(store: Store, hire: Hire) -> None:
    fill(store, "q", 2)
    queues.limit(store, "q", 1)
    actor = hire()
    [claim] = actor.claim(9)

    with store.doorbell(hushed=False) as bell:
        store.read(lambda connection: None)
        bell.heard()
        actor.settle(claim)

        assert bell.wait(LIMIT_SECONDS)


@pytest.mark.parametrize("limit", [None, 1])
def test_whoever_leaves_nothing_new_to_claim_does_not_ring(
    store: Store, hire: Hire, limit: int | None
) -> None:
    fill(store, "q", 2)
    queues.limit(store, "q", limit)
    actor = hire()
    [claim] = actor.claim(1)

    with store.doorbell(hushed=False) as bell:
        store.read(lambda connection: None)
        bell.heard()
        turn = actor.turn(ended(claim), free=1)

        assert len(turn.claims) == 1
        assert not bell.wait(0.2)


@pytest.mark.parametrize("most", [2, None])
def test_a_raised_limit_rings(store: Store, hire: Hire, most: int | None) -> None:
    fill(store, "q", 2)
    queues.limit(store, "q", 1)
    hire("w1").claim(1)
    idle = hire("w2")

    with idle.store.doorbell(hushed=False) as bell:
        idle.store.read(lambda connection: None)
        bell.heard()
        queues.limit(store, "q", most)

        assert bell.wait(LIMIT_SECONDS)
    assert is_due(idle)


# Several at once


def test_many_who_claim_at_once_claim_no_more_than_the_limit(store: Store, hire: Hire) -> None:
    fill(store, "q", 40)
    fill(store, "other", 40)
    queues.limit(store, "q", 3)
    actors = [hire(f"w{number}") for number in range(6)]
    held: list[list[Any]] = [[] for _ in actors]

    def take_turn(number: int) -> None:
        done = [ended(claim) for claim in held[number]]
        held[number] = actors[number].turn(*done, free=2).claims

    with ThreadPoolExecutor(len(actors)) as threads:
        list(threads.map(take_turn, range(len(actors))))
        assert (running(store, "q"), running(store, "other")) == (3, 9)
        for _ in range(8):
            list(threads.map(take_turn, range(len(actors))))
            assert 1 <= running(store, "q") <= 3


@contextmanager
def locking(store: Store, queue: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's transaction that holds a queue's row, as a turn does until its commit."""
    assert isinstance(store.location, ServerLocation)
    with psycopg.connect(store.location.url) as connection:
        connection.execute("SELECT name FROM queues WHERE name = %s FOR UPDATE", [queue])
        yield connection


@pytest.mark.postgresql
def test_on_a_server_limits_cost_one_round_trip_and_nothing_where_there_are_none(
    store: Store, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    from queuectl.db.server_connection import ServerConnection

    for queue in ("a", "b", "c"):
        fill(store, queue, 9)
    actor = hire()
    actor.claim(3)
    trips: list[list[bytes]] = []
    exchange = ServerConnection._exchange

    def counting(self: ServerConnection, letters: Any, answers: list[Any]) -> None:
        trips.append([letter.query for letter in letters])
        exchange(self, letters, answers)

    monkeypatch.setattr(ServerConnection, "_exchange", counting)

    actor.claim(3)
    without, trips[:] = list(trips), []
    for queue in ("a", "b"):
        queues.limit(store, queue, 9)
    trips.clear()
    actor.claim(3)

    assert not [query for trip in without for query in trip if b"max_running >" in query]
    assert len(trips) == len(without) + 1
    assert sum(map(len, trips)) == sum(map(len, without)) + 2


@pytest.mark.postgresql
def test_a_turn_counts_what_the_turn_before_it_has_committed(store: Store, hire: Hire) -> None:
    fill(store, "q", 3)
    queues.limit(store, "q", 2)
    actor = hire()
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"

    with (
        ThreadPoolExecutor() as threads,
        locking(store, "q") as earlier,
        closing(open_store(store.location)) as watching,
    ):
        database = earlier.info.dbname
        turn = threads.submit(actor.claim, 9)
        wait_until(
            lambda: watching.read(
                lambda connection: connection.exec_driver_sql(waiting, (database,)).first()
            )
        )
        earlier.execute(
            "UPDATE jobs SET state = 'processing', worker_id = 'w9' WHERE id IN ('q0', 'q1')"
        )
        earlier.commit()

        assert turn.result() == []
    assert state_of(store, "q2") == "pending"


@pytest.mark.postgresql
@pytest.mark.parametrize("why", ["full", "empty", "paused"])
def test_a_queue_that_gives_nothing_is_not_locked(store: Store, hire: Hire, why: str) -> None:
    fill(store, "q", 2)
    fill(store, "other", 1)
    queues.limit(store, "q", 1 if why == "full" else 9)
    hire("w1", queues=["q"]).claim(2)
    if why == "paused":
        add(store, queue="q")
        queues.pause(store, ["q"])

    with locking(store, "q"):
        assert claimed(hire("w2")) == ["other0"]
