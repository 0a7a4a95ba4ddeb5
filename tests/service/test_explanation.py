"""Explaining: what the store says of a job that does not run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow, ScheduleRow
from queuectl.domain.explanation import Reason
from queuectl.domain.job import Ending
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import CatchUp, Overlap
from queuectl.errors import NotFound
from queuectl.service import explanation, queues, schedules
from queuectl.service.schedules import Definition
from tests.actors import Hire
from tests.db.population import populate
from tests.jobs import add


def reasons_of(store: Store, reference: str) -> list[Reason]:
    return explanation.explain(store, reference).reasons


def names_of(store: Store, reference: str) -> list[str]:
    return [reason.name for reason in reasons_of(store, reference)]


def test_a_ready_job_is_kept_by_the_lack_of_workers_alone(store: Store, hire: Hire) -> None:
    add(store, id="j", queue="q")

    assert names_of(store, "j") == ["no-worker"]
    hire("w1", queues=["other"])
    assert names_of(store, "j") == ["queue-unserved"]
    hire("w2", queues=["q"])
    assert names_of(store, "j") == ["ready"]


def test_a_worker_that_was_killed_is_no_worker(store: Store, hire: Hire) -> None:
    add(store, id="j")
    hire().die()

    assert names_of(store, "j") == ["no-worker"]


def test_a_pause_and_a_limit_are_told_with_what_runs(store: Store, hire: Hire) -> None:
    for job_id in ("a", "b", "c"):
        add(store, id=job_id, queue="q")
    add(store, id="elsewhere", queue="r")
    queues.limit(store, "q", 2)
    hire().claim(9)
    queues.pause(store, ["q"])

    found = reasons_of(store, "c")

    assert [reason.name for reason in found] == ["queue-paused", "limit-reached"]
    assert found[1].text == "its queue q runs at most 2 at once: a, b"


def test_every_slot_busy_is_told_with_what_runs_there(store: Store, hire: Hire) -> None:
    for number in range(12):
        add(store, id=f"j{number:02}")
    hire().claim(10)  # an actor says that it has ten slots

    found = reasons_of(store, "j11")

    assert [reason.name for reason in found] == ["all-busy", "jobs-ahead"]
    assert "with: j00, j01" in found[0].text


def test_those_that_are_claimed_first_are_counted_in_the_order_of_claims(
    store: Store, hire: Hire
) -> None:
    hire()
    add(store, id="high", priority=3)
    add(store, id="low", priority=-1)
    add(store, id="early", run_at="2001-01-01T00:00:00Z")
    add(store, id="same-1", run_at="2002-01-01T00:00:00Z")
    add(store, id="same-2", run_at="2002-01-01T00:00:00Z")
    add(store, id="elsewhere", queue="r", priority=9)

    [reason] = reasons_of(store, "same-2")

    assert "1 of higher priority and 2 that were due before" in reason.text
    assert names_of(store, "high") == ["ready"]
    assert "4 of higher priority" in reasons_of(store, "low")[0].text


def test_a_failure_a_schedule_and_a_run_are_told(store: Store, hire: Hire) -> None:
    hire("w2")
    add(store, id="runs", priority=1)
    hire("w3").claim(1)
    add(store, id="fails")
    hire("w4").settle(hire("w5").claim_one(), Ending.FAILED)
    add(store, id="later", delay="1h")

    assert names_of(store, "fails") == ["backoff"]
    assert "attempt 1 of 4 failed (it failed)" in reasons_of(store, "fails")[0].text
    assert names_of(store, "later") == ["scheduled"]
    [running] = reasons_of(store, "runs")
    assert running.name == "running"
    assert "on here in worker w3 (process 4711), whose lease runs until " in running.text


def test_a_job_that_crashed_its_worker_waits_for_one_that_is_idle(store: Store, hire: Hire) -> None:
    add(store, id="busy", priority=1)
    add(store, id="crasher")
    hire().claim(1)
    crash = update(JobRow).where(JobRow.id == "crasher").values(crashes=1)
    store.write(lambda connection: connection.execute(crash))

    assert names_of(store, "crasher") == ["crashed-before"]


def test_every_state_is_explained(store: Store) -> None:
    populate(store)  # by a worker that is gone

    assert {
        job_id: names_of(store, job_id)
        for job_id in ("completed", "dead", "cancelled", "processing", "failed", "pending")
    } == {
        "completed": ["completed"],
        "dead": ["dead"],
        "cancelled": ["cancelled"],
        "processing": ["worker-gone"],
        "failed": ["backoff", "no-worker"],
        "pending": ["no-worker"],
    }
    assert "retries exhausted: it failed" in reasons_of(store, "dead")[0].text
    assert "it has completed on here" in reasons_of(store, "completed")[0].text


def test_explaining_changes_nothing(store: Store) -> None:
    add(store, id="j", run_at=datetime.now(UTC).isoformat())
    before = store.data_version()

    reasons_of(store, "j")

    assert store.data_version() == before


def test_a_job_that_is_not_there_cannot_be_explained(store: Store) -> None:
    with pytest.raises(NotFound, match="'nope'"):
        explanation.explain(store, "nope")


def test_a_job_of_a_schedule_names_it_and_its_next_tick(store: Store, hire: Hire) -> None:
    hire()
    [job_id] = scheduled_job(store)

    assert names_of(store, job_id) == ["ready", "made-by-schedule"]
    goes_on = reasons_of(store, job_id)[1]
    schedules.pause(store, ["s"])
    paused = reasons_of(store, job_id)[1]
    zone = update(ScheduleRow).values(timezone="Mars/Olympus")
    store.write(lambda connection: connection.execute(zone))
    gone = reasons_of(store, job_id)[1]
    schedules.remove(store, ["s"])
    removed = reasons_of(store, job_id)[1]

    assert goes_on.text.startswith("schedule s made it, for 2")
    assert "; its next one is due at 2" in goes_on.text
    assert goes_on.hint == "queuectl schedule show s"
    assert "; it is paused; resumed now, it would be due at 2" in paused.text
    assert "its time zone Mars/Olympus is no time zone" in gone.text
    assert removed.text.endswith("; that schedule was removed")
    assert removed.hint is None


def scheduled_job(store: Store) -> list[str]:
    """Return the id of a job that a schedule has just made."""
    request = JobRequest(command="true", cwd="/")
    definition = Definition("0 4 * * *", None, "UTC", CatchUp.LAST, Overlap.SKIP, request)
    schedules.add(store, "s", definition)
    return schedules.run_now(store, ["s"]).ids
