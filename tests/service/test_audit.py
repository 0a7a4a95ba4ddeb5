"""Audit: each promise is broken by hand, in the tables themselves, and seen to be broken."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import Ending
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import CatchUp, Overlap
from queuectl.service import audit, config, dead_letters, rescues, schedules, workers
from queuectl.service.audit import Check
from queuectl.service.schedules import Definition
from tests.actors import Hire
from tests.jobs import add
from tests.servers import bare_connection


def run_audit(store: Store) -> dict[str, Check]:
    return {check.name: check for check in audit.audit(store)}


def broken(store: Store) -> dict[str, list[str]]:
    """Return the examples of each check that fails, by its name."""
    return {name: check.examples for name, check in run_audit(store).items() if not check.ok}


def break_by(store: Store, *statements: str) -> None:
    """Change the tables behind everybody's back, whatever they forbid."""
    store.close()
    with bare_connection(store.location) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.fixture
def lived(store: Store, hire: Hire) -> Store:
    """A store with some history: ``done`` after a failure, ``dead``, ``requeued``, ``waiting``."""
    config.set_option(store, "backoff-max", 0)
    worker = hire()
    for name, retries, endings in (
        ("done", 3, [Ending.FAILED, Ending.COMPLETED]),
        ("dead", 1, [Ending.FAILED, Ending.TIMED_OUT]),
        ("requeued", 0, [Ending.FAILED]),
    ):
        add(store, id=name, max_retries=retries)
        for ending in endings:
            worker.settle(worker.claim_one(), ending)
    dead_letters.requeue(store, ["requeued"])
    worker.settle(worker.claim_one(), Ending.STOPPED)
    worker.settle(worker.claim_one(), Ending.COMPLETED)
    add(store, id="waiting")
    return store


def test_a_store_that_was_used_as_meant_passes(lived: Store, hire: Hire) -> None:
    hire("w2").claim_one()

    checks = run_audit(lived)

    assert broken(lived) == {}
    assert (checks["overlaps"].checked, checks["overlaps"].things) == (7, "attempts")
    assert checks["claims"].checked == 1
    assert checks["letters"].checked == 1
    assert checks["wrong"].checked == 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET attempts = 1 WHERE id = 'dead'",
        "UPDATE jobs SET requeued_after_run = 1 WHERE id = 'dead'",
        "UPDATE jobs SET requeued_after_run = NULL WHERE id = 'requeued'",
        "UPDATE dlq SET reason = 'crashed its worker'",
    ],
)
def test_charges_that_the_history_does_not_bear_out_are_found(lived: Store, statement: str) -> None:
    break_by(lived, statement)

    assert list(broken(lived)) == ["beyond"]


def test_an_empty_store_passes(store: Store) -> None:
    assert broken(store) == {}


def test_jobs_of_a_rescued_worker_pass(store: Store, hire: Hire) -> None:
    add(store, id="a")
    worker = hire()
    worker.claim_one()
    worker.die()
    rescues.rescue(store, ["w1"])

    assert broken(store) == {}


@pytest.mark.parametrize(
    ("statements", "names"),
    [
        (
            ["UPDATE attempts SET finished_at = '2101-01-01' WHERE run = 1 AND job_seq = 1"],
            ["overlaps"],
        ),
        (["DELETE FROM attempts WHERE job_seq = 1 AND run = 1"], ["gaps", "beyond"]),
        (["DELETE FROM attempts WHERE job_seq = 1 AND run = 2"], ["gaps", "wrong"]),
        (["UPDATE jobs SET runs = 3 WHERE id = 'done'"], ["gaps", "wrong"]),
        (["UPDATE jobs SET attempts = 4 WHERE id = 'done'"], ["beyond"]),
        (["UPDATE jobs SET attempts = 2 WHERE id = 'done'"], ["beyond"]),
        (["UPDATE jobs SET crashes = 1 WHERE id = 'done'"], ["beyond"]),
        (["UPDATE jobs SET state = 'pending' WHERE id = 'done'"], ["wrong"]),
        (["UPDATE attempts SET outcome = 'completed' WHERE job_seq = 1"], ["beyond", "wrong"]),
        (["UPDATE jobs SET worker_id = 'w1' WHERE id = 'done'"], ["held"]),
    ],
)
def test_a_broken_job_is_named(
    lived: Store, statements: Sequence[str], names: Sequence[str]
) -> None:
    break_by(lived, *statements)

    assert broken(lived) == {name: ["done"] for name in names}


def test_an_attempt_that_reaches_into_a_later_one_is_seen_behind_a_short_one(lived: Store) -> None:
    break_by(
        lived,
        "UPDATE attempts SET finished_at = '2101-01-01' WHERE run = 1 AND job_seq ="
        " (SELECT seq FROM jobs WHERE id = 'requeued')",
    )

    found = run_audit(lived)["overlaps"]

    assert (found.broken, found.examples) == (2, ["requeued"])


def test_an_attempt_that_outlasts_the_next_claim_overlaps(lived: Store, hire: Hire) -> None:
    hire("w2").claim_one()
    break_by(
        lived,
        "UPDATE jobs SET runs = 2 WHERE id = 'waiting'",
        "INSERT INTO attempts"
        " (job_seq, run, worker_id, host, pid, started_at, finished_at, outcome)"
        " SELECT seq, 1, 'w', 'h', 1, created_at, '2101-01-01', 'stopped'"
        " FROM jobs WHERE id = 'waiting'",
    )

    assert broken(lived) == {"overlaps": ["waiting"]}


def test_a_claim_of_a_worker_that_left_is_open(lived: Store, hire: Hire) -> None:
    hire("w2").claim_one()
    workers.leave(lived, "w2")

    assert broken(lived) == {"claims": ["waiting"]}


def test_a_claim_of_a_worker_whose_process_died_is_open(lived: Store, hire: Hire) -> None:
    worker = hire("w2")
    worker.claim_one()
    worker.die()

    assert broken(lived) == {"claims": ["waiting"]}


def test_a_claim_of_nobody_is_open(lived: Store, hire: Hire) -> None:
    hire("w2").claim_one()
    break_by(lived, "UPDATE jobs SET worker_id = NULL WHERE id = 'waiting'")

    assert broken(lived) == {"claims": ["waiting"]}


def test_a_dead_job_that_is_not_in_the_dlq_is_named(lived: Store) -> None:
    break_by(lived, "DELETE FROM dlq")

    assert broken(lived) == {"letters": ["dead"]}


def test_a_letter_of_a_job_that_is_not_dead_is_named(lived: Store) -> None:
    break_by(
        lived,
        "INSERT INTO dlq (job_seq, died_at, reason) SELECT seq, created_at, 'no reason' FROM jobs"
        " WHERE id = 'waiting'",
    )

    assert broken(lived) == {"letters": ["waiting"]}


def test_rows_without_their_job_are_told(lived: Store) -> None:
    break_by(lived, "DELETE FROM jobs WHERE id = 'done'")

    found = broken(lived)
    assert list(found) == ["foreign keys"]
    assert [line.split()[:2] for line in found["foreign keys"]] == [["attempts", "jobs"]] * 2


@pytest.mark.sqlite
def test_a_damaged_index_is_told(lived: Store) -> None:
    break_by(
        lived,
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_schema SET sql = replace(sql, '''pending''', '''dead''')"
        " WHERE name = 'ix_jobs_pending'",
    )

    assert "integrity" in broken(lived)


def test_only_the_first_ids_are_named_and_all_are_counted(store: Store, hire: Hire) -> None:
    for _ in range(audit.MOST_IDS + 5):
        add(store)
    break_by(store, "UPDATE jobs SET runs = 1")

    found = run_audit(store)["gaps"]

    assert (found.broken, len(found.examples)) == (audit.MOST_IDS + 5, audit.MOST_IDS)


def test_two_jobs_of_one_tick_are_found(store: Store) -> None:
    request = JobRequest(command="true", cwd="/")
    definition = Definition("0 4 * * *", None, "UTC", CatchUp.LAST, Overlap.QUEUE, request)
    schedules.add(store, "s", definition)
    ids = [*schedules.run_now(store, ["s"]).ids, *schedules.run_now(store, ["s"]).ids]
    whole = run_audit(store)["ticks"]

    break_by(
        store,
        "DROP INDEX ix_jobs_schedule_scheduled_for",
        "UPDATE jobs SET scheduled_for = (SELECT min(scheduled_for) FROM jobs)",
    )

    assert (whole.ok, whole.checked) == (True, 2)
    assert broken(store) == {"ticks": ids}
