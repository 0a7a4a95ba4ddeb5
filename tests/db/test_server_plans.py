"""A claim on PostgreSQL reads indexes, however many jobs are finished or wait behind it (P4).

Read are the plans of the statements that the program itself has prepared, both of those that the
server may choose from: the one for the values at hand, and the one that it keeps for all values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection

from queuectl.db import schema
from queuectl.db.engine import Store, open_store
from queuectl.db.prepared import Prepared
from queuectl.service import limits, statements
from queuectl.settings import locate_store
from tests import servers

_MANY = 1_000_000
_FEW = 50_000
_POPULATE = """
    INSERT INTO jobs (id, queue, command, state, priority, run_at, runs, attempts, max_retries,
        crashes, version, created_at, updated_at)
    SELECT to_char(n, 'FM00000000'), 'default', 'true',
        CASE WHEN n <= %(many)s THEN 'completed' WHEN n <= 2 * %(many)s THEN 'pending'
            ELSE 'scheduled' END,
        0, now(), 0, 0, 3, 0, 1, now(), now()
    FROM generate_series(1, 2 * %(many)s + %(few)s) AS n
"""
_INDEXES = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'jobs' AND indexname LIKE 'ix_%'"
)
both_plans = pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A million finished jobs, then a million that wait, then some that are due later."""
    with (
        servers.new_database("queuectl_test_plans") as url,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        location = locate_store(url, {})
        schema.upgrade(location)
        _populate(url)
        with closing(open_store(location)) as opened:
            yield opened


def _populate(url: str) -> None:
    """Fill the table before its indexes are made: that takes half the time."""
    with psycopg.connect(url) as connection:
        connection.execute("SET maintenance_work_mem = '256MB'")
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}".encode())
        connection.execute(_POPULATE, {"many": _MANY, "few": _FEW})
        for _, definition in indexes:
            connection.execute(definition.encode())
        connection.execute("INSERT INTO queues (name, max_running) VALUES ('default', 2)")
        connection.execute("ANALYZE jobs, queues")


def explain(store: Store, statement: Prepared, mode: str, **values: Any) -> str:
    """Return the plan of a statement as the program prepares it, and as it was carried out."""

    def work(connection: Connection) -> str:
        statement.fetch(connection, values)
        compiled = statement._compile(connection.dialect)
        return explain_wire(connection, compiled.wire, compiled.bind(values), mode, "ANALYZE")

    return store.write(work)


def explain_wire(
    connection: Connection, wire: Any, values: Mapping[str, Any], mode: str, *options: str
) -> str:
    """Return the plan of what this connection has prepared; ``mode`` is PostgreSQL's setting."""
    driver: Any = connection.connection.driver_connection
    *_, name = [name for (query, _), name in driver._kept.items() if query == wire._query]
    given = sql.SQL(", ").join(sql.Literal(values[name]) for name in wire._names)
    execute = sql.SQL("EXECUTE {}({})" if wire._names else "EXECUTE {}")
    driver.execute(f"SET LOCAL plan_cache_mode = {mode}")
    query = sql.SQL("EXPLAIN ({}) ").format(sql.SQL(", ".join(("BUFFERS", *options))))
    rows = driver.execute(query + execute.format(sql.SQL(name.decode()), given))
    return "\n".join(line for (line,) in rows)


def pages_of(plan: str) -> int:
    """Return how many pages were looked at to carry out a plan."""
    found = re.search(r"Buffers: shared (?:hit=(\d+))? ?(?:read=(\d+))?", plan)
    assert found is not None, plan
    return sum(int(count or 0) for count in found.groups())


def test_the_tables_that_every_job_changes_are_cleaned_often(store: Store) -> None:
    """By default a fifth of a million jobs may be dead at the head of the index of a claim."""
    query = "SELECT relname, reloptions FROM pg_class WHERE relname IN ('jobs', 'workers')"

    rows = store.read(lambda connection: connection.exec_driver_sql(query).all())

    assert {name: set(options) for name, options in rows} == {
        "jobs": {
            "autovacuum_vacuum_scale_factor=0.005",
            "autovacuum_vacuum_threshold=1000",
            "autovacuum_vacuum_cost_delay=0",
            "autovacuum_analyze_scale_factor=0.02",
        },
        "workers": {
            "fillfactor=50",
            "autovacuum_vacuum_scale_factor=0",
            "autovacuum_vacuum_threshold=200",
        },
    }


@both_plans
def test_a_claim_reads_the_index_of_what_waits(store: Store, mode: str) -> None:
    plan = explain(store, statements.SELECT, mode, queue_name="default", count=10)

    assert "Index Scan using ix_jobs_pending" in plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan
    assert pages_of(plan) < 50


@both_plans
def test_what_has_become_due_is_found_by_its_index(store: Store, mode: str) -> None:
    def explain_promotion(connection: Connection) -> str:
        values = {"now": datetime(2000, 1, 1, tzinfo=UTC)}  # nothing is due yet
        statements.PROMOTE.execute(connection, [values])
        compiled = statements.PROMOTE._compile(connection.dialect)
        wire, bound = compiled.wire, compiled.bind(values)
        return explain_wire(connection, wire, bound, mode, "ANALYZE")

    plan = store.write(explain_promotion)

    assert "ix_jobs_due" in plan
    assert "Seq Scan on jobs" not in plan
    assert pages_of(plan) < 50


def test_when_a_job_is_due_next_is_found_by_its_index(store: Store) -> None:
    plan = explain(store, statements.NEXT_DUE, "auto")

    assert "ix_jobs_due" in plan
    assert "Seq Scan" not in plan
    assert pages_of(plan) < 50


@both_plans
@pytest.mark.parametrize(
    ("statement", "values"),
    [(limits._LOCK, {"names": ["default"]}), (statements.WAITING_QUEUES, {})],
    ids=["lock", "look"],
)
def test_whether_a_queue_has_work_and_a_place_is_asked_of_indexes(
    store: Store, statement: Prepared, values: dict[str, Any], mode: str
) -> None:
    plan = explain(store, statement, mode, **values)

    assert "ix_jobs_processing" in plan
    assert "ix_jobs_pending" in plan
    assert "Seq Scan on jobs" not in plan
    assert "Sort Key: jobs" not in plan
    assert pages_of(plan) < 50


def test_what_runs_is_counted_by_its_index(store: Store) -> None:
    plan = explain(store, limits.RUNNING, "auto")

    assert "ix_jobs_processing" in plan
    assert "Seq Scan" not in plan


@both_plans
def test_the_rows_of_a_batch_are_found_by_their_keys(store: Store, mode: str) -> None:
    now = datetime.now(UTC)
    row = {"claimant": "w1", "now": now, "seen_version": 1}
    rows = [{**row, "claimed_seq": seq} for seq in (2, 5, 8)]

    def explain_batch(connection: Connection) -> str:
        statements.CLAIM.execute(connection, rows)  # they are finished: none is claimed
        compiled = statements.CLAIM._compile(connection.dialect)
        return explain_wire(connection, compiled._batch_wire, compiled.bind_columns(rows), mode)

    plan = store.write(explain_batch)

    assert "Index Scan using pk_jobs" in plan
    assert "ix_jobs_pending" not in plan
