"""``queuectl db copy``, run as a user runs it: to PostgreSQL and back, refused, killed, resumed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests import servers
from tests.cli.conftest import Program
from tests.waiting import wait_until

_NAME = "queuectl_test_copy"


@pytest.fixture
def url(queuectl: Program) -> Iterator[str]:
    """The URL of an empty store on the server."""
    with servers.new_database(_NAME) as found:
        queuectl("--db", found, "db", "upgrade")
        yield found


@pytest.fixture
def used(queuectl: Program) -> Program:
    """A store with a finished job, a dead one, a waiting one and an option."""
    queuectl("config", "set", "max-retries", "0")
    queuectl("enqueue", "--id", "a", "--", "echo", "hello")
    queuectl("enqueue", "--id", "b", "--", "false")
    queuectl.drain()
    terms = ("--retry-on", "75", "--stall", "1h")
    queuectl("enqueue", "--id", "c", "--queue", "other", *terms, "--", "true")
    return queuectl


def test_a_store_moves_to_a_server_and_back(used: Program, url: str, tmp_path: Path) -> None:
    back = str(tmp_path / "back" / "queue.db")
    before = used("list", "--json").json

    told = used("db", "copy", "--to", url, "--json").json
    used("--db", url, "db", "copy", "--to", back)

    assert (told["jobs"], told["attempts"], told["dead_letters"]) == (3, 2, 1)
    assert (told["options"], told["queues"], told["output_files"]) == (1, 2, 1)
    assert (told["last_seq"], told["dry_run"], told["resumed"]) == (3, False, False)
    for place in (url, back):
        assert used("--db", place, "list", "--json").json == before
        assert used("--db", place, "logs", "a").out == "hello\n"
        assert used("--db", place, "dlq", "list", "-q").lines == ["b"]
        assert used("--db", place, "audit").code == 0
    used("--db", back, "worker", "start", "--drain")
    assert used("--db", back, "list", "--state", "completed", "-q").lines == ["c", "a"]
    assert used("list", "--json").json == before


def test_without_the_files_the_stored_tail_is_shown(used: Program, tmp_path: Path) -> None:
    place = str(tmp_path / "copy" / "queue.db")

    used("db", "copy", "--to", place, "--without-output")

    told = used("--db", place, "logs", "a")
    assert told.out == "hello\n"
    assert "the last 6 of 6 bytes; it ran on" in told.err


def test_a_dry_run_tells_and_changes_nothing(used: Program, url: str, tmp_path: Path) -> None:
    place = tmp_path / "copy" / "queue.db"

    for to in (str(place), url):
        told = used("db", "copy", "--to", to, "-n", "--json").json
        assert (told["dry_run"], told["jobs"], told["output_files"]) == (True, 3, 1)

    assert not place.parent.exists()
    assert used("--db", url, "list", "-q").lines == []


def test_refusals_name_a_way_out(used: Program, url: str) -> None:
    used("worker", "start", "--detach")
    alive = used("db", "copy", "--to", url, code=4)
    used("worker", "stop")
    used("--db", url, "enqueue", "true")
    full = used("db", "copy", "--to", url, code=4)
    itself = used("db", "copy", "--to", str(used.location), code=2)
    missing = used("--db", "nowhere/queue.db", "db", "copy", "--to", url, code=5)

    assert "1 worker runs on" in alive.err
    assert "worker stop" in alive.err
    assert "is not empty: 1 jobs" in full.err
    assert "cannot be copied to itself" in itself.err
    assert "there is no store at" in missing.err
    assert not (used.folder / "nowhere").exists()


def test_a_database_without_tables_is_to_be_upgraded_first(used: Program) -> None:
    with servers.new_database(f"{_NAME}_bare") as bare:
        told = used("db", "copy", "--to", bare, code=5)

    assert "db upgrade" in told.err
    assert "--db postgresql://" in told.err


def test_no_message_holds_a_password(used: Program) -> None:
    to = "postgresql://me:open-sesame@127.0.0.1:1/queue"

    for words in (["--to", to], ["--to", to, "--json"], ["--to", to, "-n"]):
        told = used("--debug", "db", "copy", *words, code=5)
        assert "postgresql://me@127.0.0.1:1/queue" in told.err
        assert "open-sesame" not in told.out + told.err


def test_a_killed_copy_is_refused_as_a_store_and_resumed(used: Program, url: str) -> None:
    database = url.partition("?")[0].rpartition("/")[2]
    with servers.connect(database) as blocker, blocker.transaction():
        # Whoever reads is let through; the copier waits with its first attempt in its hand.
        blocker.execute("LOCK TABLE attempts IN SHARE MODE")
        copier = used.start("db", "copy", "--to", url)
        with servers.connect(database) as eye:
            wait_until(
                lambda: eye.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database()"
                ).fetchone()
            )
        copier.send_signal(signal.SIGKILL)
        copier.communicate()

    refused = used("--db", url, "status", code=5)
    worker = used("--db", url, "worker", "start", "--drain", code=5)
    upgrade = used("--db", url, "db", "upgrade", code=5)
    check = used("--db", url, "db", "check", code=5)
    told = used("db", "copy", "--to", url, "--json")

    for result in (refused, worker, upgrade, check):
        assert "is an unfinished copy of another store" in result.err
    assert told.json["resumed"]
    assert "goes on where that one stopped" in told.err
    assert used("--db", url, "list", "--json").json == used("list", "--json").json


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(used: Program, tmp_path: Path) -> None:
    place = [str(tmp_path / name / "queue.db") for name in ("one", "two")]

    terminal = used.on_terminal("db", "copy", "--to", place[0])
    terminal.expect_exact("comparing")
    terminal.expect_exact("counts and checksums agree")
    terminal.expect(pexpect.EOF)
    piped = used("db", "copy", "--to", place[1])

    assert "comparing" not in piped.out + piped.err
