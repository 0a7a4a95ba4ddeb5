"""SQLite: its library, pragmas, the writers' queue, and the bell that wakes idle workers."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from queuectl.db.files import open_private
from queuectl.db.filesystem import is_remote
from queuectl.db.wakeup import Bell, Doorbell
from queuectl.errors import StoreError, StoreUnavailable
from queuectl.settings import StoreLocation

try:
    import pysqlite3.dbapi2 as _library
except ImportError:  # no wheel for this platform
    import sqlite3 as _library

#: The library that opens every store in this process; two of them would break each other's locks.
LIBRARY: ModuleType = _library

#: No other machine uses such a store: the lock on a worker's file tells whether it lives.
SHARED = False
#: The driver's own error, which statements below SQLAlchemy raise.
ERROR: type[Exception] = LIBRARY.Error
#: How long a writer waits for the others, in seconds.
PATIENCE_SECONDS = 10.0
#: The poll behind the bell.
POLL_SECONDS = 5.0
#: "QCTL": what ``PRAGMA application_id`` says of a file that is a queuectl store.
APPLICATION_ID = 0x5143544C


def library_is_sound(version: tuple[int, ...] = LIBRARY.sqlite_version_info) -> bool:
    """Whether WAL is safe: releases from 3.7.0 to 3.51.2 have the WAL-reset bug.

    Source: sqlite.org/wal.html, "The WAL-Reset Bug"; fixed in 3.51.3 and, for their lines, in
    3.50.7 and 3.44.6.
    """
    return (
        version >= (3, 51, 3)
        or (3, 50, 7) <= version < (3, 51)
        or ((3, 44, 6) <= version < (3, 45))
    )


def journal_mode(filesystem_kind: str | None = None) -> str:
    """The journal mode that a new store gets from this library, on this kind of file system."""
    return "wal" if library_is_sound() and not is_remote(filesystem_kind) else "delete"


def create_store_engine(location: StoreLocation) -> Engine:
    """Return an engine whose connections are ready for queuectl; the file must exist."""
    engine = create_engine(
        "sqlite+pysqlite://",
        module=LIBRARY,
        creator=lambda: _connect(location),
        poolclass=NullPool,  # Store keeps its one connection itself
    )
    event.listen(engine, "begin", _begin)
    return engine


def _connect(location: StoreLocation) -> Any:
    # mode=rw: a store that has vanished is an error, never made anew and empty.
    connection = LIBRARY.connect(
        f"{location.path.as_uri()}?mode=rw",
        uri=True,
        timeout=PATIENCE_SECONDS,
        isolation_level=None,
        cached_statements=256,
        check_same_thread=False,
    )
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "cache_size=-8192"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _begin(connection: Connection) -> None:
    # A deferred transaction that turns to writing fails at once with BUSY_SNAPSHOT, whatever the
    # timeout; so whoever may write begins IMMEDIATE.
    writes = connection.info.get("writes", False)
    driver_connection(connection).execute("BEGIN IMMEDIATE" if writes else "BEGIN")


def driver_connection(connection: Connection) -> Any:
    """Return the bare driver's connection below SQLAlchemy's."""
    return connection.connection.driver_connection


def prepare_connection(location: StoreLocation, connection: Connection) -> None:
    """Refuse a store that this library could spoil; raises StoreError."""
    refuse_unsound_wal(connection)


def stored_revision(location: StoreLocation, connection: Connection) -> str | None:
    """Return the revision that the store says it has; raises StoreError if it is none."""
    driver = driver_connection(connection)
    application = driver.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise not_a_store(location, "it is another program's SQLite database")
    row = driver.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def refuse_unsound_wal(connection: Connection) -> None:
    """Refuse to write a WAL store with a library that can corrupt it; raises StoreError."""
    if library_is_sound():
        return
    mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    if mode == "wal":
        raise StoreError(
            f"this store is in WAL mode, and SQLite {LIBRARY.sqlite_version} can corrupt it",
            hint="install the pysqlite3 package, or use Python with SQLite 3.51.3 or newer",
        )


@contextmanager
def writers_queue(location: StoreLocation, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the store's write lock: writers wait in line here, in the order in which they came.

    With 50 writers the worst wait was 0.25 s, against 2.7 s in SQLite's own busy handler, which
    sleeps and tries again. Raises StoreUnavailable when ``patience`` is over and nobody in front
    has got on meanwhile: a long line that moves is no reason to give up.
    """
    lock = open_private(location.lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock = _wait_in_line(location, lock, patience)
    try:
        yield
    finally:
        os.close(lock)


def _wait_in_line(location: StoreLocation, lock: int, patience: float) -> int:
    # flock waits fairly but knows no timeout; a thread that can be left behind does.
    done = threading.Event()
    given_up = threading.Event()
    guard = threading.Lock()

    def wait() -> None:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with guard:
            done.set()
            if given_up.is_set():
                os.close(lock)

    threading.Thread(target=wait, name="writers-queue", daemon=True).start()
    rung = _last_ring(location)
    while not done.wait(patience):
        before, rung = rung, _last_ring(location)
        if before == rung:
            break
    with guard:
        if done.is_set():
            return lock
        given_up.set()
    raise StoreUnavailable(
        f"{location} has been locked by another process for {patience:.0f} s",
        hint="look for a stopped queuectl process (Ctrl-Z?), then try again",
    )


def _last_ring(location: StoreLocation) -> int:
    """Return when somebody last committed a change, as a number that only tells differences."""
    try:
        return location.bell.stat().st_mtime_ns
    except OSError:
        return 0


def ring(location: StoreLocation, *, hushed: bool = False) -> None:
    """Tell idle workers and waiting commands that something was committed.

    ``hushed``: only the commands. Who watches a file can tell one who touches it from one who cuts
    it, though it was empty before.
    """
    with suppress(OSError):  # the bell is a convenience; polling stays behind it
        if hushed:
            os.truncate(location.bell, 0)
        else:
            os.utime(location.bell)


def changes(connection: Connection) -> int:
    """Return how many rows this connection has ever changed."""
    return int(driver_connection(connection).total_changes)


def announce(connection: Connection) -> None:
    """Do nothing: the bell is rung after the commit, when it can be seen."""


def doorbell(location: StoreLocation, hang_up: Callable[[], None], *, hushed: bool) -> Bell:
    """Return an ear for what others commit; with ``hushed`` also for what wakes no worker."""
    return Doorbell(location, hushed=hushed)


def settle_in(location: StoreLocation, connection: Connection) -> None:
    """Do nothing: this machine's own files stand beside the store already."""


def data_version(connection: Connection) -> int | None:
    """Return a number that differs once another connection has committed (4 microseconds)."""
    return int(driver_connection(connection).execute("PRAGMA data_version").fetchone()[0])


def clock(connection: Connection) -> datetime:
    """Return the time; all who use such a store have the same clock."""
    return datetime.now(UTC)


def is_outcome_unknown(error: BaseException) -> bool:
    """Whether a commit that failed with this may stand all the same: its worker finds out."""
    return False


_BUSY, _LOCKED, _READONLY, _IOERR, _FULL, _CANTOPEN, _CORRUPT, _NOTADB = 5, 6, 8, 10, 13, 14, 11, 26


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's own error, which SQLAlchemy may have wrapped."""
    return getattr(error, "orig", None) or error


def translate_error(location: StoreLocation, error: BaseException) -> StoreError | None:
    """Return what a driver's error means for the user; None if it is no matter of the store."""
    extended = getattr(error, "sqlite_errorcode", None)
    if extended is None:
        return None
    code = extended & 0xFF
    if code in (_BUSY, _LOCKED):
        return StoreUnavailable(
            f"{location} is locked by another process",
            hint="look for a program that keeps the store open in a transaction, then try again",
        )
    if code == _FULL:
        return StoreUnavailable(f"no space left for {location}", hint="free some disk space")
    if code == _IOERR:
        return StoreUnavailable(
            f"the disk failed to read or write {location} ({error})",
            hint="check the disk and its free space; nothing of this call was stored",
        )
    if code == _READONLY:
        return StoreError(
            f"{location} is read-only for you",
            hint=f"check the owner and mode of {location.folder}",
        )
    if code == _CANTOPEN:
        return StoreError(
            f"{location} cannot be opened",
            hint=f"check the owner and mode of {location.folder}, and that it is not on a"
            " read-only disk",
        )
    if code in (_CORRUPT, _NOTADB):
        return not_a_store(location, str(error))
    return None


def not_a_store(location: StoreLocation, reason: str) -> StoreError:
    """Return the error for a file that is there but is no queuectl store."""
    return StoreError(
        f"{location} is not a queuectl store: {reason}",
        hint="queuectl never writes over it; move the file away, or name another with --db PATH",
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed a moment later."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (_BUSY, _LOCKED)


def is_worth_a_try(error: BaseException, *, connected: bool, waited: float) -> bool:
    """Whether the same transaction may succeed a moment later."""
    return is_transient(error)


def is_disconnect(error: BaseException) -> bool:
    """Whether the connection is of no use any more."""
    return False


def pause_before_retry(attempt: int) -> None:
    """Sleep a little longer each time."""
    time.sleep(min(0.002 * 2**attempt, 0.2))


def end_connection(connection: Connection) -> None:
    """Close a connection, whatever state it is in."""
    connection.close()
