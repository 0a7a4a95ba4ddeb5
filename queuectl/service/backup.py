"""Back up an SQLite store while its workers go on, by SQLite's own online backup.

All pages are copied in one step, inside one read transaction: a step at a time would begin anew
whenever somebody commits, and with busy workers never end. In WAL mode nobody waits for a reader.
(A store with a rollback journal, where WAL is not safe, can take no writes meanwhile.)

The copy is written under another name, with a journal mode that suits its place as for every new
store, and is renamed when it is on the disk: a file of that name is always whole. Rows of workers
are taken out of it, as ``db copy`` leaves them out: whoever starts a worker on the copy would take
those of the original for dead, and end what they run.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from queuectl.db import filesystem, sqlite
from queuectl.db.engine import Store
from queuectl.db.files import whole_file
from queuectl.errors import Conflict, InvalidInput, QueuectlError
from queuectl.settings import StoreLocation

#: What SQLite may have beside a database.
_SIDE_FILES = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that is finished."""

    path: Path
    size_bytes: int
    jobs: int
    #: How many of them ran: on the copy they run again.
    running: int


def back_up(store: Store, path: Path, *, force: bool = False) -> Backup:
    """Copy the store to a new file; with ``force`` in the place of an old one.

    Raises QueuectlError for a store on a server, Conflict for a file that is there or is a store in
    use, and StoreError.
    """
    if store.is_shared:
        raise QueuectlError(
            f"{store.location} is on a server, which has its own programs for that",
            hint="use pg_dump --format=custom --file=FILE, and pg_restore; or queuectl export FILE",
        )
    if path.resolve() == store.location.real_path:
        raise InvalidInput(f"{path} is the store itself", hint="name another file")
    _refuse_open_store(path)
    with whole_file(path, force=force) as part:
        jobs, running = store.read(lambda connection: _copy(connection, part, path))
        size = part.stat().st_size
        _refuse_open_store(path)
    return Backup(path, size, jobs, running)


def _refuse_open_store(path: Path) -> None:
    """Refuse a store that somebody has open: its log would be taken for the new file's."""
    if any(path.with_name(path.name + suffix).exists() for suffix in _SIDE_FILES):
        raise Conflict(
            f"{path} is a database that is open, or was not closed", hint="name another file"
        )


def _copy(connection: Connection, part: Path, path: Path) -> tuple[int, int]:
    driver = sqlite.driver_connection(connection)
    try:
        with closing(sqlite.LIBRARY.connect(str(part), isolation_level=None)) as target:
            # It is synced as a whole, and thrown away if it does not come to that.
            for pragma in ("synchronous=OFF", "journal_mode=MEMORY"):
                target.execute(f"PRAGMA {pragma}")
            driver.backup(target)
            return _finish(target, part)
    except sqlite.LIBRARY.Error as error:
        raise sqlite.translate_error(StoreLocation(path, "FILE"), error) or error from error
    finally:
        for suffix in _SIDE_FILES:
            with suppress(FileNotFoundError):
                part.with_name(part.name + suffix).unlink()


def _finish(target: Any, part: Path) -> tuple[int, int]:
    mode = sqlite.journal_mode(filesystem.kind_of(part.parent))
    target.execute(f"PRAGMA journal_mode={mode}")
    target.execute("DELETE FROM workers")
    jobs, running = target.execute(
        "SELECT count(*), count(CASE WHEN state = 'processing' THEN 1 END) FROM jobs"
    ).fetchone()
    return int(jobs), int(running)
