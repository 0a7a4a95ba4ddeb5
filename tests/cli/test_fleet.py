"""The commands on a PostgreSQL store: the same as on SQLite, from the upgrade to the logs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command

from queuectl.db import schema
from queuectl.db.models import SCHEMA_REVISION
from queuectl.settings import locate_store
from tests import servers
from tests.cli.conftest import Program
from tests.waiting import wait_until


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of a database without tables."""
    with servers.new_database("queuectl_test_fleet") as found:
        yield found


def test_a_job_goes_its_way_from_the_upgrade_to_the_logs(queuectl: Program, url: str) -> None:
    refused = queuectl("--db", url, "enqueue", "--", "true", code=5)
    assert "queuectl db upgrade" in refused.err
    queuectl("--db", url, "db", "upgrade")
    queuectl("--db", url, "enqueue", "--id", "a", "--", "echo", "hello")

    queuectl("--db", url, "worker", "start", "--drain")

    [job] = queuectl("--db", url, "list", "--json").json
    assert (job["id"], job["state"]) == ("a", "completed")
    assert queuectl("--db", url, "logs", "a").out == "hello\n"
    found = queuectl("--db", url, "doctor", "--json", code=1).json["findings"]
    # The tests' server does not sync; that is all that is not well.
    assert [finding["name"] for finding in found if not finding["ok"]] == ["durability"]


def test_the_output_of_another_machine_is_told_with_its_place(
    queuectl: Program, url: str, tmp_path: Path
) -> None:
    queuectl("--db", url, "db", "upgrade")
    queuectl("--db", url, "enqueue", "--id", "a", "--", "echo", "hello")
    queuectl("--db", url, "worker", "start", "--drain")

    # Another user's home stands for another machine: the files are not there.
    away = tmp_path / "away"
    away.mkdir()
    told = queuectl("--db", url, "logs", "a", variables={"HOME": str(away)})

    assert told.out == "hello\n"
    assert "the last 6 of 6 bytes" in told.err
    assert "/store.logs/1-1.log" in told.err


def wait_for_event(supervisor: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """Read what a supervisor tells until it tells this; the test's time limit ends a vain wait."""
    assert supervisor.stdout is not None
    for line in supervisor.stdout:
        told: dict[str, Any] = json.loads(line)
        if told["event"] == event:
            return told
    raise AssertionError(f"it ended without {event}")


_EXPAND = (
    "ALTER TABLE jobs ADD COLUMN of_tomorrow text",
    "CREATE TABLE tomorrow (day text)",
    "INSERT INTO config (key, value, updated_at) VALUES ('of_tomorrow', '1', now())",
    "UPDATE alembic_version SET version_num = '9999'",
    f"UPDATE store SET revision = '9999', usable_from = '{SCHEMA_REVISION}'",  # noqa: S608  # our own
)


def test_an_old_program_goes_on_with_a_newer_schema_that_lets_it(
    queuectl: Program, url: str, tmp_path: Path
) -> None:
    """Expand: the newer schema says of itself that programs of this one may use it."""
    queuectl("--db", url, "db", "upgrade")
    wait = "until [ -e migrated ]; do sleep 0.1; done"
    queuectl("--db", url, "enqueue", "--id", "before", wait)
    with queuectl.start("--db", url, "worker", "start", "--log-format", "json") as worker:
        wait_for_event(worker, "job-started")

        with psycopg.connect(url, autocommit=True) as newer:
            for statement in _EXPAND:
                newer.execute(statement.encode())
            # Whoever holds a connection must make another.
            newer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        queuectl("--db", url, "enqueue", "--id", "after", "--", "true")
        (queuectl.folder / "migrated").touch()
        assert wait_for_event(worker, "job-completed")["job"] == "before"
        assert wait_for_event(worker, "job-completed")["job"] == "after"
        queuectl("--db", url, "worker", "stop")
        assert worker.wait(timeout=30) == 0

    assert "already at schema 9999" in queuectl("--db", url, "db", "upgrade").out
    assert [option["name"] for option in queuectl("--db", url, "config", "list", "--json").json]
    found = queuectl("--db", url, "doctor", "--json", code=1).json["findings"]
    assert "9999, newer than this program, which may use it" in [f["message"] for f in found]
    # What it does not know it cannot compare, nor carry over.
    away = str(tmp_path / "away" / "queue.db")
    for words in (["db", "check"], ["db", "copy", "--to", away]):
        refused = queuectl("--db", url, *words, code=5)
        assert "has schema 9999, which is newer than this program's" in refused.err


def test_a_newer_schema_that_says_nothing_of_itself_is_refused(queuectl: Program, url: str) -> None:
    queuectl("--db", url, "db", "upgrade")
    with psycopg.connect(url, autocommit=True) as newer:
        for statement in _EXPAND[:-1]:
            newer.execute(statement.encode())

    for words in (["status"], ["db", "upgrade"], ["worker", "start", "--drain"]):
        refused = queuectl("--db", url, *words, code=5)
        assert "has schema 9999, which is newer than this program's" in refused.err


def test_a_newer_program_is_refused_by_an_older_schema(queuectl: Program, url: str) -> None:
    location = locate_store(url)
    with schema.migrating(location) as connection:
        config = schema.alembic_config(location)
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")

    refused = queuectl("--db", url, "status", code=5)
    queuectl("--db", url, "db", "upgrade")

    assert f"has schema 0003, and this program needs {SCHEMA_REVISION}" in refused.err
    assert "queuectl db upgrade" in refused.err
    assert queuectl("--db", url, "list", "-q").lines == []


def test_an_old_worker_works_with_a_newer_schema_for_as_long_as_its_connection_holds(
    queuectl: Program, url: str
) -> None:
    queuectl("--db", url, "db", "upgrade")
    wait = "until [ -e migrated ]; do sleep 0.1; done"
    queuectl("--db", url, "enqueue", "--id", "before", wait)
    with queuectl.start("--db", url, "worker", "start", "--log-format", "json") as worker:
        wait_for_event(worker, "job-started")

        with psycopg.connect(url, autocommit=True) as newer:
            newer.execute("ALTER TABLE jobs ADD COLUMN of_tomorrow text")
            newer.execute("UPDATE alembic_version SET version_num = '9999'")
            refused = queuectl("--db", url, "enqueue", "--", "true", code=5)
            assert "has schema 9999, which is newer than this program's" in refused.err
            newer.execute(
                "INSERT INTO jobs (id, queue, command, cwd, state, priority, run_at, runs,"
                " attempts, max_retries, crashes, created_at, updated_at, version, of_tomorrow)"
                " SELECT 'after', queue, 'true', cwd, 'pending', priority, run_at, 0, 0,"
                " max_retries, crashes, created_at, updated_at, 1, 'new' FROM jobs"
            )
            (queuectl.folder / "migrated").touch()
            assert wait_for_event(worker, "job-completed")["job"] == "before"
            assert wait_for_event(worker, "job-completed")["job"] == "after"

            newer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert (
                "has schema 9999, which is newer" in wait_for_event(worker, "store-away")["error"]
            )
            newer.execute("UPDATE alembic_version SET version_num = %s", [SCHEMA_REVISION])
            wait_for_event(worker, "store-back")

        queuectl("--db", url, "worker", "stop")
        assert worker.wait(timeout=30) == 0


def test_the_doctor_names_a_session_that_keeps_a_transaction_open(
    queuectl: Program, url: str
) -> None:
    """P4: for longer than any transaction of queuectl's."""
    queuectl("--db", url, "db", "upgrade")

    def look() -> list[dict[str, Any]]:
        # Not well, in any case: the tests' server does not sync.
        found = queuectl("--db", url, "doctor", "--json", code=1).json["findings"]
        [finding] = [finding for finding in found if finding["name"] == "transactions"]
        return [] if finding["ok"] else [finding]

    with psycopg.connect(url, application_name="nightly-report") as idler:
        idler.execute("SELECT count(*) FROM jobs")
        [told] = wait_until(look)
        session = f"session {idler.info.backend_pid} of postgres (nightly-report) for "

    assert session in told["message"]
    assert "pg_terminate_backend" in told["hint"]
    assert look() == []


def test_names_of_jobs_on_a_server_are_completed(queuectl: Program, url: str) -> None:
    queuectl("--db", url, "db", "upgrade")
    for name in ("cut-a", "cut-a", "cut-b", "paint"):
        queuectl("--db", url, "enqueue", "--name", name, "true")

    asked = ("--db", url, "enqueue", "--name", "cut")
    offered = queuectl(*asked, variables={"_QUEUECTL_COMPLETE": "fish"}).lines

    assert offered == ["cut-a", "cut-b"]
