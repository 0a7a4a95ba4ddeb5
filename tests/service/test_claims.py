"""Claiming: which jobs a turn takes, and in which order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.request import JobRequest
from queuectl.errors import WorkerDeclaredDead
from queuectl.service import claims, jobs, queues, rescues, workers
from tests.actors import Actor, Hire, ended
from tests.jobs import add, state_of


def claimed(actor: Actor, free: int = 1, *, idle: bool = True) -> list[str]:
    """Claim, and return the jobs' ids."""
    return [claim.id for claim in actor.claim(free, idle=idle)]


def set_columns(store: Store, job_id: str, **values: object) -> None:
    store.write(
        lambda connection: connection.execute(
            update(JobRow).where(JobRow.id == job_id).values(**values)
        )
    )


def test_a_claim_marks_the_job_and_carries_all_that_a_run_needs(store: Store, hire: Hire) -> None:
    job = add(store, "echo hi", id="a", env={"A": "b"}, cwd="/", timeout=9, backoff_base=3)

    claim = hire().claim_one()

    after = jobs.find(store, "a")
    assert (after.state, after.worker_id, after.version, after.runs) == ("processing", "w1", 2, 1)
    assert after.claimed_at is not None
    assert (claim.seq, claim.version, claim.run) == (job.seq, 2, 1)
    assert (claim.command, claim.env, claim.cwd) == ("echo hi", {"A": "b"}, "/")
    assert (claim.timeout_seconds, claim.backoff_base, claim.max_retries) == (9.0, 3.0, 3)


def test_a_claimed_job_is_nobody_elses(store: Store, hire: Hire) -> None:
    add(store)
    hire("w1").claim_one()

    assert hire("w2").claim(5) == []


def test_no_more_is_claimed_than_there_is_room_for(store: Store, hire: Hire) -> None:
    for number in range(5):
        add(store, id=f"job-{number}")
    actor = hire()

    assert claimed(actor, 2) == ["job-0", "job-1"]
    assert claimed(actor, 0) == []
    assert claimed(actor, 9) == ["job-2", "job-3", "job-4"]


def test_a_higher_priority_goes_first_and_equals_in_order_of_time(store: Store, hire: Hire) -> None:
    add(store, id="late", run_at="2001-01-02T00:00:00Z")
    add(store, id="low", priority=-1, run_at="2000-01-01T00:00:00Z")
    add(store, id="early", run_at="2001-01-01T00:00:00Z")
    add(store, id="high", priority=1)
    add(store, id="late-too", run_at="2001-01-02T00:00:00Z")

    assert claimed(hire(), 9) == ["high", "early", "late", "late-too", "low"]


def test_a_job_that_has_become_due_is_claimed_and_one_ahead_is_not(
    store: Store, hire: Hire
) -> None:
    add(store, id="due", delay="1h")
    add(store, id="ahead", delay="1h")
    set_columns(store, "due", run_at=datetime(2001, 1, 1, tzinfo=UTC))

    assert claimed(hire(), 9) == ["due"]
    assert state_of(store, "ahead") == "scheduled"


def test_a_turn_makes_a_thousand_due_jobs_pending_at_most(store: Store, hire: Hire) -> None:
    for _ in range(3):
        requests = [JobRequest(command="true", delay=3600.0) for _ in range(400)]
        jobs.enqueue(store, requests, cwd=None)
    store.write(
        lambda connection: connection.execute(
            update(JobRow).values(run_at=datetime(2001, 1, 1, tzinfo=UTC))
        )
    )
    actor = hire()

    assert len(actor.claim(1200)) == 1000
    assert len(actor.claim(1200)) == 200


# Queues


def test_queues_share_the_room_fairly(store: Store, hire: Hire) -> None:
    for number in range(10):
        add(store, id=f"a{number}", queue="a", priority=9)
    for queue in ("b", "c"):
        add(store, id=f"{queue}0", queue=queue)

    assert sorted(claimed(hire(), 3)) == ["a0", "b0", "c0"]


def test_room_that_a_queue_does_not_need_goes_to_the_others(store: Store, hire: Hire) -> None:
    for number in range(10):
        add(store, id=f"b{number}", queue="b")
    add(store, id="a0", queue="a")
    add(store, id="c0", queue="c")

    assert sorted(claimed(hire(), 6)) == ["a0", "b0", "b1", "b2", "b3", "c0"]


def test_one_slot_serves_the_queues_in_rotation(store: Store, hire: Hire) -> None:
    for queue in ("a", "b", "c"):
        for number in range(2):
            add(store, id=f"{queue}{number}", queue=queue)
    actor = hire()

    served = [claimed(actor)[0] for _ in range(6)]

    assert served == ["a0", "b0", "c0", "a1", "b1", "c1"]


def test_an_empty_queue_does_not_stop_the_rotation(store: Store, hire: Hire) -> None:
    for queue in ("a", "c", "e"):
        add(store, id=f"{queue}0", queue=queue)
    actor = hire()
    claimed(actor, 3)
    add(store, id="c1", queue="c")

    assert claimed(actor) == ["c1"]


def test_a_worker_takes_only_from_the_queues_it_serves(store: Store, hire: Hire) -> None:
    for queue in ("a", "b", "c"):
        add(store, id=queue, queue=queue)

    assert sorted(claimed(hire(queues=["a", "c", "none"]), 9)) == ["a", "c"]


def test_a_paused_queue_is_passed_over(store: Store, hire: Hire) -> None:
    add(store, id="a", queue="a")
    add(store, id="b", queue="b")
    queues.pause(store, ["a"])

    assert claimed(hire(), 9) == ["b"]


# Jobs that crashed a worker


def test_a_job_that_crashed_a_worker_is_claimed_alone(store: Store, hire: Hire) -> None:
    for job_id in ("first", "crasher", "behind"):
        add(store, id=job_id)
    set_columns(store, "crasher", crashes=1)
    actor = hire()

    assert claimed(actor, 9) == ["first"]
    assert claimed(actor, 8, idle=False) == []
    assert claimed(actor, 9, idle=True) == ["crasher"]
    assert claimed(actor, 9, idle=True) == ["behind"]


def test_a_busy_worker_claims_nothing_past_a_job_that_crashed_one(store: Store, hire: Hire) -> None:
    add(store, id="crasher", queue="a")
    add(store, id="other", queue="b")
    set_columns(store, "crasher", crashes=2)

    assert claimed(hire(), 9, idle=False) == []


# The worker's own state


def test_a_worker_that_was_declared_dead_cannot_take_turns(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    rescues.rescue(store, ["w1"])

    with pytest.raises(WorkerDeclaredDead):
        actor.claim()
    with pytest.raises(WorkerDeclaredDead):
        claims.look(actor.store, actor.claimant)

    assert state_of(store, "a") == "pending"


def test_a_worker_whose_row_is_gone_cannot_take_turns(store: Store) -> None:
    claimant = claims.Claimant("nobody", "here", 1, None)

    with pytest.raises(WorkerDeclaredDead):
        claims.take_turn(store, claimant, [], free=1, idle=True)


def test_a_worker_that_was_asked_to_stop_settles_but_claims_nothing(
    store: Store, hire: Hire
) -> None:
    add(store, id="a")
    add(store, id="b")
    actor = hire()
    [claim] = actor.claim(1)
    workers.request_stop(store, queue=None, now=False)

    turn = actor.turn(ended(claim), free=5)

    assert (turn.claims, turn.stop_mode) == ([], "drain")
    assert state_of(store, "a") == "completed"
    assert state_of(store, "b") == "pending"


def test_claims_that_were_not_started_are_given_back_as_if_never_made(
    store: Store, hire: Hire
) -> None:
    job = add(store, id="a")
    actor = hire()
    claim = actor.claim_one()

    claims.take_turn(actor.store, actor.claimant, [], free=0, idle=True, unstarted=[claim])

    after = jobs.find(store, "a")
    assert (after.state, after.runs, after.worker_id) == ("pending", 0, None)
    assert after.version > claim.version
    assert jobs.history(store, "a").attempts == []
    assert hire("w2").claim_one().seq == job.seq


# Looking first


def test_an_idle_worker_sees_with_a_read_whether_something_is_due(store: Store, hire: Hire) -> None:
    actor = hire(queues=["q"])
    add(store, queue="other")
    later = add(store, queue="q", delay="1h")

    outlook = claims.look(actor.store, actor.claimant)
    assert (outlook.due, outlook.next_due_at) == (False, later.run_at)

    add(store, queue="q")
    assert claims.look(actor.store, actor.claimant).due


def test_a_look_tells_of_a_stop(store: Store, hire: Hire) -> None:
    actor = hire()
    assert claims.look(actor.store, actor.claimant).stop_mode is None

    workers.request_stop(store, queue=None, now=True)

    assert claims.look(actor.store, actor.claimant).stop_mode == "now"


def test_a_look_neither_writes_nor_rings(store: Store, hire: Hire) -> None:
    actor = hire()
    add(store)
    before = store.data_version()

    claims.look(actor.store, actor.claimant)

    assert store.data_version() == before
