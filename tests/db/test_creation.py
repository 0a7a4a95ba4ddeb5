"""A store is created at first use: private, whole, and by one of those who come at once."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from queuectl.db import sqlite
from queuectl.db.engine import Store, open_store
from queuectl.errors import StoreError
from queuectl.service import jobs
from queuectl.settings import StoreLocation
from tests.jobs import add
from tests.scripts import await_ready, start_script


@pytest.fixture(params=[0o000, 0o077, 0o777], ids=["umask 000", "umask 077", "umask 777"])
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {path.name: stat.filemode(path.lstat().st_mode) for path in folder.iterdir()}


@pytest.mark.usefixtures("umask")
def test_a_store_is_readable_by_its_owner_alone_whatever_the_umask(location: StoreLocation) -> None:
    with closing(open_store(location)) as store:
        add(store)
        found = modes(location.folder)

    assert stat.filemode(location.folder.stat().st_mode) == "drwx------"
    assert found.pop("queue.db.logs") == found.pop("queue.db.workers") == "drwx------"
    assert found == dict.fromkeys(
        ["queue.db", "queue.db-wal", "queue.db-shm", "queue.db.lock", "queue.db.bell"],
        "-rw-------",
    )


@pytest.mark.usefixtures("umask")
def test_folders_on_the_way_to_a_new_store_are_private_too(tmp_path: Path) -> None:
    location = StoreLocation(tmp_path / "a" / "b" / "queue.db", "test")

    open_store(location).close()

    assert modes(tmp_path)["a"] == modes(tmp_path / "a")["b"] == "drwx------"


def test_a_folder_that_was_there_keeps_its_mode(location: StoreLocation) -> None:
    location.folder.mkdir()
    location.folder.chmod(0o755)

    open_store(location).close()

    assert stat.filemode(location.folder.stat().st_mode) == "drwxr-xr-x"
    assert stat.filemode(location.path.stat().st_mode) == "-rw-------"


def test_a_new_store_syncs_fully_and_says_whose_it_is(store: Store) -> None:
    def pragma(name: str) -> object:
        return store.read(lambda c: c.exec_driver_sql(f"PRAGMA {name}").scalar())

    assert pragma("journal_mode") == sqlite.journal_mode()
    assert pragma("synchronous") == 2
    assert pragma("foreign_keys") == 1
    assert pragma("application_id") == sqlite.APPLICATION_ID


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "when",
    ["openat:when=1", "pwrite64:when=9", "pwrite64:when=50", "fsync:when=4", "rename:when=1"],
)
def test_a_creation_that_is_killed_leaves_no_half_store(
    location: StoreLocation, tmp_path: Path, when: str
) -> None:
    location.folder.mkdir()
    draft = location.path.with_name("queue.db.new")
    call = when.split(":")[0]
    wal = f"{draft}-wal"
    under = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-P", str(draft), "-P", wal]
    under += ["-e", f"trace={call}", "-e", f"inject={when}:signal=KILL"]

    process = start_script(tmp_path, location.path, "open_store(location)", under=under)
    process.communicate(timeout=60)

    assert process.returncode == -signal.SIGKILL
    assert not location.path.exists()
    with closing(open_store(location)) as store:
        assert add(store, id="after").id == "after"
    assert not draft.exists()


def test_processes_that_create_a_store_at_once_share_it(
    location: StoreLocation, tmp_path: Path
) -> None:
    code = """
ready()
jobs.enqueue(open_store(location), [JobRequest(command="true")], cwd=None)
"""
    processes = [start_script(tmp_path, location.path, code) for _ in range(5)]
    for process in processes:
        await_ready(process)

    complaints = [process.communicate("go\n", timeout=60)[1] for process in processes]

    assert complaints == [""] * 5
    with closing(open_store(location)) as store:
        assert len(jobs.list_jobs(store)) == 5


def test_a_folder_of_the_output_that_is_a_link_is_refused(location: StoreLocation) -> None:
    location.folder.mkdir()
    elsewhere = location.folder.parent / "elsewhere"
    elsewhere.mkdir()
    location.logs.symlink_to(elsewhere)

    with pytest.raises(StoreError, match="not a folder of yours"):
        open_store(location)

    assert not location.path.exists()


def test_a_lock_file_that_is_a_link_is_not_followed(location: StoreLocation) -> None:
    location.folder.mkdir()
    victim = location.folder.parent / "victim"
    location.lock.symlink_to(victim)

    with pytest.raises(StoreError, match="cannot be created"):
        open_store(location)

    assert not victim.exists()


def test_a_store_may_be_a_link_to_another_place(location: StoreLocation, tmp_path: Path) -> None:
    real = StoreLocation(tmp_path / "disk" / "real.db", "test")
    open_store(real).close()
    location.folder.mkdir()
    location.path.symlink_to(real.path)

    with closing(open_store(location)) as store:
        add(store, id="a")

    assert location.path.is_symlink()
    with closing(open_store(real)) as store:
        assert jobs.find(store, "a").id == "a"


def test_two_stores_in_one_folder_share_nothing(location: StoreLocation) -> None:
    other = StoreLocation(location.folder / "other.db", "test")

    with closing(open_store(location)) as store, closing(open_store(other)) as second:
        add(store, id="a")
        add(second, id="b")

        assert [job.id for job in jobs.list_jobs(store)] == ["a"]
        assert [job.id for job in jobs.list_jobs(second)] == ["b"]

    ours = {location.path, location.lock, location.bell, location.logs, location.workers}
    theirs = {other.path, other.lock, other.bell, other.logs, other.workers}
    assert ours.isdisjoint(theirs)
    assert set(location.folder.iterdir()) == ours | theirs
