"""A claim on PostgreSQL reads indexes, however many jobs are finished or wait behind it (P4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from queuectl.db.engine import Store, open_store
from queuectl.service import limits, statements
from tests import servers

_MANY = 50_000
_DIALECT: Any = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # it has no types
_POPULATE = """
    INSERT INTO jobs (id, queue, command, state, priority, run_at, runs, attempts, max_retries,
        crashes, version, created_at, updated_at)
    SELECT state || n, 'default', 'true', state, 0, now(), 0, 0, 3, 0, 1, now(), now()
    FROM generate_series(1, :many) AS n, unnest(ARRAY['completed', 'pending', 'scheduled']) AS state
"""


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    opened = open_store(servers.empty_store())
    opened.write(lambda connection: connection.execute(text(_POPULATE), {"many": _MANY}))
    opened.write(lambda connection: connection.execute(text("ANALYZE jobs")))
    with closing(opened):
        yield opened


def explain(store: Store, statement: Any, **values: object) -> str:
    """Return the plan of a statement, as it was carried out."""
    compiled = statement.compile(dialect=_DIALECT)
    bound = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    rows = store.write(
        lambda connection: connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS) {compiled}", {**bound, **values}
        ).all()
    )
    return "\n".join(row[0] for row in rows)


def test_a_claim_reads_the_index_of_what_waits(store: Store) -> None:
    plan = explain(store, statements.CLAIMABLE, queue_name="default", count=10)

    assert "Index Scan using ix_jobs_pending" in plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan


def test_what_is_due_is_found_by_its_index(store: Store) -> None:
    plan = explain(store, statements.NEXT_DUE._statement)

    assert "ix_jobs_due" in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    ("statement", "values"),
    [(limits.LOCK, {"names": ["default"]}), (statements.WAITING_QUEUES._statement, {})],
    ids=["lock", "look"],
)
def test_whether_a_queue_has_work_and_a_place_is_asked_of_indexes(
    store: Store, statement: Any, values: dict[str, Any]
) -> None:
    limit = "INSERT INTO queues (name, max_running) VALUES ('default', 2) ON CONFLICT DO NOTHING"
    store.write(lambda connection: connection.execute(text(limit)))

    plan = explain(store, statement, **values)

    assert "ix_jobs_processing" in plan
    assert "ix_jobs_pending" in plan
    assert "Seq Scan on jobs" not in plan
    assert "Sort" not in plan


def test_what_runs_is_counted_by_its_index(store: Store) -> None:
    plan = explain(store, limits.RUNNING._statement)

    assert "ix_jobs_processing" in plan
    assert "Seq Scan" not in plan


def test_the_rows_of_a_batch_are_found_by_their_keys(store: Store) -> None:
    now = datetime.now(UTC)
    row = {"claimant": "w1", "now": now, "seen_version": 1}
    rows = [{**row, "claimed_seq": seq} for seq in (2, 5, 8)]

    def explain_batch(connection: Connection) -> str:
        batch = statements.CLAIM._compile(connection.dialect)
        query = f"EXPLAIN {batch.batch}"
        driver: Any = connection.connection.driver_connection
        return "\n".join(line for (line,) in driver.execute(query, batch.bind_columns(rows)))

    plan = store.write(explain_batch)

    assert "Index Scan using pk_jobs" in plan
    assert "ix_jobs_pending" not in plan
