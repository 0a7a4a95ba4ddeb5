"""What stands where the store should be and is none: refused by name, never written over (S5)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from queuectl.db.engine import open_store
from queuectl.errors import StoreError
from queuectl.settings import StoreLocation
from tests.jobs import add


def write_foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE jobs (id)")
        connection.commit()


def refuse(location: StoreLocation) -> StoreError:
    """Open the store, which must not succeed and must tell the file's name."""
    with pytest.raises(StoreError) as caught:
        open_store(location)
    error = caught.value
    assert error.exit_code == 5
    assert error.message.startswith(str(location))
    assert "\n" not in error.message
    assert error.hint
    return error


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (Path.touch, "it is empty"),
        (lambda path: path.write_text("# a note, not a database\n"), "not an SQLite database"),
        (lambda path: path.write_bytes(b"SQLite"), "not an SQLite database"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"x" * 5000), "not a queuectl store"),
        (write_foreign_database, "another program's SQLite database"),
        (Path.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),
    ],
    ids=["empty", "a text", "cut off in the magic", "garbage", "foreign", "folder", "pipe"],
)
def test_what_is_no_store_is_refused_and_left_as_it_is(
    location: StoreLocation, write: Callable[[Path], None], reason: str
) -> None:
    """S5: by name, and never written over."""
    location.folder.mkdir()
    write(location.path)
    before = location.path.stat()

    error = refuse(location)

    assert reason in error.message
    after = location.path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )


@pytest.mark.parametrize("kept", [100, 4096, 20_000])
def test_a_store_that_was_cut_off_is_refused_and_left_as_it_is(
    location: StoreLocation, kept: int
) -> None:
    """S5: a truncated store is not taken for an empty one."""
    with closing(open_store(location)) as store:
        add(store)
    os.truncate(location.path, kept)
    before = location.path.read_bytes()

    refuse(location)

    assert location.path.read_bytes() == before


def test_a_link_to_nowhere_is_refused_and_stays(location: StoreLocation, tmp_path: Path) -> None:
    """S5: no store is made behind a link whose target is away."""
    location.folder.mkdir()
    location.path.symlink_to(tmp_path / "not mounted" / "queue.db")

    refuse(location)

    assert location.path.is_symlink()


def test_a_file_where_the_folder_should_be_is_refused(location: StoreLocation) -> None:
    """S5: the folder's place may be taken too."""
    location.folder.write_text("a file")

    refuse(location)

    assert location.folder.read_text() == "a file"


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    refuse(StoreLocation(tmp_path / ("x" * 300), "test"))


def test_a_store_that_vanished_is_not_made_anew(location: StoreLocation) -> None:
    """S5: not even by a process that had it open."""
    store = open_store(location)
    add(store)
    store.close()
    location.path.unlink()

    with pytest.raises(StoreError, match="cannot be opened"):
        add(store)

    assert not location.path.exists()
