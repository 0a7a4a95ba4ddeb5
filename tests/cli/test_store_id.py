"""One machine's folder of a database is named by the database, whatever URL leads there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from queuectl.db import schema
from queuectl.settings import locate_store
from tests import servers
from tests.cli.conftest import Program
from tests.waiting import wait_until

_NAME = "queuectl_test_id"


@pytest.fixture
def url(queuectl: Program) -> Iterator[str]:
    """The URL of an empty store."""
    with servers.new_database(_NAME) as found:
        queuectl("--db", found, "db", "upgrade")
        yield found


def alias_of(url: str) -> str:
    """Return another URL of the same database."""
    return f"{url}{'&' if '?' in url else '?'}application_name=alias&sslmode=prefer"


def folders(queuectl: Program) -> list[Path]:
    """Return the folders of databases on this machine; links are none."""
    found = queuectl.folder.glob(".queuectl/postgresql-*")
    return [path for path in found if not path.is_symlink()]


def test_workers_of_two_urls_find_each_others_locks(queuectl: Program, url: str) -> None:
    """Who was killed with its supervisor is noticed at once, though its lease is of a day."""
    other = alias_of(url)
    assert locate_store(other, {}).folder != locate_store(url, {}).folder
    queuectl("--db", url, "config", "set", "lease", "1d")
    queuectl("--db", url, "enqueue", "--id", "a", "[ $QUEUECTL_ATTEMPT = 2 ] || sleep 600")
    supervisor = int(queuectl("--db", url, "worker", "start", "--detach").out)
    wait_until(lambda: state_of(queuectl, url) == "processing")
    [worker] = queuectl("--db", url, "worker", "list", "--json").json

    for pid in (supervisor, worker["pid"]):
        os.kill(pid, signal.SIGKILL)
    queuectl("--db", other, "worker", "start", "--detach")

    wait_until(lambda: state_of(queuectl, url) == "completed")
    history = queuectl("--db", other, "show", "a", "--json").json["history"]
    assert [attempt["outcome"] for attempt in history] == ["lost", "completed"]
    assert len(folders(queuectl)) == 1
    queuectl("--db", url, "worker", "stop")


def state_of(queuectl: Program, url: str) -> str:
    return str(queuectl("--db", url, "show", "a", "--json").json["state"])


def test_an_output_is_found_by_another_url(queuectl: Program, url: str) -> None:
    queuectl("--db", url, "enqueue", "--id", "a", "seq 5000")
    queuectl("--db", url, "worker", "start", "--drain")

    told = queuectl("--db", alias_of(url), "logs", "a")

    assert (len(told.lines), told.err) == (5000, "")


def test_a_database_that_is_made_anew_does_not_inherit_outputs(queuectl: Program, url: str) -> None:
    queuectl("--db", url, "enqueue", "--id", "old", "echo of yesterday")
    queuectl("--db", url, "worker", "start", "--drain")
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("DROP SCHEMA public CASCADE")
        owner.execute("CREATE SCHEMA public")
    queuectl("--db", url, "db", "upgrade")
    queuectl("--db", url, "enqueue", "--id", "new", "true")
    queuectl("--db", url, "worker", "start", "--drain")

    assert queuectl("--db", url, "logs", "new").out == ""
    assert len(folders(queuectl)) == 2


def test_a_folder_of_an_earlier_version_is_taken_over(
    queuectl: Program, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(queuectl.folder))
    folder = locate_store(url, {}).folder
    logs = folder / "store.logs"
    logs.mkdir(parents=True, mode=0o700)
    (folder / "store.workers").mkdir(mode=0o700)
    (logs / "1-1.log").write_text("of an earlier version\n")
    queuectl("--db", url, "enqueue", "--id", "a", "true")
    queuectl("--db", url, "worker", "start", "--drain")

    assert queuectl("--db", url, "logs", "a").out == "of an earlier version\n"
    assert folder.is_symlink()


def test_a_store_is_not_copied_to_itself_by_another_url(queuectl: Program, url: str) -> None:
    refused = queuectl("--db", url, "db", "copy", "--to", alias_of(url), code=2)

    assert "cannot be copied to itself" in refused.err
    assert queuectl("--db", url, "list", "-q").lines == []


def test_a_copy_has_an_id_of_its_own(queuectl: Program, url: str, tmp_path: Path) -> None:
    place = str(tmp_path / "copy" / "queue.db")
    queuectl("--db", url, "db", "copy", "--to", place)

    assert id_of(url) != id_of(place)


def id_of(name: str) -> str:
    location = locate_store(name, {})
    with servers.bare_connection(location) as connection:
        [found] = connection.execute("SELECT id FROM store").fetchone()
    assert isinstance(found, str)
    assert schema.is_there(location)
    return found
