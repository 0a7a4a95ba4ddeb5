"""Rescue: the jobs of dead workers run again, without a retry charged, up to max-crashes."""

from __future__ import annotations

from queuectl.db.engine import Store
from queuectl.domain.job import Ending
from queuectl.service import config, dead_letters, jobs, rescues, workers
from tests.actors import Hire
from tests.jobs import add, state_of


def test_a_rescued_job_is_pending_with_a_crash_counted_and_no_retry(
    store: Store, hire: Hire
) -> None:
    before = add(store, id="a", max_retries=0)
    claim = hire().claim_one()

    rescued = rescues.rescue(store, ["w1"])

    job = jobs.find(store, "a")
    assert rescued == ["a"]
    assert (job.state, job.attempts, job.crashes, job.worker_id) == ("pending", 0, 1, None)
    assert job.version > claim.version
    assert job.run_at == before.run_at
    assert job.last_error == rescues.LOST_ERROR
    assert workers.list_workers(store) == []


def test_the_lost_attempt_is_recorded(store: Store, hire: Hire) -> None:
    add(store, id="a")
    hire().claim_one()
    claimed_at = jobs.find(store, "a").claimed_at

    rescues.rescue(store, ["w1"])

    [attempt] = jobs.history(store, "a").attempts
    assert (attempt.run, attempt.outcome, attempt.error) == (1, "lost", rescues.LOST_ERROR)
    assert (attempt.worker_id, attempt.host, attempt.pid) == ("w1", "here", 4711)
    assert attempt.started_at == claimed_at
    assert attempt.finished_at >= attempt.started_at
    assert hire("w2").claim_one().run == 2


def test_jobs_of_the_living_stay_theirs(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="b")
    hire("w1").claim(1)
    hire("w2").claim(1)

    assert rescues.rescue(store, ["w1"]) == ["a"]
    assert state_of(store, "b") == "processing"


def test_jobs_of_workers_that_are_gone_are_swept_up(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    actor.claim_one()
    assert not rescues.suspects(store).orphaned

    workers.leave(store, "w1")

    assert rescues.suspects(store).orphaned
    assert rescues.rescue(store, []) == ["a"]
    assert not rescues.suspects(store).orphaned


def test_of_two_rescuers_one_takes_the_job_back(store: Store, hire: Hire) -> None:
    add(store, id="a")
    hire().claim_one()

    assert rescues.rescue(store, ["w1"]) == ["a"]
    assert rescues.rescue(store, ["w1"]) == []
    assert jobs.find(store, "a").crashes == 1


def test_a_job_that_crashes_its_worker_too_often_is_dead(store: Store, hire: Hire) -> None:
    config.set_option(store, "max-crashes", 2)
    add(store, id="a")

    for number in range(3):
        hire(f"w{number}").claim_one()
        rescues.rescue(store, [f"w{number}"])

    [letter] = dead_letters.list_dead(store)
    assert (letter.job.id, letter.reason) == ("a", "crashed its worker")
    assert (letter.job.state, letter.job.crashes, letter.job.attempts) == ("dead", 3, 0)
    assert letter.job.finished_at is not None
    assert [attempt.outcome for attempt in jobs.history(store, "a").attempts] == ["lost"] * 3


def test_a_rescue_keeps_the_failures_that_were_charged(store: Store, hire: Hire) -> None:
    config.set_option(store, "backoff-max", 0)
    add(store, id="a", max_retries=1)
    first = hire("w1")
    first.settle(first.claim_one(), Ending.FAILED)
    first.claim_one()

    rescues.rescue(store, ["w1"])

    job = jobs.find(store, "a")
    assert (job.attempts, job.crashes, job.runs) == (1, 1, 2)


def test_a_claim_of_many_jobs_is_taken_back_whole(store: Store, hire: Hire) -> None:
    ids = [add(store, id=f"job-{number}").id for number in range(20)]
    hire().claim(20)

    assert sorted(rescues.rescue(store, ["w1"])) == sorted(ids)
    assert {state_of(store, job_id) for job_id in ids} == {"pending"}


def test_a_claim_that_a_dead_worker_had_not_started_counts_as_never_made(
    store: Store, hire: Hire
) -> None:
    """C2: and no retry is charged."""
    add(store, id="begun")
    add(store, id="ahead")
    begun, ahead = hire().claim(2)

    rescues.rescue(store, ["w1"], started={"w1": frozenset({begun.mark})})

    lost, untouched = jobs.history(store, begun.id), jobs.history(store, ahead.id)
    assert [attempt.outcome for attempt in lost.attempts] == ["lost"]
    assert (lost.job.crashes, lost.job.runs) == (1, 1)
    assert untouched.attempts == []
    assert (untouched.job.crashes, untouched.job.runs) == (0, 0)
    assert untouched.job.state == "pending"
