"""The library below: which versions are sound, and what its errors mean to a user (S7)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from queuectl.db import sqlite
from queuectl.db.engine import Store, open_store
from queuectl.errors import StoreUnavailable
from queuectl.settings import StoreLocation
from tests.jobs import add
from tests.scripts import run_script

#: Runs before a script's own imports of queuectl would find the bundled library.
_STANDARD_LIBRARY = """
try:
    store = open_store(location)
    print(store.read(lambda c: c.exec_driver_sql("PRAGMA journal_mode").scalar()))
    jobs.enqueue(store, [JobRequest(command="true")], cwd=None)
except QueuectlError as error:
    print(f"{error.exit_code}: {error.message}")
"""


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_libraries_with_the_wal_reset_bug_are_known(version: tuple[int, ...], sound: bool) -> None:
    assert sqlite.library_is_sound(version) is sound


STANDARD_IS_SOUND = sqlite.library_is_sound(sqlite3.sqlite_version_info)


def run_with_standard_library(tmp_path: Path, location: StoreLocation) -> str:
    """Use the store with the standard library's SQLite, as where there is no wheel."""
    blocked = tmp_path / "blocked" / "pysqlite3"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('no wheel for this platform')\n")
    under = ["env", f"PYTHONPATH={blocked.parent}"]
    return run_script(tmp_path, location.path, _STANDARD_LIBRARY, under=under).strip()


def test_a_library_makes_a_store_of_the_journal_mode_that_is_safe_with_it(
    location: StoreLocation, tmp_path: Path
) -> None:
    mode = run_with_standard_library(tmp_path, location)

    assert mode == ("wal" if STANDARD_IS_SOUND else "delete")


@pytest.mark.skipif(STANDARD_IS_SOUND, reason="Python's own SQLite is sound")
def test_an_unsound_library_refuses_a_store_in_wal_mode(
    location: StoreLocation, tmp_path: Path
) -> None:
    open_store(location).close()

    told = run_with_standard_library(tmp_path, location)

    assert told.startswith(f"5: this store is in WAL mode, and SQLite {sqlite3.sqlite_version}")


def test_a_store_of_the_rollback_journal_keeps_it(store: Store) -> None:
    store.close()
    with closing(sqlite.LIBRARY.connect(store.location.path)) as connection:
        connection.execute("PRAGMA journal_mode=delete")

    with closing(open_store(store.location)) as opened:
        add(opened)
        mode = opened.read(lambda c: c.exec_driver_sql("PRAGMA journal_mode").scalar())

    assert mode == "delete"


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (5, "locked by another process"),
        (6, "locked by another process"),
        (8 | 1 << 8, "read-only"),
        (10 | 3 << 8, "the disk failed"),
        (13, "no space left"),
        (14, "cannot be opened"),
        (11, "not a queuectl store"),
        (26, "not a queuectl store"),
    ],
)
def test_each_error_of_the_library_has_a_meaning(
    location: StoreLocation, code: int, meaning: str
) -> None:
    error = sqlite.LIBRARY.OperationalError("as the library says it")
    error.sqlite_errorcode = code

    translated = sqlite.translate_error(location, error)

    assert translated is not None
    assert meaning in translated.message
    assert str(location) in translated.message
    assert translated.hint
    assert isinstance(translated, StoreUnavailable) == (code & 0xFF in (5, 6, 10, 13))


def test_an_error_of_our_own_has_none(location: StoreLocation) -> None:
    assert sqlite.translate_error(location, sqlite.LIBRARY.IntegrityError("no code")) is None
