"""Stores with millions of rows, written by one SQL statement each: the services would take hours.

The rows are those that the services make: the same columns, random ids, and an attempt for each
finished job.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from bench.stage import fill
from queuectl.db import sqlite
from queuectl.db.engine import Store
from queuectl.settings import StoreLocation

_JOBS = """
INSERT INTO jobs (id, queue, command, cwd, state, priority, run_at, runs, attempts, max_retries,
                  crashes, created_at, updated_at, finished_at, version)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
SELECT lower(hex(randomblob(7))), :queue, 'true', '/tmp', :state, :priority,
       strftime('%Y-%m-%d %H:%M:%f000', 'now', :shift), :runs, 0, 3, 0,
       strftime('%Y-%m-%d %H:%M:%f000', 'now'), strftime('%Y-%m-%d %H:%M:%f000', 'now'),
       iif(:runs, strftime('%Y-%m-%d %H:%M:%f000', 'now'), NULL), 1 + 2 * :runs
FROM numbers
"""
_ATTEMPTS = """
INSERT INTO attempts (job_seq, run, worker_id, host, pid, started_at, finished_at, outcome,
                      exit_code, cpu_user_seconds, cpu_system_seconds, output_bytes, output_tail)
SELECT seq, 1, '0123456789abcdef', 'host', 4711, finished_at, finished_at, 'completed', 0, 0.001,
       0.001, 0, x'' FROM jobs WHERE state = 'completed'
"""


def populate(
    location: StoreLocation,
    *,
    pending: int = 0,
    finished: int = 0,
    scheduled: int = 0,
    queue: str = "default",
) -> None:
    """Add as many jobs of each kind; scheduled ones are due tomorrow and of higher priority."""
    fill(location, 1, "true", queue)  # its queue's row comes with it
    with closing(Store(location)) as store:
        connection = store.read(sqlite.driver_connection)
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-400000")
        connection.execute("BEGIN IMMEDIATE")
        _add(connection, queue, pending, "pending", "-1 hour")
        _add(connection, queue, finished, "completed", "-1 hour", runs=1)
        _add(connection, queue, scheduled, "scheduled", "+1 day", priority=10)
        if finished:
            connection.execute(_ATTEMPTS)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _add(
    connection: Any,
    queue: str,
    count: int,
    state: str,
    shift: str,
    *,
    runs: int = 0,
    priority: int = 0,
) -> None:
    if count:
        values = {"queue": queue, "count": count, "state": state, "shift": shift, "runs": runs}
        connection.execute(_JOBS, {**values, "priority": priority})
