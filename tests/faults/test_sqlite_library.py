"""An SQLite with the WAL-reset bug, as where the bundled one has no wheel."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from queuectl.db import schema, sqlite
from tests.cli.conftest import Program

pytestmark = pytest.mark.skipif(
    sqlite.library_is_sound(sqlite3.sqlite_version_info),
    reason="row S7 was not run: Python's own SQLite is sound, so there is no unsound one here",
)


@pytest.fixture
def unbundled(tmp_path: Path) -> dict[str, str]:
    """An environment in which the bundled library cannot be imported."""
    blocked = tmp_path / "blocked" / "pysqlite3"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('no wheel for this platform')\n")
    return {"PYTHONPATH": str(blocked.parent)}


def test_an_unsound_library_works_with_the_rollback_journal_and_doctor_says_why(
    queuectl: Program, unbundled: dict[str, str]
) -> None:
    """S7: the store works as ever, without WAL."""
    queuectl("enqueue", "--id", "a", "true", variables=unbundled)
    queuectl("worker", "start", "--drain", variables=unbundled)

    told = queuectl("doctor", variables=unbundled)
    queuectl("audit", variables=unbundled)

    [journal] = [line for line in told.lines if "journal  " in line]
    assert journal.split()[:4] == ["ok", "journal", "rollback", "journal:"]
    assert f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug" in journal
    assert queuectl("show", "a", "--json", variables=unbundled).json["state"] == "completed"
    assert not queuectl.location.path.with_name("queue.db-wal").exists()


def test_an_unsound_library_writes_no_wal_store_and_doctor_says_why(
    queuectl: Program, unbundled: dict[str, str]
) -> None:
    """S7: the mode is never changed under others; the store is refused."""
    schema.prepare(queuectl.location)

    refused = queuectl("enqueue", "true", code=5, variables=unbundled)
    told = queuectl("doctor", code=1, variables=unbundled)

    assert "this store is in WAL mode" in refused.err
    assert any(line.startswith("problem  journal") for line in told.lines)
    assert "pysqlite3" in told.out
