"""What the services really execute reads indexes: their cost must not grow with finished jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Engine, event

from queuectl.db.engine import Store
from queuectl.domain.job import State
from queuectl.service import claims, counts, dead_letters, jobs, workers
from tests.actors import Actor, ended
from tests.db.population import populate
from tests.jobs import add


@dataclass
class Plans:
    """The plan of each statement that was executed, as SQLite explains it."""

    by_statement: dict[str, list[str]] = field(default_factory=dict)

    def of(self, beginning: str, *parts: str) -> str:
        """Return the plan of the one statement that begins so and holds these parts."""
        [plan] = [
            plan
            for statement, plan in self.by_statement.items()
            if statement.startswith(beginning) and all(part in statement for part in parts)
        ]
        return "\n".join(plan)

    @property
    def lines(self) -> list[str]:
        return [line for plan in self.by_statement.values() for line in plan]


@contextmanager
def recorded() -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that are executed, each with its parameters as they are bound."""
    found: list[tuple[str, Any]] = []

    def record(*arguments: Any) -> None:
        _, _, statement, parameters, _, many = arguments
        found.append((" ".join(statement.split()), parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", record)


def plans_of(store: Store, use: Callable[[], object]) -> Plans:
    """Run a use case and explain every statement that it executed, parameters left unbound."""
    with recorded() as statements:
        use()
    plans = Plans()

    def explain(statement: str, parameters: Any) -> list[str]:
        return store.read(
            lambda connection: [
                row[3]
                for row in connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", tuple(parameters)
                )
            ]
        )

    for statement, parameters in statements:
        if not statement.startswith("PRAGMA"):
            plans.by_statement[statement] = explain(statement, parameters)
    return plans


@pytest.fixture
def store(store: Store) -> Store:
    """A store with rows in every state."""
    populate(store)
    return store


def assert_no_scan(plans: Plans) -> None:
    """No statement reads all jobs or attempts, or sorts them aside."""
    assert plans.lines
    bad = ("SCAN jobs", "SCAN attempts", "USE TEMP B-TREE")
    assert [line for line in plans.lines if line.startswith(bad)] == []


def test_a_turn_reads_the_index_of_what_is_pending_and_sorts_nothing(store: Store) -> None:
    actor = Actor(store, "w2")
    claimed = actor.claim_one()
    add(store, id="next")

    plans = plans_of(store, lambda: actor.turn(ended(claimed), free=3))

    assert_no_scan(plans)
    chosen = plans.of("SELECT jobs.seq", "state = 'pending'", "ORDER BY jobs.priority DESC")
    assert chosen == "SEARCH jobs USING INDEX ix_jobs_pending (queue=?)"
    assert "ix_jobs_due (run_at<?)" in plans.of("UPDATE jobs", "'scheduled', 'failed'")
    taken = "SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)"
    assert plans.of("UPDATE jobs", "runs=(jobs.runs +") == taken
    assert plans.of("UPDATE jobs", "state = 'processing'") == taken


def test_an_idle_look_reads_indexes_alone(store: Store) -> None:
    actor = Actor(store, "w2")

    plans = plans_of(store, lambda: claims.look(store, actor.claimant))

    assert_no_scan(plans)
    assert "ix_jobs_due" in plans.of("SELECT min(jobs.run_at)")
    assert "COVERING INDEX ix_jobs_pending" in plans.of("SELECT jobs.seq", "state = 'pending'")


def test_a_rescue_reads_the_index_of_what_is_processing(store: Store) -> None:
    plans = plans_of(store, lambda: workers.rescue(store, ["w1"]))

    orphans = plans.of("SELECT jobs.seq, jobs.id", "NOT IN").splitlines()
    assert "SCAN jobs" not in orphans
    assert any("ix_jobs_processing" in line for line in orphans)


def test_looking_for_orphans_reads_the_index_of_what_is_processing(store: Store) -> None:
    plans = plans_of(store, lambda: workers.has_orphans(store))

    assert [line for line in plans.lines if line.startswith("SCAN jobs")] == [
        "SCAN jobs USING COVERING INDEX ix_jobs_processing"
    ] or any("USING COVERING INDEX ix_jobs_processing" in line for line in plans.lines)


def test_counts_read_covering_indexes(store: Store) -> None:
    plans = plans_of(store, lambda: counts.read_status(store))

    for state, index in (
        ("pending", "ix_jobs_pending"),
        ("completed", "ix_jobs_finished"),
        ("dead", "ix_jobs_finished"),
        ("cancelled", "ix_jobs_finished"),
    ):
        assert f"COVERING INDEX {index}" in plans.of("SELECT", f"state = '{state}'", "count(*)")
    assert not any(line == "SCAN jobs" for line in plans.lines)


def test_finding_a_job_reads_the_index_of_ids(store: Store) -> None:
    plans = plans_of(store, lambda: jobs.find(store, "pend"))

    assert_no_scan(plans)


def test_a_history_is_found_by_its_key(store: Store) -> None:
    plans = plans_of(store, lambda: jobs.history(store, "dead"))

    assert_no_scan(plans)


@pytest.mark.parametrize("state", [State.PENDING, State.COMPLETED, State.DEAD, State.PROCESSING])
def test_a_list_of_one_state_reads_no_other(store: Store, state: State) -> None:
    plans = plans_of(store, lambda: jobs.list_jobs(store, states=[state]))

    assert not any(line == "SCAN jobs" for line in plans.lines)


def test_what_runs_next_in_a_queue_is_listed_without_a_sort(store: Store) -> None:
    plans = plans_of(
        store,
        lambda: jobs.list_jobs(store, states=[State.PENDING], queue="default", next_first=True),
    )

    assert_no_scan(plans)


def test_an_enqueue_reads_no_table(store: Store) -> None:
    plans = plans_of(store, lambda: add(store, id="new"))

    assert_no_scan(plans)


def test_a_requeue_of_named_jobs_finds_them_by_key(store: Store) -> None:
    plans = plans_of(store, lambda: dead_letters.requeue(store, ["dead"]))

    assert_no_scan(plans)
