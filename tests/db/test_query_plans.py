"""What the services really execute reads indexes: their cost must not grow with finished jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Dialect, Engine, event, update
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite as SQLiteDialect

from queuectl.db.engine import Store
from queuectl.db.models import ScheduleRow
from queuectl.db.prepared import Prepared
from queuectl.domain.job import State
from queuectl.domain.selection import Selection
from queuectl.service import (
    choice,
    claims,
    counts,
    dead_letters,
    explanation,
    jobs,
    overview,
    pruning,
    queues,
    rescues,
    retention,
    schedules,
    ticks,
)
from queuectl.service.statements import OWN_ROW_KEPT
from tests.actors import Hire, ended
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
def recorded() -> Iterator[list[str]]:
    """Collect the statements that SQLAlchemy executes, and the prepared ones that go past it."""
    found: list[str] = []

    def record(*arguments: Any) -> None:
        found.append(" ".join(arguments[2].split()))

    compile_prepared = Prepared._compile

    def record_prepared(prepared: Prepared, dialect: Dialect) -> Any:
        compiled = compile_prepared(prepared, dialect)
        found.append(" ".join(compiled.sql.split()))
        return compiled

    event.listen(Engine, "before_cursor_execute", record)
    setattr(Prepared, "_compile", record_prepared)  # noqa: B010  # an assignment needs an ignore
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", record)
        setattr(Prepared, "_compile", compile_prepared)  # noqa: B010


def plans_of(store: Store, use: Callable[[], object]) -> Plans:
    """Run a use case and explain every statement that it executed."""
    with recorded() as statements:
        use()
    statements = [statement for statement in statements if not statement.startswith("PRAGMA")]
    return Plans({statement: explain(store, statement) for statement in statements})


def explain(store: Store, statement: str) -> list[str]:
    """Return the lines of a plan. Parameters are NULL: a value of theirs may not help to choose."""
    values = (None,) * statement.count("?")
    return store.read(
        lambda connection: [
            row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    )


@pytest.fixture
def store(store: Store) -> Store:
    """A store with rows in every state."""
    populate(store)
    return store


#: What is processing is few: no more than there are slots.
_RUNNING = "SCAN jobs USING INDEX ix_jobs_processing"


def assert_no_scan(plans: Plans) -> None:
    """No statement reads all jobs or attempts, or sorts them aside."""
    assert plans.lines
    bad = ("SCAN jobs", "SCAN attempts", "USE TEMP B-TREE")
    lines = [line for line in plans.lines if line != _RUNNING]
    assert [line for line in lines if line.startswith(bad)] == []


def test_a_turn_reads_the_index_of_what_is_pending_and_sorts_nothing(store: Store) -> None:
    prepared = {
        name: str(value._statement.compile(dialect=SQLiteDialect()))
        for name, value in {**vars(claims), **vars(choice)}.items()
        if isinstance(value, Prepared)
    }

    plans = Plans({name: explain(store, statement) for name, statement in prepared.items()})

    assert_no_scan(plans)
    by_key = ["SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)"]
    assert plans.by_statement["SELECT"] == ["SEARCH jobs USING INDEX ix_jobs_pending (queue=?)"]
    assert plans.by_statement["CLAIM"] == plans.by_statement["SETTLE"] == by_key
    assert "INDEX ix_jobs_due (run_at<?)" in "".join(plans.by_statement["PROMOTE"])


def test_what_else_a_turn_executes_reads_no_jobs(store: Store, hire: Hire) -> None:
    actor = hire("w2")
    claimed = actor.claim_one()
    add(store, id="next")

    plans = plans_of(store, lambda: actor.turn(ended(claimed), free=3))

    assert_no_scan(plans)


def test_an_idle_look_reads_indexes_alone(store: Store, hire: Hire) -> None:
    actor = hire("w2")

    plans = plans_of(store, lambda: claims.look(store, actor.claimant))

    assert_no_scan(plans)
    assert "ix_jobs_due" in plans.of("SELECT min(jobs.run_at)")
    waiting = plans.of("SELECT queues.name", "state = 'pending'")
    assert "COVERING INDEX ix_jobs_pending" in waiting
    assert _RUNNING in waiting  # for limited queues alone


def test_limits_cost_a_turn_a_look_at_what_is_processing(store: Store, hire: Hire) -> None:
    queues.limit(store, "default", 1)
    queues.limit(store, "other", 1)
    actor = hire("w2")

    plans = plans_of(store, lambda: actor.turn(free=3))

    running = plans.of("SELECT jobs.queue, count(*)", "state = 'processing'")
    assert running.splitlines() == [_RUNNING, "USE TEMP B-TREE FOR GROUP BY"]
    del plans.by_statement[next(s for s in plans.by_statement if "GROUP BY" in s)]
    assert_no_scan(plans)
    # The one in which something runs is full, so what waits there is not looked at.
    chosen = [statement for statement in plans.by_statement if "jobs.crashes" in statement]
    assert len(chosen) == 1


def test_a_list_of_queues_reads_indexes(store: Store) -> None:
    plans = plans_of(store, lambda: counts.list_queues(store))

    assert "INDEX ix_jobs_finished" in plans.of("SELECT", "state = 'dead'", "count(*)")
    assert "SCAN jobs" not in plans.lines


def test_what_waits_in_a_queue_is_found_by_indexes(store: Store) -> None:
    plans = plans_of(store, lambda: queues.purge(store, queues.find_waiting(store, "default")))

    assert "SCAN jobs" not in plans.lines
    assert "ix_jobs_pending (queue=?)" in plans.of("SELECT jobs.seq", "state = 'pending'")
    assert "ix_jobs_due" in plans.of("SELECT jobs.seq", "'scheduled'", "'failed'", "queue = ?")


def test_an_explanation_reads_indexes(store: Store) -> None:
    plans = plans_of(store, lambda: explanation.explain(store, "pending"))

    ahead = plans.of("SELECT count(*)", "jobs.priority > ?")
    assert "COVERING INDEX ix_jobs_pending (queue=? AND priority>?)" in ahead
    assert "SCAN jobs" not in plans.lines


def test_a_rescue_reads_the_index_of_what_is_processing(store: Store) -> None:
    plans = plans_of(store, lambda: rescues.rescue(store, ["w1"]))

    assert "COVERING INDEX ix_jobs_processing" in plans.of("SELECT jobs.seq, jobs.id", "NOT IN")
    assert "SCAN jobs" not in plans.lines


def test_looking_for_orphans_reads_the_index_of_what_is_processing(store: Store) -> None:
    plans = plans_of(store, lambda: rescues.suspects(store))

    assert "COVERING INDEX ix_jobs_processing" in plans.of("SELECT jobs.seq")


def test_counts_read_indexes(store: Store) -> None:
    plans = plans_of(store, lambda: counts.read_status(store))

    for state, index in (
        ("pending", "COVERING INDEX ix_jobs_pending"),
        ("processing", "INDEX ix_jobs_processing"),
        ("scheduled", "INDEX ix_jobs_due"),
        ("failed", "INDEX ix_jobs_due"),
        ("completed", "COVERING INDEX ix_jobs_finished"),
        ("dead", "COVERING INDEX ix_jobs_finished"),
        ("cancelled", "COVERING INDEX ix_jobs_finished"),
    ):
        assert index in plans.of("SELECT", f"state = '{state}'", "count(*)")
    assert "SCAN jobs" not in plans.lines


@pytest.mark.parametrize("names", [(), ("default", "other")])
def test_a_live_screen_reads_no_more_than_it_shows(store: Store, names: tuple[str, ...]) -> None:
    tally = store.read(lambda connection: counts.tally_in(store, connection, []))

    plans = plans_of(
        store,
        lambda: store.read(
            lambda connection: overview.read_in(
                store, connection, limit=10, queues=names, seen=[1, 2], tally=tally
            )
        ),
    )

    assert "COVERING INDEX ix_jobs_finished" in plans.of("SELECT jobs.seq", "state = 'completed'")
    assert "INDEX ix_jobs_pending (queue=?)" in plans.of("SELECT jobs.seq", "state = 'pending'")
    assert "INDEX ix_jobs_due" in plans.of("SELECT jobs.seq", "'scheduled'")
    assert "SCAN jobs" not in plans.lines
    assert "SCAN attempts" not in plans.lines


def test_finding_a_job_reads_the_index_of_ids(store: Store) -> None:
    plans = plans_of(store, lambda: jobs.find(store, "pend"))

    assert_no_scan(plans)


def test_a_history_is_found_by_its_key(store: Store) -> None:
    plans = plans_of(store, lambda: jobs.history(store, "dead"))

    assert_no_scan(plans)


@pytest.mark.parametrize("state", State)
def test_a_list_of_one_state_reads_no_other(store: Store, state: State) -> None:
    plans = plans_of(store, lambda: jobs.list_jobs(store, Selection(states=(state,))))

    assert plans.lines
    assert "SCAN jobs" not in plans.lines


@pytest.mark.parametrize("state", [State.PENDING, State.SCHEDULED, State.FAILED])
def test_a_list_of_what_runs_next_reads_nothing_that_is_finished(
    store: Store, state: State
) -> None:
    plans = plans_of(
        store, lambda: jobs.list_jobs(store, Selection(states=(state,)), next_first=True)
    )

    assert plans.lines
    assert "SCAN jobs" not in plans.lines


def test_an_enqueue_reads_no_table(store: Store) -> None:
    plans = plans_of(store, lambda: add(store, id="new"))

    assert_no_scan(plans)


def test_a_requeue_of_named_jobs_finds_them_by_key(store: Store) -> None:
    plans = plans_of(store, lambda: dead_letters.requeue(store, ["dead"]))

    assert_no_scan(plans)


def test_what_is_past_its_retention_is_found_by_an_index(store: Store, hire: Hire) -> None:
    hire("w2")
    now = datetime.now(UTC)
    before = dict.fromkeys((State.COMPLETED, State.CANCELLED, State.DEAD), now)
    walk = retention.Walk(dict.fromkeys(before, 1))

    plans = plans_of(store, lambda: retention.expired(store, before, walk))
    duty = plans_of(store, lambda: retention.duty(store, "w2", now, 0))

    assert_no_scan(plans)
    for state in before:
        plan = plans.of("SELECT", f"state = '{state}'")
        assert plan == "SEARCH jobs USING INDEX ix_jobs_finished (state=? AND seq>?)"
    assert not any("jobs" in line for line in duty.lines)


def test_what_is_pruned_is_found_by_an_index_and_deleted_by_key(store: Store) -> None:
    choice = pruning.choose(store, [State.COMPLETED], older_than_seconds=0)
    found = pruning.find_some(store, choice, State.COMPLETED)

    plans = plans_of(store, lambda: pruning.find_some(store, choice, State.COMPLETED))
    deleted = plans_of(store, lambda: pruning.prune(store, choice, found))

    assert_no_scan(plans)
    assert_no_scan(deleted)
    assert "ix_jobs_finished (state=? AND seq>?)" in plans.of("SELECT jobs.seq")


def test_the_next_tick_is_the_first_of_its_index(store: Store, hire: Hire) -> None:
    actor = hire("w2")
    own_row = str(OWN_ROW_KEPT._statement.compile(dialect=SQLiteDialect()))

    plan = "\n".join(explain(store, own_row))

    assert "SEARCH schedules USING COVERING INDEX ix_schedules_next_at" in plan
    assert actor.turn().next_tick_at is not None


def test_ticks_are_made_jobs_by_indexes_alone(store: Store) -> None:
    plans = plans_of(store, lambda: _tick(store))

    assert_no_scan(plans)
    assert "ix_schedules_next_at (next_at<?)" in plans.of("SELECT schedules", "next_at <=")
    live = plans.of("SELECT jobs.seq FROM jobs WHERE jobs.schedule = ?")
    assert "INDEX ix_jobs_schedule_live (schedule=?)" in live
    there = plans.of("SELECT jobs.scheduled_for")
    assert "INDEX ix_jobs_schedule_scheduled_for (schedule=? AND scheduled_for=?)" in there
    assert ticks.enqueue_due(store).found is False


def test_the_newest_job_of_a_schedule_is_the_last_of_its_index(store: Store) -> None:
    schedules.run_now(store, ["nightly"])

    plans = plans_of(store, lambda: schedules.show(store, ["nightly"]))

    assert_no_scan(plans)
    newest = plans.of("SELECT jobs.seq, jobs.id", "ORDER BY jobs.scheduled_for DESC")
    assert "ix_jobs_schedule_scheduled_for (schedule=?)" in newest


def _tick(store: Store) -> None:
    due = update(ScheduleRow).values(next_at=datetime.now(UTC) - timedelta(days=2))
    store.write(lambda connection: connection.execute(due))
    assert len(ticks.enqueue_due(store).ids) == 1
