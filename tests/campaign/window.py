"""A look into the store from outside: plain reads, by a connection that is closed again at once.

The campaign forks, and must never do so with the store open.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg

from queuectl.db import sqlite
from queuectl.settings import ServerLocation, StoreLocation
from tests.campaign.facts import StoredAttempt, StoredJob

#: How long a look waits: whoever is in its way may be one whom the campaign has to thaw.
_PATIENCE_SECONDS = 1.0
_UNSETTLED = ("pending", "scheduled", "failed", "processing")


class Obscured(Exception):  # noqa: N818  # it says what happened, as the program's own do
    """The store is locked against readers at this moment, or its server away."""


def open_window(location: StoreLocation) -> Window:
    """Return a window into the store at this place."""
    if isinstance(location, ServerLocation):
        return _ServerWindow(location)
    return Window(location)


class Window:
    """Reads one SQLite store; every look raises Obscured while the store is locked."""

    def __init__(self, location: StoreLocation) -> None:
        self._location = location

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        uri = f"{self._location.path.as_uri()}?mode=rw"
        connect = sqlite.LIBRARY.connect
        try:
            with closing(connect(uri, uri=True, timeout=_PATIENCE_SECONDS)) as connection:
                rows: list[tuple[Any, ...]] = connection.execute(query, values).fetchall()
                return rows
        except sqlite.LIBRARY.OperationalError as error:
            raise Obscured(str(error)) from error

    def unsettled(self) -> dict[str, int]:
        """Return how many jobs are in each state that something still has to happen in."""
        counts = {
            state: self._read(f"SELECT count(*) FROM jobs WHERE state = '{state}'")[0][0]  # noqa: S608  # a constant
            for state in _UNSETTLED
        }
        return {state: count for state, count in counts.items() if count}

    def last_change(self) -> tuple[int, int]:
        """Return numbers that grow whenever an attempt is recorded or a job added."""
        return (
            self._read("SELECT count(*) FROM attempts")[0][0],
            self._read("SELECT max(seq) FROM jobs")[0][0] or 0,
        )

    def recorded(self, attempts: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return which of these (sequence number, run) have been recorded as ended."""
        query = "SELECT 1 FROM attempts WHERE job_seq = ? AND run = ?"
        return {attempt for attempt in set(attempts) if self._read(query, attempt)}

    def end_connection(self, pick: float) -> bool:
        """End one connection to the store; False where there is none."""
        return False

    def dead(self) -> list[str]:
        """Return the ids of the dead jobs, in the order in which they were added."""
        query = "SELECT id FROM jobs JOIN dlq ON dlq.job_seq = jobs.seq ORDER BY seq"
        return [str(row[0]) for row in self._read(query)]

    def job_id(self, seq: int) -> str:
        """Return the id of a job."""
        rows = self._read("SELECT id FROM jobs WHERE seq = ?", (seq,))
        return str(rows[0][0]) if rows else f"job number {seq}"

    def jobs(self, requeues: dict[str, int]) -> tuple[StoredJob, ...]:
        """Return every job."""
        query = """
            SELECT seq, id, state, runs, attempts, max_retries, timeout_seconds,
                   EXISTS (SELECT 1 FROM dlq WHERE dlq.job_seq = jobs.seq)
            FROM jobs ORDER BY seq
        """
        return tuple(
            StoredJob(
                seq=row[0],
                id=row[1],
                state=row[2],
                runs=row[3],
                attempts=row[4],
                max_retries=row[5],
                timeout_seconds=row[6],
                in_dlq=bool(row[7]),
                requeues=requeues.get(row[1], 0),
            )
            for row in self._read(query)
        )

    def attempts(self, clock_offset: float) -> tuple[StoredAttempt, ...]:
        """Return every attempt; ``clock_offset`` is the wall clock less the campaign's."""
        query = """
            SELECT jobs.id, run, attempts.worker_id, pid, started_at, attempts.finished_at,
                   outcome, exit_code, signal
            FROM attempts JOIN jobs ON jobs.seq = attempts.job_seq
        """
        return tuple(
            StoredAttempt(
                job=row[0],
                run=row[1],
                worker=row[2],
                pid=row[3],
                started=_seconds(row[4]) - clock_offset,
                finished=_seconds(row[5]) - clock_offset,
                outcome=row[6],
                exit_code=row[7],
                signal=row[8],
            )
            for row in self._read(query)
        )

    def damage(self) -> tuple[str, ...]:
        """Return what the database's own checks complain of."""
        found = [str(row[0]) for row in self._read("PRAGMA integrity_check") if row[0] != "ok"]
        found += [f"foreign key: {row}" for row in self._read("PRAGMA foreign_key_check")]
        return tuple(found)


class _ServerWindow(Window):
    """Reads a PostgreSQL store; every look raises Obscured while the server is away."""

    _location: ServerLocation

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            with closing(psycopg.connect(self._location.url, autocommit=True)) as connection:
                asked = query.replace("?", "%s").encode()
                return connection.execute(asked, values or None).fetchall()
        except psycopg.OperationalError as error:
            raise Obscured(str(error)) from error

    def end_connection(self, pick: float) -> bool:
        """End one of the other connections to this database, whatever it is doing."""
        try:
            others = self._read(_OTHERS)
            return bool(others) and bool(
                self._read("SELECT pg_terminate_backend(?)", others[int(pick * len(others))])[0][0]
            )
        except Obscured:
            return False

    def damage(self) -> tuple[str, ...]:
        """Return which indexes tell another number of rows than their tables.

        Both are read from the first page to the last, and the server compares the checksums.
        """
        found = []
        for table, index in self._read(_INDEXES):
            counts = [self._count(table, by_index) for by_index in (True, False)]
            if counts[0] != counts[1]:
                found.append(f"index {index} of {table}: {counts[0]} rows of {counts[1]}")
        return (*found, *(f"foreign key: {row}" for row in self._read(_STRANDED)))

    def _count(self, table: str, by_index: bool) -> int:
        with closing(psycopg.connect(self._location.url, autocommit=True)) as connection:
            for way in ("seqscan",) if by_index else ("indexscan", "indexonlyscan", "bitmapscan"):
                connection.execute(f"SET enable_{way} = off".encode())
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()  # noqa: S608  # of its own catalog
            return int(row[0]) if row else 0


_OTHERS = """
    SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'
    AND datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid
"""
_INDEXES = """
    SELECT indrelid::regclass::text, indexrelid::regclass::text
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE relnamespace = current_schema()::regnamespace AND indisprimary
"""
_STRANDED = """
    SELECT 'attempts', job_seq FROM attempts WHERE job_seq NOT IN (SELECT seq FROM jobs)
    UNION ALL SELECT 'dlq', job_seq FROM dlq WHERE job_seq NOT IN (SELECT seq FROM jobs)
"""


def _seconds(instant: str | datetime) -> float:
    if isinstance(instant, datetime):
        return instant.timestamp()
    return datetime.fromisoformat(instant).replace(tzinfo=UTC).timestamp()
