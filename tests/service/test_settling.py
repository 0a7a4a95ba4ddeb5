"""Settling: what becomes of a job, and that only the holder of the claim decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import Ending
from queuectl.service import config, dead_letters, jobs, rescues
from tests.actors import Hire, ended
from tests.jobs import add, state_of


def test_a_completed_job_is_finished(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    claim = actor.claim_one()

    turn = actor.settle(claim)

    job = jobs.find(store, "a")
    assert turn.decisions[claim.mark].state == job.state == "completed"
    assert (job.attempts, job.runs, job.worker_id, job.claimed_at) == (0, 1, None, None)
    assert job.finished_at is not None
    assert turn.lost == []


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.TIMED_OUT])
def test_a_failed_job_waits_for_its_backoff(store: Store, hire: Hire, ending: Ending) -> None:
    add(store, id="a")
    actor = hire()
    claim = actor.claim_one()
    before = datetime.now(UTC)

    actor.settle(claim, ending)

    job = jobs.find(store, "a")
    assert (job.state, job.attempts, job.last_error) == ("failed", 1, f"it {ending}")
    assert before + timedelta(seconds=2) <= job.run_at <= datetime.now(UTC) + timedelta(seconds=2)
    assert job.finished_at is None
    assert actor.claim() == []


def test_the_backoff_options_are_read_when_they_are_needed(store: Store, hire: Hire) -> None:
    job = add(store, id="a")
    actor = hire()
    claim = actor.claim_one()
    config.set_option(store, "backoff-base", 1000)
    config.set_option(store, "backoff-max", "1m")

    actor.settle(claim, Ending.FAILED)

    pause = jobs.find(store, "a").run_at - job.created_at
    assert timedelta(seconds=60) <= pause < timedelta(seconds=1000)


def test_a_job_whose_retries_are_exceeded_is_in_the_dead_letter_queue(
    store: Store, hire: Hire
) -> None:
    add(store, id="a", max_retries=2, backoff_base=1)
    config.set_option(store, "backoff-max", 0)
    actor = hire()

    for _ in range(3):
        actor.settle(actor.claim_one(), Ending.FAILED)

    [letter] = dead_letters.list_dead(store)
    assert (letter.job.id, letter.reason, letter.last_error) == (
        "a",
        "retries exhausted",
        "it failed",
    )
    assert (letter.job.state, letter.job.attempts, letter.job.runs) == ("dead", 3, 3)
    assert letter.job.finished_at is not None
    assert actor.claim() == []


def test_a_stopped_attempt_is_put_back_without_charge(store: Store, hire: Hire) -> None:
    job = add(store, id="a", max_retries=0)
    actor = hire()

    actor.settle(actor.claim_one(), Ending.STOPPED)

    after = jobs.find(store, "a")
    assert (after.state, after.attempts, after.crashes, after.runs) == ("pending", 0, 0, 1)
    assert after.run_at == job.run_at
    assert actor.claim_one().run == 2


def test_an_attempt_is_recorded_with_all_that_its_runner_saw(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    settlement = ended(actor.claim_one(), Ending.FAILED)
    outcome = replace(
        settlement.outcome,
        exit_code=None,
        signal=9,
        cpu_user_seconds=1.5,
        cpu_system_seconds=0.25,
        max_rss_bytes=1 << 40,
        output_bytes=10,
        output_tail=b"\xff\x00tail",
        error="killed by SIGKILL",
    )

    actor.turn(replace(settlement, outcome=outcome))

    [attempt] = jobs.history(store, "a").attempts
    assert (attempt.worker_id, attempt.host, attempt.run) == ("w1", "here", 1)
    assert (attempt.outcome, attempt.exit_code, attempt.signal) == ("failed", None, 9)
    assert (attempt.cpu_user_seconds, attempt.cpu_system_seconds) == (1.5, 0.25)
    assert (attempt.max_rss_bytes, attempt.output_bytes) == (1 << 40, 10)
    assert (attempt.output_tail, attempt.error) == (b"\xff\x00tail", "killed by SIGKILL")
    assert (attempt.started_at, attempt.finished_at) == (outcome.started_at, outcome.finished_at)


def test_a_turn_settles_and_claims_at_once(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="b")
    actor = hire()
    [claim] = actor.claim(1)

    turn = actor.turn(ended(claim), free=1)

    assert [claim.id for claim in turn.claims] == ["b"]
    assert state_of(store, "a") == "completed"


def test_a_worker_that_lost_its_claim_cannot_settle(store: Store, hire: Hire) -> None:
    add(store, id="a")
    slow = hire("slow")
    claim = slow.claim_one()
    rescues.rescue(store, ["slow"])
    again = hire("quick").claim_one()

    late = hire("other").turn(ended(claim))

    assert late.decisions == {}
    assert [item.claim for item in late.lost] == [claim]
    job = jobs.find(store, "a")
    assert (job.state, job.version, job.worker_id) == ("processing", again.version, "quick")
    assert [attempt.outcome for attempt in jobs.history(store, "a").attempts] == ["lost"]


def test_a_result_is_recorded_once(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    claim = actor.claim_one()
    actor.settle(claim)

    turn = actor.settle(claim, Ending.FAILED)

    assert [item.claim for item in turn.lost] == [claim]
    assert state_of(store, "a") == "completed"
    assert len(jobs.history(store, "a").attempts) == 1


def test_a_lost_claim_costs_nothing_else_of_its_batch(store: Store, hire: Hire) -> None:
    for job_id in ("a", "b", "c", "next"):
        add(store, id=job_id)
    actor = hire()
    claims = actor.claim(3)
    lost = replace(claims[1], version=claims[1].version + 5)

    turn = actor.turn(
        ended(claims[0]), ended(lost), ended(claims[2], Ending.FAILED), free=3, idle=False
    )

    assert set(turn.decisions) == {claims[0].mark, claims[2].mark}
    assert [item.claim for item in turn.lost] == [lost]
    assert [claim.id for claim in turn.claims] == ["next"]
    assert [state_of(store, job_id) for job_id in ("a", "b", "c", "next")] == [
        "completed",
        "processing",
        "failed",
        "processing",
    ]


def test_attempts_are_numbered_without_a_gap_and_charged_within_the_retries(
    store: Store, hire: Hire
) -> None:
    config.set_option(store, "backoff-max", 0)
    add(store, id="a", max_retries=1)
    actor = hire()

    for ending in (Ending.STOPPED, Ending.FAILED, Ending.STOPPED, Ending.FAILED):
        actor.settle(actor.claim_one(), ending)

    history = jobs.history(store, "a")
    assert [attempt.run for attempt in history.attempts] == [1, 2, 3, 4]
    assert (history.job.state, history.job.attempts) == ("dead", 2)
