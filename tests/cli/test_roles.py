"""Least privilege: the grants of docs/fleet.md suffice for what each role is for, and no more."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tests import servers
from tests.cli.conftest import Program
from tests.waiting import wait_until

_PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"
_ROLES = ("owner", "worker", "client", "reader")
_HINT = "hint: this role may not do that: use one that may, or see the grants in docs/fleet.md"
#: The page's database and roles; a server has room for one of each name.
_OWN_NAME = f"queue_{os.getpid()}"

#: Gives the URL of a role that has been made.
UrlOf = Callable[[str], str]


def statements(block: str) -> list[str]:
    """Return the statements of a block of the page, with names of this process's own."""
    found = re.search(rf"<!-- {block} -->\n```sql\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert found is not None, f"{_PAGE} has no {block}"
    text = re.sub(r"--.*", "", found[1])
    text = re.sub(r"\bqueue(?=\b|_)", _OWN_NAME, text)
    return [part.strip() for part in text.split(";") if part.strip()]


def execute(connection: psycopg.Connection[tuple[object, ...]], block: str) -> None:
    for statement in statements(block):
        connection.execute(statement.encode())


@pytest.fixture
def url_of(queuectl: Program) -> Iterator[UrlOf]:
    """A database that was set up as the page says."""

    def url_of_role(role: str) -> str:
        url = urlsplit(servers.url_of(_OWN_NAME))
        host = url.netloc.rpartition("@")[2]
        return url._replace(netloc=f"{_OWN_NAME}_{role}:not-secret@{host}").geturl()

    try:
        with servers.connect() as admin:
            execute(admin, "roles")
            for role in _ROLES:
                admin.execute(f"ALTER ROLE {_OWN_NAME}_{role} PASSWORD 'not-secret'".encode())
        queuectl("--db", url_of_role("owner"), "db", "upgrade")
        with psycopg.connect(url_of_role("owner"), autocommit=True) as owner:
            execute(owner, "grants")
        yield url_of_role
    finally:
        with servers.connect() as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {_OWN_NAME} WITH (FORCE)".encode())
            for role in _ROLES:
                admin.execute(f"DROP ROLE IF EXISTS {_OWN_NAME}_{role}".encode())


def assert_refused(queuectl: Program, url: str, *words: str) -> None:
    """The command is refused by the server: one line, the hint, and nothing on stdout."""
    done = queuectl("--db", url, *words, code=5)
    assert len(done.err.splitlines()) == 2, done.err
    error, hint = done.err.splitlines()
    assert re.fullmatch(r"error: postgresql://.* permission denied for \S+ \S+", error), error
    assert hint == _HINT
    assert done.out == ""


def test_each_role_can_do_its_work_and_no_more(queuectl: Program, url_of: UrlOf) -> None:
    owner, worker, client, reader = map(url_of, _ROLES)
    batch = '{"command": "false", "max_retries": 0}\n{"command": "true", "queue": "other"}\n'

    queuectl("--db", client, "enqueue", "--id", "a", "--", "echo", "hello")
    queuectl("--db", client, "enqueue", "--id", "a", "--", "echo", "hello")
    queuectl("--db", client, "enqueue", "--file", "-", given=batch)
    for words in (["list"], ["status"], ["logs", "a"], ["config", "set", "lease", "10"]):
        assert_refused(queuectl, client, *words)
    assert_refused(queuectl, client, "worker", "start", "--drain")

    for line in ("start --drain", "stop", "start --detach", "scale 2", "drain"):
        queuectl("--db", worker, "worker", *line.split())
    lease = ["config", "set", "lease", "10"]
    for words in (["enqueue", "--", "true"], ["dlq", "retry", "--all"], lease):
        assert_refused(queuectl, worker, *words)

    for words in (["status"], ["list"], ["show", "a"], ["dlq", "list"], ["db", "check"]):
        queuectl("--db", reader, *words)
    pausing = ["queue", "pause", "--all", "-n"]
    for words in (["queue", "list"], pausing, ["explain", "a"], ["worker", "list"], ["audit"]):
        queuectl("--db", reader, *words)
    queuectl("--db", reader, "config", "list")
    assert queuectl("--db", reader, "logs", "a").out == "hello\n"
    found = queuectl("--db", reader, "doctor", "--json", code=1).json["findings"]
    # The tests' server does not sync; that is all that is not well.
    assert [finding["name"] for finding in found if not finding["ok"]] == ["durability"]
    for words in (["enqueue", "--", "true"], ["dlq", "retry", "--all"], ["queue", "pause", "q"]):
        assert_refused(queuectl, reader, *words)
    for words in (lease, ["worker", "start", "--drain"]):
        assert_refused(queuectl, reader, *words)

    queuectl("--db", owner, "dlq", "retry", "--all")
    queuectl("--db", owner, "config", "set", "lease", "10")
    queuectl("--db", owner, "enqueue", "--queue", "rated", "--", "true")
    queuectl("--db", owner, "set", "last", "priority=5")
    for words in (
        ["rate", "rated", "1/h"],
        ["limit", "default", "1"],
        ["pause", "other"],
        ["purge", "other"],
    ):
        queuectl("--db", owner, "queue", *words)
    queuectl("--db", worker, "worker", "start", "--drain")  # it may count what runs in a queue
    states = [job["state"] for job in queuectl("--db", reader, "list", "--json").json]
    assert sorted(states) == ["completed", "completed", "completed", "dead"]
    assert_refused(queuectl, worker, "queue", "rate", "rated", "none")
    queuectl("--db", owner, "enqueue", "--hold", "--", "true")
    assert_refused(queuectl, reader, "set", "last", "priority=5")


def test_a_client_may_let_jobs_wait_for_others_and_a_worker_lets_them_go(
    queuectl: Program, url_of: UrlOf
) -> None:
    _, worker, client, reader = map(url_of, _ROLES)
    queuectl("--db", client, "enqueue", "--id", "a", "--max-retries", "0", "--", "false")
    queuectl("--db", client, "enqueue", "--id", "b", "--after", "a", "--", "true")
    queuectl("--db", client, "enqueue", "--id", "c", "--after", "b", "--", "true")
    words = ("enqueue", "--id", "d", "--after-failure", "a", "--stdin", "--", "cat")
    queuectl("--db", client, *words, given="in")
    queuectl("--db", client, "enqueue", "--id", "e", "--deadline", "100ms", "--hold", "true")

    queuectl("--db", worker, "worker", "start", "--drain")

    found = {job["id"]: job["state"] for job in queuectl("--db", reader, "list", "--json").json}
    assert [found[job_id] for job_id in "abcde"] == [
        "dead",
        "cancelled",
        "cancelled",
        "completed",
        "dead",
    ]
    assert queuectl("--db", reader, "logs", "d").out.strip() == "in"
    queuectl("--db", reader, "tree", "a")


def test_a_worker_may_keep_outputs_in_the_database_and_a_reader_read_them(
    queuectl: Program, url_of: UrlOf, tmp_path: Path
) -> None:
    owner, worker, client, reader = map(url_of, _ROLES)
    queuectl("--db", owner, "config", "set", "output-store", "database")
    queuectl("--db", client, "enqueue", "--id", "a", "sleep 1.5; seq 30000")

    queuectl("--db", worker, "worker", "start", "--drain")

    (tmp_path / "away").mkdir()
    away = {"HOME": str(tmp_path / "away")}
    told = queuectl("--db", reader, "logs", "a", variables=away)
    assert told.lines == [str(number) for number in range(1, 30_001)]
    assert_refused(queuectl, client, "logs", "a")


def test_a_worker_that_may_not_delete_says_so_and_works_on(
    queuectl: Program, url_of: UrlOf
) -> None:
    owner, worker, client, reader = map(url_of, _ROLES)
    queuectl("--db", client, "enqueue", "--id", "a", "true")
    queuectl("--db", worker, "worker", "start", "--drain")
    queuectl("--db", owner, "config", "set", "retention-completed", "0.001s")
    queuectl("--db", client, "enqueue", "--id", "b", "true")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"REVOKE DELETE ON jobs FROM {_OWN_NAME}_worker".encode())

    told = queuectl("--db", worker, "worker", "start", "--drain")

    assert "deletes nothing" in told.out
    assert queuectl("--db", reader, "list", "-q").lines == ["b", "a"]
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"GRANT DELETE ON jobs TO {_OWN_NAME}_worker".encode())
    told = queuectl("--db", worker, "worker", "start", "--drain")
    assert "deleted 2 jobs" in told.out
    assert queuectl("--db", reader, "list", "-q").lines == []


def test_a_worker_that_may_not_enqueue_serves_no_schedule_and_one_that_may_does(
    queuectl: Program, url_of: UrlOf
) -> None:
    owner, worker, client, reader = map(url_of, _ROLES)
    words = ("--every", "1s", "--overlap", "cancel-old", "--tag", "t", "--queue", "new", "true")
    for url in (worker, client, reader):
        assert_refused(queuectl, url, "schedule", "add", "s", *words)
    queuectl("--db", owner, "schedule", "add", "s", *words)
    fed = ("--every", "1s", "--unique", "k", "--stdin", "--", "cat")
    queuectl("--db", owner, "schedule", "add", "fed", *fed, given="input")
    queuectl("--db", client, "enqueue", "--id", "a", "true")
    due = "UPDATE schedules SET starts_at = starts_at - interval '1h', next_at = starts_at"
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(due.encode())

    told = queuectl("--db", worker, "worker", "start", "--drain")

    assert "serves no schedule: " in told.out
    assert queuectl("--db", reader, "list", "-q").lines == ["a"]
    with psycopg.connect(owner, autocommit=True) as connection:
        execute(connection, "grants for schedules")
    queuectl("--db", worker, "worker", "start", "--drain")
    found = queuectl("--db", reader, "list", "--json").json
    assert {job["schedule"] for job in found if job["id"] != "a"} == {"s", "fed"}
    assert {job["stdin_bytes"] for job in found if job["schedule"] == "fed"} == {5}
    assert queuectl("--db", reader, "schedule", "show", "s", "--json").json["last_at"] is not None


def test_a_worker_cannot_change_what_a_command_is(url_of: UrlOf) -> None:
    with (
        psycopg.connect(url_of("worker"), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("UPDATE jobs SET command = 'rm -r /srv'")


def test_who_could_not_be_shown_what_it_has_stored_stores_nothing(
    queuectl: Program, url_of: UrlOf
) -> None:
    (queuectl.folder / "batch").write_text('{"command": "true"}\n')

    for words in (["true"], ["--id", "a", "--", "true"], ["--file", "batch"]):
        assert_refused(queuectl, url_of("client"), "enqueue", "--json", *words)

    assert queuectl("--db", url_of("reader"), "list", "--json").json == []
    with psycopg.connect(url_of("owner"), autocommit=True) as owner:
        grant = f"GRANT SELECT ON jobs TO {_OWN_NAME}_client"
        owner.execute(grant.encode())
    told = queuectl("--db", url_of("client"), "enqueue", "--json", "--id", "a", "--", "true")
    assert told.json["id"] == "a"


def test_what_is_stored_is_acknowledged_though_nothing_can_be_told_of_workers(
    queuectl: Program, url_of: UrlOf
) -> None:
    with psycopg.connect(url_of("owner"), autocommit=True) as owner:
        revoke = f"REVOKE SELECT (lease_expires_at) ON workers FROM {_OWN_NAME}_client"  # noqa: S608  # our own name
        owner.execute(revoke.encode())

    told = queuectl("--db", url_of("client"), "enqueue", "--id", "a", "true")

    assert (told.out, told.err) == ("a\n", "")


def test_only_the_owner_can_upgrade(queuectl: Program, url_of: UrlOf) -> None:
    with psycopg.connect(url_of("owner"), autocommit=True) as connection:
        connection.execute("DROP TABLE alembic_version")

    assert_refused(queuectl, url_of("worker"), "db", "upgrade")


def is_busy(status: dict[str, Any]) -> bool:
    return (status["workers_alive"], status["states"]["processing"]) == (3, 1)


def test_a_worker_keeps_one_connection(queuectl: Program, url_of: UrlOf) -> None:
    queuectl("--db", url_of("client"), "enqueue", "--", "sleep", "60")
    supervisor = queuectl.start("--db", url_of("worker"), "worker", "start", "--count", "3")
    ask = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"

    with servers.connect() as admin:
        wait_until(lambda: is_busy(queuectl("--db", url_of("reader"), "status", "--json").json))
        assert admin.execute(ask, [f"{_OWN_NAME}_worker"]).fetchone() == (3,)

    queuectl("--db", url_of("worker"), "worker", "stop", "--now")
    supervisor.communicate(timeout=30)
