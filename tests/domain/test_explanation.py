"""Why a job does not run: each reason by itself, and in which order they come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from queuectl.domain.explanation import Crew, Reason, Situation, explain
from queuectl.domain.job import Attempt, Ending, Job, State
from queuectl.domain.rate import Rate

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
AGO = NOW - timedelta(minutes=5)
AHEAD = NOW + timedelta(seconds=8)
IDLE = Crew("a" * 16, "here", 12, True, False, True, 2, [], AHEAD)
BUSY = replace(IDLE, id="b" * 16, running=["x", "y"])
DEAD = replace(IDLE, id="c" * 16, alive=False, serves=False)


def job(**fields: Any) -> Job:
    values: dict[str, Any] = {
        **dict.fromkeys(Job.__dataclass_fields__),
        "seq": 1,
        "id": "j",
        "queue": "q",
        "command": "true",
        "state": State.PENDING,
        "priority": 0,
        "run_at": AGO,
        "runs": 0,
        "attempts": 0,
        "max_retries": 3,
        "crashes": 0,
        "created_at": AGO,
        "updated_at": AGO,
        "version": 1,
    }
    return Job(**{**values, **fields})


def seen(subject: Job | None = None, **fields: Any) -> Situation:
    values: dict[str, Any] = {
        "job": subject or job(),
        "now": NOW,
        "paused_at": None,
        "max_running": None,
        "running": [],
        "workers": [IDLE],
        "higher": 0,
        "sooner": 0,
        "last": None,
        "died_at": None,
        "dead_reason": None,
    }
    return Situation(**{**values, **fields})


def names_of(situation: Situation) -> list[str]:
    return [reason.name for reason in explain(situation)]


def only(situation: Situation) -> Reason:
    [reason] = explain(situation)
    return reason


def test_nothing_keeps_a_job_that_an_idle_worker_serves() -> None:
    assert only(seen()).name == "ready"


def test_a_paused_queue_says_since_when_and_how_to_resume_it() -> None:
    reason = only(seen(paused_at=AGO))

    assert reason == Reason(
        "queue-paused",
        "its queue q is paused since 2026-11-25T08:55:00Z (5m ago)",
        "queuectl queue resume q",
    )


def test_a_full_queue_names_what_runs_there() -> None:
    reason = only(seen(max_running=2, running=["x", "y"]))

    assert (reason.name, reason.text) == (
        "limit-reached",
        "its queue q runs at most 2 at once: x, y",
    )
    assert reason.hint is not None
    assert reason.hint.endswith("queuectl queue limit q N")


def test_a_queue_with_a_place_is_not_full() -> None:
    assert only(seen(max_running=3, running=["x", "y"])).name == "ready"


def test_a_queue_at_its_rate_tells_when_the_next_may_start() -> None:
    reason = only(seen(rate=Rate(10, 60), opens_at=AHEAD))

    assert reason == Reason(
        "rate-reached",
        "its queue q starts at most 10/m; next start at 2026-11-25T09:00:08Z (in 8s)",
        "wait, or change the rate: queuectl queue rate q N/m (none takes it away)",
    )
    assert only(seen(rate=Rate(10, 60))).name == "ready"


def test_a_held_job_waits_for_a_release_or_for_whoever_edits_it() -> None:
    held = only(seen(job(state=State.HELD)))
    edited = only(seen(job(state=State.HELD, edit_started_at=AGO)))

    assert held == Reason("held", "it is held until somebody releases it", "queuectl release j")
    assert (edited.name, edited.text) == (
        "edited",
        "it is held while somebody edits it, since 2026-11-25T08:55:00Z (5m ago)",
    )
    assert str(edited.hint).endswith("queuectl release j")


def test_of_many_jobs_a_few_are_named() -> None:
    running = [f"r{number}" for number in range(8)]

    assert only(seen(max_running=8, running=running)).text.endswith("r0, r1, r2, r3, r4 and 3 more")


def test_a_job_in_its_backoff_tells_of_its_failure() -> None:
    failed = job(state=State.FAILED, attempts=2, last_error="exit code 1: no", run_at=AHEAD)

    assert only(seen(failed)) == Reason(
        "backoff",
        "attempt 2 of 4 failed (exit code 1: no); its backoff lasts until"
        " 2026-11-25T09:00:08Z (in 8s)",
    )


def test_a_scheduled_job_tells_when() -> None:
    reason = only(seen(job(state=State.SCHEDULED, run_at=AHEAD)))

    assert reason == Reason("scheduled", "it is scheduled for 2026-11-25T09:00:08Z (in 8s)")


def test_a_job_that_has_become_due_is_as_good_as_pending() -> None:
    assert only(seen(job(state=State.SCHEDULED))).name == "ready"
    assert only(seen(job(state=State.FAILED, attempts=1))).name == "ready"


@pytest.mark.parametrize("workers", [[], [DEAD]])
def test_without_a_worker_that_lives_one_is_to_be_started(workers: list[Crew]) -> None:
    reason = only(seen(workers=workers))

    assert reason == Reason("no-worker", "no worker runs", "queuectl worker start")


def test_workers_of_other_queues_do_not_help() -> None:
    other = replace(IDLE, serves=False)

    reason = only(seen(workers=[other, replace(other, stopping=True)]))

    assert reason == Reason(
        "queue-unserved",
        "of 2 workers, none serves its queue q (1 of them was asked to stop)",
        "queuectl worker start --queue q",
    )


@pytest.mark.parametrize(
    ("workers", "text"),
    [
        ([BUSY], "all 2 slots of the worker that may take it are busy, with: x, y"),
        (
            [BUSY, replace(BUSY, running=["z", "zz"]), DEAD, replace(IDLE, serves=False)],
            "all 4 slots of the 2 workers that may take it are busy, with: x, y, z, zz",
        ),
        (
            [replace(BUSY, slots=1, running=["x"])],
            "the slot of the worker that may take it is busy, with: x",
        ),
    ],
)
def test_when_every_slot_is_busy_what_runs_is_named(workers: list[Crew], text: str) -> None:
    reason = only(seen(workers=workers))

    assert (reason.name, reason.text) == ("all-busy", text)


def test_a_job_that_crashed_its_worker_waits_for_an_idle_one() -> None:
    crasher = job(crashes=2)
    half = replace(BUSY, running=["x"])

    reason = only(seen(crasher, workers=[half]))

    assert reason.name == "crashed-before"
    assert "crashed its worker 2 times" in reason.text
    assert only(seen(crasher, workers=[half, IDLE])).name == "ready"
    assert names_of(seen(crasher, workers=[BUSY])) == ["all-busy", "crashed-before"]


@pytest.mark.parametrize(
    ("higher", "sooner", "text"),
    [
        (2, 0, "2 jobs of its queue q will be taken first: 2 of higher priority"),
        (0, 1, "1 job of its queue q will be taken first: 1 that was due before"),
        (
            1,
            3,
            "4 jobs of its queue q will be taken first: 1 of higher priority"
            " and 3 that were due before",
        ),
    ],
)
def test_jobs_that_come_first_are_counted(higher: int, sooner: int, text: str) -> None:
    reason = only(seen(higher=higher, sooner=sooner))

    assert (reason.name, reason.text) == ("jobs-ahead", text)
    assert reason.hint == "queuectl list --order next --queue q"


def test_all_reasons_are_told_and_the_first_to_overcome_comes_first() -> None:
    ready = seen(paused_at=AGO, max_running=1, running=["x"], workers=[], higher=1)
    later = replace(ready, job=job(state=State.SCHEDULED, run_at=AHEAD))

    assert names_of(ready) == ["queue-paused", "no-worker", "limit-reached", "jobs-ahead"]
    assert names_of(later) == ["scheduled", "queue-paused", "no-worker"]


def test_a_job_that_runs_tells_where_since_when_and_until_when_its_worker_is_believed() -> None:
    running = job(state=State.PROCESSING, attempts=1, worker_id=BUSY.id, claimed_at=AGO)

    reason = only(seen(running, workers=[IDLE, BUSY]))

    assert reason.name == "running"
    assert reason.text == (
        "it runs, attempt 2 of 4, since 2026-11-25T08:55:00Z (5m ago), on here in worker bbbbbbbb"
        " (process 12), whose lease runs until 2026-11-25T09:00:08Z (in 8s)"
    )


def test_a_frozen_job_is_told_as_such_unless_its_worker_is_gone() -> None:
    frozen = job(state=State.PROCESSING, worker_id=BUSY.id, claimed_at=AGO, frozen_at=AGO)

    reason = only(seen(frozen, workers=[BUSY]))

    assert (reason.name, reason.hint) == ("frozen", "queuectl thaw j")
    assert reason.text.startswith("it is frozen since 2026-11-25T08:55:00Z (5m ago): ")
    assert only(seen(frozen, workers=[DEAD])).name == "worker-gone"


@pytest.mark.parametrize("workers", [[DEAD], []])
def test_a_job_whose_worker_is_gone_waits_to_be_taken_back(workers: list[Crew]) -> None:
    lost = job(state=State.PROCESSING, worker_id=DEAD.id, claimed_at=AGO)

    reason = only(seen(lost, workers=workers))

    assert reason.name == "worker-gone"
    assert "worker cccccccc" in reason.text
    assert reason.hint is not None
    assert "queuectl worker start" in reason.hint


def test_what_has_ended_says_how() -> None:
    last = Attempt(1, 1, "w", "far", 1, AGO, AGO, Ending.COMPLETED, *[None] * 8)
    completed = job(state=State.COMPLETED, finished_at=AGO)
    dead = job(state=State.DEAD, finished_at=AGO, last_error="exit code 2: no")
    cancelled = job(state=State.CANCELLED)

    assert only(seen(completed, last=last, paused_at=AGO)).text == (
        "it has completed on far: 2026-11-25T08:55:00Z (5m ago)"
    )
    reason = only(seen(dead, died_at=AGO, dead_reason="retries exhausted"))
    assert reason.text == (
        "it is dead since 2026-11-25T08:55:00Z (5m ago), retries exhausted: exit code 2: no"
    )
    assert reason.hint == "queuectl logs j, then: queuectl dlq retry j"
    assert only(seen(cancelled)).text == "it was cancelled: 2026-11-25T08:55:00Z (5m ago)"


@pytest.mark.parametrize("state", State)
def test_there_is_always_a_reason(state: State) -> None:
    assert len(explain(seen(job(state=state)))) == 1
