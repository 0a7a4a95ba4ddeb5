"""What the database and the operating system can tell of a store's file; for audit and doctor."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from queuectl.db import sqlite
from queuectl.settings import StoreLocation

#: Where SQLite's readers lock, as (first, last) byte: in the ``-shm`` file of a WAL store a reader
#: that is in a transaction holds one of WAL_READ_LOCK(0) to (4); without WAL the SHARED bytes of
#: the store itself. Source: sqlite.org/walformat.html, section 2.3.2, and os.h.
_WAL_READERS = (123, 127)
_SHARED_BYTES = (0x40000002, 0x40000002 + 509)


_INVALID_INDEXES = """
    SELECT 'index ' || c.relname || ' is not valid'
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace
"""
#: Sessions that have been in a transaction, doing nothing, for longer than any of queuectl's.
_IDLERS = """
    SELECT 'session ' || pid || ' of ' || coalesce(usename, '?')
        || coalesce(' (' || nullif(application_name, '') || ')', '') || ' for '
        || extract(epoch FROM clock_timestamp() - state_change)::int || 's'
    FROM pg_stat_activity
    WHERE datname = current_database() AND starts_with(state, 'idle in transaction')
        AND state_change < clock_timestamp() - interval '10 seconds'
    ORDER BY state_change LIMIT 10
"""
_STRANDED = tuple(
    f"SELECT '{table} jobs ' || t.job_seq FROM {table} t"  # noqa: S608  # names of ours
    " LEFT JOIN jobs j ON j.seq = t.job_seq WHERE j.seq IS NULL ORDER BY 1 LIMIT 100"
    for table in ("attempts", "dlq")
)


def integrity_problems(connection: Connection) -> list[str]:
    """Return what the database's own check of its file finds; nothing when all is well.

    A server watches over its files itself (data checksums); what it can tell is that an index was
    not built to its end.
    """
    if connection.dialect.name == "postgresql":
        return list(connection.exec_driver_sql(_INVALID_INDEXES).scalars())
    return _run_check(connection, "PRAGMA integrity_check")


def foreign_key_problems(connection: Connection) -> list[str]:
    """Return the rows that point at a row that is gone, as ``table``, ``row`` and ``parent``."""
    if connection.dialect.name == "postgresql":
        return [line for query in _STRANDED for line in connection.exec_driver_sql(query).scalars()]
    return _run_check(connection, "PRAGMA foreign_key_check")


def _run_check(connection: Connection, pragma: str) -> list[str]:
    try:
        rows = sqlite.driver_connection(connection).execute(pragma).fetchall()
    except sqlite.LIBRARY.DatabaseError as error:
        return [str(error)]  # too damaged to be checked to the end
    lines = [" ".join(str(value) for value in row if value is not None) for row in rows]
    return [line for line in lines if line != "ok"]


@dataclass(frozen=True, slots=True)
class Server:
    """What a PostgreSQL server tells of itself. ``idlers`` keep a transaction open."""

    version: str
    now: datetime
    durability: dict[str, str]
    idlers: list[str]


def look_at_server(connection: Connection) -> Server:
    """Ask a server what may trouble a queue."""
    names = ("fsync", "full_page_writes", "synchronous_commit")
    return Server(
        version=str(connection.exec_driver_sql("SHOW server_version").scalar_one()),
        now=connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one(),
        durability={n: connection.exec_driver_sql(f"SHOW {n}").scalar_one() for n in names},
        idlers=list(connection.exec_driver_sql(_IDLERS).scalars()),
    )


def journal_mode(location: StoreLocation) -> str:
    """Return the journal mode that the store has: ``wal`` or ``delete``."""
    engine = sqlite.create_store_engine(location)
    try:
        with engine.connect() as connection:
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
    finally:
        engine.dispose()


def wal_bytes(location: StoreLocation) -> int:
    """Return the size of the write-ahead log."""
    with suppress(FileNotFoundError):
        return _wal(location, "-wal").stat().st_size
    return 0


def readers(location: StoreLocation, mode: str) -> set[int]:
    """Return the processes that are in a read transaction at this moment."""
    path, span = (
        (_wal(location, "-shm"), _WAL_READERS) if mode == "wal" else (location.path, _SHARED_BYTES)
    )
    try:
        inode = path.stat().st_ino
        locks = Path("/proc/locks").read_text()
    except OSError:  # no such file, or not Linux
        return set()
    holders = lock_holders(locks, inode, span) - {os.getpid()}
    return {pid for pid in holders if _has_open(pid, path)}


def lock_holders(locks: str, inode: int, span: tuple[int, int]) -> set[int]:
    """Return who holds a lock on these bytes of a file, given the text of ``/proc/locks``.

    A line is ``1: POSIX  ADVISORY  READ 2049 fe:00:2205632 128 128``; one with ``->`` waits.
    """
    holders = set()
    for line in locks.splitlines():
        fields = line.split()
        if len(fields) != 8 or fields[1] != "POSIX" or int(fields[5].rpartition(":")[2]) != inode:
            continue
        first, last = int(fields[6]), float("inf") if fields[7] == "EOF" else int(fields[7])
        if first <= span[1] and last >= span[0]:
            holders.add(int(fields[4]))
    return holders


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has this very file open; inode numbers alone are one a file system."""
    wanted = path.stat()
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_is_same(entry, wanted) for entry in entries)
    except PermissionError:
        return True  # somebody else's process: believed
    except FileNotFoundError:
        return False  # it has ended


def _is_same(entry: os.DirEntry[str], wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(entry.stat(), wanted)
    except OSError:
        return False  # closed meanwhile


def _wal(location: StoreLocation, suffix: str) -> Path:
    return location.path.with_name(location.path.name + suffix)


def describe_process(pid: int) -> str:
    """Return a process as a person knows it: its number and the beginning of its command."""
    import psutil  # only here: it costs 10 ms

    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        command = ""
    return f"process {pid} ({command[:60] or 'its command is not known'})"
