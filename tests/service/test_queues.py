"""Queues: paused, resumed, limited, purged, listed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow
from queuectl.domain.job import Ending, State
from queuectl.domain.request import JobRequest
from queuectl.errors import NotFound
from queuectl.service import claims, counts, jobs, queues, workers
from queuectl.service.queues import QueueChange
from tests.actors import Actor, Hire
from tests.db.population import populate
from tests.jobs import add, state_of
from tests.waiting import LIMIT_SECONDS


def claimed(actor: Actor) -> list[str]:
    return sorted(claim.id for claim in actor.claim(9))


def changed(changes: list[QueueChange]) -> list[str]:
    return [change.name for change in changes if change.changed]


def test_nothing_of_a_paused_queue_is_claimed_until_it_is_resumed(store: Store, hire: Hire) -> None:
    add(store, id="a", queue="a")
    add(store, id="b", queue="b")
    before = datetime.now(UTC)

    [change] = queues.pause(store, ["a"])

    actor = hire()
    assert (change.name, change.changed, change.running) == ("a", True, 0)
    assert change.paused_at is not None
    assert change.paused_at >= before
    assert claimed(actor) == ["b"]
    assert not claims.look(actor.store, actor.claimant).due
    assert changed(queues.resume(store, ["a"])) == ["a"]
    assert claims.look(actor.store, actor.claimant).due
    assert claimed(actor) == ["a"]


def test_what_runs_in_a_paused_queue_goes_on_and_is_told(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="waits")
    actor = hire()
    claim = actor.claim(1)[0]

    [change] = queues.pause(store, ["default"])
    actor.settle(claim)

    assert change.running == 1
    assert state_of(store, "a") == "completed"
    assert claimed(actor) == []


def test_pausing_twice_changes_nothing_and_keeps_since_when(store: Store) -> None:
    [first] = queues.pause(store, ["q"])

    [second] = queues.pause(store, ["q"])

    assert (second.changed, second.paused_at) == (False, first.paused_at)


def test_a_queue_can_be_paused_before_its_first_job(store: Store, hire: Hire) -> None:
    queues.pause(store, ["new"])
    add(store, queue="new", id="a")

    assert claimed(hire()) == []


def test_all_queues_are_paused_and_resumed_at_once(store: Store) -> None:
    for name in ("c", "a", "b"):
        add(store, queue=name)
    queues.pause(store, ["b"])

    assert changed(queues.pause(store, None)) == ["a", "c"]
    assert changed(queues.resume(store, None)) == ["a", "b", "c"]
    assert changed(queues.resume(store, None)) == []


def test_a_dry_run_changes_nothing(store: Store) -> None:
    add(store, queue="a")
    before = store.data_version()

    assert changed(queues.pause(store, ["new", "a"], dry_run=True)) == ["a", "new"]
    assert changed(queues.pause(store, None, dry_run=True)) == ["a"]
    assert changed(queues.resume(store, ["a"], dry_run=True)) == []

    assert store.data_version() == before
    assert [state.name for state in counts.list_queues(store)] == ["a"]
    assert counts.list_queues(store)[0].paused_at is None


def test_a_queue_that_is_not_there_cannot_be_resumed_or_purged(store: Store) -> None:
    with pytest.raises(NotFound, match="no queue 'nope'"):
        queues.resume(store, ["nope"])
    with pytest.raises(NotFound, match="no queue 'nope'"):
        queues.find_waiting(store, "nope")
    assert counts.list_queues(store) == []


def test_resuming_wakes_whoever_is_idle(store: Store, hire: Hire) -> None:
    add(store)
    queues.pause(store, ["default"])
    idle = hire()

    with idle.store.doorbell(hushed=False) as bell:
        idle.store.read(lambda connection: None)
        bell.heard()
        queues.resume(store, ["default"])

        assert bell.wait(LIMIT_SECONDS)


def test_a_limit_is_kept_and_said_to_be_the_same_the_second_time(store: Store) -> None:
    first, second = queues.limit(store, "new", 2), queues.limit(store, "new", 2)

    assert (first.max_running, first.changed) == (2, True)
    assert (second.max_running, second.changed) == (2, False)
    assert queues.limit(store, "new", None).max_running is None


# Purging


def test_what_waits_is_deleted_with_its_history_and_nothing_else(store: Store, hire: Hire) -> None:
    populate(store)
    add(store, id="ready")
    failed = jobs.find(store, "failed")

    waiting = queues.find_waiting(store, "default")
    purged = queues.purge(store, waiting)

    assert (len(waiting.seqs), waiting.held, waiting.running) == (5, 1, 1)
    assert (purged.count, purged.ran) == (5, [(failed.seq, 1)])
    left = {job.id for job in jobs.list_jobs(store)}
    assert left == {"completed", "dead", "processing", "pending", "cancelled"}
    kept = store.read(lambda connection: connection.execute(select(AttemptRow.job_seq)).all())
    assert failed.seq not in {row.job_seq for row in kept}


def test_what_was_started_or_came_since_it_was_counted_stays(store: Store, hire: Hire) -> None:
    for job_id in ("started", "waits"):
        add(store, id=job_id)
    waiting = queues.find_waiting(store, "default")
    hire().claim(1)
    add(store, id="new")

    purged = queues.purge(store, waiting)

    assert purged.count == 1
    assert {job.id: job.state for job in jobs.list_jobs(store)} == {
        "started": "processing",
        "new": "pending",
    }


def test_thousands_are_purged_in_small_transactions(store: Store) -> None:
    jobs.enqueue(store, [JobRequest(command="true")] * 4500, cwd=None)

    assert queues.purge(store, queues.find_waiting(store, "default")).count == 4500
    assert jobs.list_jobs(store) == []


# Listing


def test_every_queue_is_listed_with_its_counts_and_who_serves_it(store: Store, hire: Hire) -> None:
    populate(store)
    queues.limit(store, "default", 4)
    queues.pause(store, ["other"])
    hire("all")
    hire("some", queues=["other"])
    hire("leaving", supervisor_id="s")
    workers.request_stop(store, queue=None, now=False)
    hire("later", queues=["default"])
    dead = hire("killed")
    dead.die()

    default, other = counts.list_queues(store)

    assert (default.name, default.paused_at, default.max_running) == ("default", None, 4)
    assert default.states == {
        State.HELD: 1,
        State.BLOCKED: 1,
        State.PENDING: 0,
        State.SCHEDULED: 1,
        State.FAILED: 1,
        State.PROCESSING: 1,
        State.DEAD: 1,
    }
    assert default.workers == ["later"]
    assert (other.name, other.max_running, other.workers) == ("other", None, [])
    assert other.paused_at is not None
    assert other.states[State.PENDING] == 1


def test_a_worker_that_serves_all_serves_each(store: Store, hire: Hire) -> None:
    add(store, queue="a")
    add(store, queue="b")
    hire("all")
    hire("one", queues=["b"])

    served = {state.name: state.workers for state in counts.list_queues(store)}

    assert served == {"a": ["all"], "b": ["all", "one"]}


def test_dead_jobs_are_counted_in_their_queue(store: Store, hire: Hire) -> None:
    add(store, queue="a", max_retries=0)
    actor = hire()
    actor.settle(actor.claim_one(), Ending.FAILED)

    [queue] = counts.list_queues(store)

    assert queue.states[State.DEAD] == 1
