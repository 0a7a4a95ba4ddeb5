"""``queuectl db backup``: whole, while workers are busy, and fit to go on with."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from queuectl.db import sqlite
from tests import servers
from tests.cli.conftest import Program
from tests.jobs import until
from tests.waiting import wait_until


@pytest.fixture
def url(queuectl: Program) -> Iterator[str]:
    with servers.new_database("queuectl_test_backup") as found:
        queuectl("--db", found, "db", "upgrade")
        yield found


def on_copy(queuectl: Program, *words: str, code: int = 0) -> object:
    return queuectl("--db", "copy.db", *words, code=code)


def test_a_backup_under_load_is_whole_and_its_jobs_run(queuectl: Program, tmp_path: Path) -> None:
    count = 500
    queuectl("enqueue", "--file", "-", given='{"command": "sleep 0.02; echo x"}\n' * count)
    supervisor = queuectl.start("worker", "start", "--count", "2", "--drain")
    completed = "SELECT count(*) FROM jobs WHERE state = 'completed'"

    def done(path: Path) -> int:
        with closing(sqlite.LIBRARY.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute(completed).fetchone()[0])

    wait_until(lambda: done(queuectl.location.path) > 20)
    copies = []
    for number in range(3):
        path = tmp_path / f"copy-{number}.db"
        told = queuectl("db", "backup", str(path), "--json").json
        assert told["jobs"] == count
        assert told["size_bytes"] == path.stat().st_size
        copies.append(path)
    supervisor.communicate(timeout=60)

    assert done(queuectl.location.path) == count
    for path in copies:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [entry.name for entry in tmp_path.glob(f"{path.name}*")] == [path.name]
    assert 20 < done(copies[0]) < count
    queuectl("--db", str(copies[0]), "doctor")
    queuectl("--db", str(copies[0]), "worker", "start", "--count", "2", "--drain")
    queuectl("--db", str(copies[0]), "audit")
    assert done(copies[0]) == count


def test_a_worker_on_the_copy_leaves_the_original_alone(queuectl: Program, tmp_path: Path) -> None:
    go = tmp_path / "go"
    queuectl("enqueue", "--id", "runs", "--max-retries", "0", until(go))
    supervisor = queuectl.start("worker", "start", "--drain")
    wait_until(lambda: queuectl("show", "runs", "--json").json["state"] == "processing")

    told = queuectl("db", "backup", "copy.db")
    on_copy(queuectl, "config", "set", "max-crashes", "0")
    on_copy(queuectl, "worker", "start", "--drain")

    assert told.lines == ["copy.db"]
    assert "output files are not in it" in told.err
    shown = queuectl("--db", "copy.db", "show", "runs", "--json").json
    assert (shown["state"], shown["history"][0]["outcome"]) == ("dead", "lost")
    on_copy(queuectl, "audit")
    assert queuectl("show", "runs", "--json").json["state"] == "processing"
    go.touch()
    supervisor.communicate(timeout=30)
    assert queuectl("show", "runs", "--json").json["state"] == "completed"


def test_the_copy_has_the_journal_mode_of_a_new_store(queuectl: Program, tmp_path: Path) -> None:
    queuectl("db", "backup", "copy.db")

    with closing(sqlite.LIBRARY.connect(str(tmp_path / "copy.db"))) as connection:
        [mode] = connection.execute("PRAGMA journal_mode").fetchone()
    assert mode == sqlite.journal_mode()
    assert (tmp_path / "copy.db").stat().st_uid == os.geteuid()


def test_what_is_there_is_replaced_only_by_force(queuectl: Program, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    file.write_text("mine")

    refused = queuectl("db", "backup", "copy.db", code=4)

    assert "copy.db is there already" in refused.err
    assert file.read_text() == "mine"
    queuectl("enqueue", "--id", "a", "true")
    queuectl("db", "backup", "copy.db", "--force")
    assert queuectl("--db", "copy.db", "list", "-q").lines == ["a"]


def test_no_store_in_use_is_written_over(queuectl: Program, tmp_path: Path) -> None:
    queuectl("db", "backup", "copy.db")
    with closing(sqlite.LIBRARY.connect(str(tmp_path / "copy.db"))) as connection:
        connection.execute("DELETE FROM queues")
        connection.commit()
        connection.execute("SELECT count(*) FROM jobs").fetchone()

        refused = queuectl("db", "backup", "copy.db", "--force", code=4)

    assert "copy.db is a database that is open" in refused.err
    itself = str(queuectl.location.path)
    assert "is the store itself" in queuectl("db", "backup", itself, "--force", code=2).err
    assert not list(tmp_path.glob("**/*.part*"))


def test_a_backup_that_cannot_be_written_leaves_nothing(queuectl: Program, tmp_path: Path) -> None:
    assert "cannot be written" in queuectl("db", "backup", "no/such/copy.db", code=5).err
    assert "is a folder" in queuectl("db", "backup", str(tmp_path / "store"), code=4).err
    assert "names no file" in queuectl("db", "backup", "", code=2).err
    assert "there is no store" in queuectl("--db", "none.db", "db", "backup", "x.db", code=5).err
    assert not list(tmp_path.glob("*.db*"))


def test_what_a_killed_backup_left_is_written_over(queuectl: Program, tmp_path: Path) -> None:
    part = tmp_path / "copy.db.part"
    part.write_bytes(b"half of an earlier one")

    queuectl("db", "backup", "copy.db")

    assert not part.exists()
    assert queuectl("--db", "copy.db", "list", "--json").json == []


def test_a_store_on_a_server_names_its_own_program(queuectl: Program, url: str) -> None:
    refused = queuectl("--db", url, "db", "backup", "copy.db", code=1)

    assert "is on a server" in refused.err
    assert "pg_dump" in refused.err
