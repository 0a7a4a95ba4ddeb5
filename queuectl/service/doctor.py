"""Doctor: what is not well with a store, its place, its workers or this machine. It only looks."""

from __future__ import annotations

import math
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, func, select

from queuectl.db import copies, filesystem, inspection, presence, schema, sqlite
from queuectl.db.engine import Store, open_store
from queuectl.db.models import SCHEMA_REVISION, DeadLetterRow, JobRow, WorkerRow
from queuectl.domain.durations import format_duration
from queuectl.domain.job import State
from queuectl.errors import StoreError
from queuectl.service import timetable, workers
from queuectl.service.rows import in_states
from queuectl.settings import ServerLocation, StoreLocation

#: With less free space than this it is time to act, in bytes.
LITTLE_SPACE_BYTES = 100 * 1024**2
#: A log of this size is four times what SQLite lets it grow to before it is emptied, in bytes.
LARGE_WAL_BYTES = 16 * 1024**2
#: A reader that is seen in this many looks, this far apart in seconds, is no short one.
_LOOKS, _BETWEEN_LOOKS_SECONDS = 4, 0.1
#: How far an entry may lie ahead of the clock, in seconds.
_CLOCK_TOLERANCE = timedelta(seconds=2)
#: Marked processes by the id of the worker whose mark they bear.
Marked = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``hint`` says what to do, if it is not well."""

    name: str
    message: str
    hint: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is nothing to do."""
        return self.hint is None


def examine(location: StoreLocation, marked: Marked) -> list[Finding]:
    """Return all findings; a store that cannot be opened is one of them, not an error."""
    if isinstance(location, ServerLocation):
        return _examine_server(location, marked)
    findings = [_examine_library(), _examine_place(location), _examine_space(location)]
    if not location.path.exists():
        return [*findings, Finding("store", f"{location} is not there yet; the first job makes it")]
    try:
        revision = schema.stored_revision(location)
        findings.append(_examine_schema(location, revision))
        # Not before: nobody should change the mode of a file that is no store.
        findings += _examine_permissions(location)
        mode = inspection.journal_mode(location)
        findings += [_examine_journal(location, mode), _examine_readers(location, mode)]
        if schema.is_usable(location, revision):
            with closing(Store(location)) as store:
                findings += _examine_workers(store)
                findings += _examine_schedules(store)
                findings.append(_examine_clock(store))
                findings += _examine_processes(store, marked)
    except StoreError as error:
        findings.append(Finding("store", error.message, error.hint or "see: queuectl db check"))
    return findings


# A store on a server


def _examine_server(location: ServerLocation, marked: Marked) -> list[Finding]:
    findings = []
    try:
        with closing(open_store(location)) as store:
            server = store.read(inspection.look_at_server)
            findings.append(Finding("server", f"{location}, PostgreSQL {server.version}"))
            findings.append(_examine_schema(location, schema.stored_revision(location)))
            findings += [_examine_durability(server), _examine_idlers(server)]
            findings += [_examine_server_clock(server), _examine_space(location)]
            findings += [*_exposed([location.logs, location.workers], 0o700)]
            findings += _examine_workers(store)
            findings += _examine_schedules(store)
            findings += _examine_processes(store, marked)
    except StoreError as error:
        findings.append(Finding("store", error.message, error.hint or "see: queuectl db check"))
    return findings


def _examine_durability(server: inspection.Server) -> Finding:
    weak = [name for name, value in server.durability.items() if value == "off"]
    if weak:
        return Finding(
            "durability",
            f"{', '.join(weak)} is off: an acknowledged job may be lost with the server",
            f"ALTER SYSTEM SET {weak[0]} = on",
        )
    return Finding("durability", "what was acknowledged survives a crash of the server")


def _examine_idlers(server: inspection.Server) -> Finding:
    """Tell who keeps a transaction open: it keeps dead rows from being removed."""
    if not server.idlers:
        return Finding("transactions", "nobody keeps a transaction open")
    return Finding(
        "transactions",
        f"kept open, so that dead rows pile up: {'; '.join(server.idlers)}",
        "end it there, or: SELECT pg_terminate_backend(PID)",
    )


def _examine_server_clock(server: inspection.Server) -> Finding:
    apart = (datetime.now(UTC) - server.now).total_seconds()
    if abs(apart) <= _CLOCK_TOLERANCE.total_seconds():
        return Finding("clock", f"{server.now:%Y-%m-%d %H:%M:%S} UTC, as on this machine")
    return Finding(
        "clock",
        f"this machine's clock and the server's are {format_duration(abs(apart))} apart",
        "set the clock right (timedatectl); jobs become due by the clock of who looks",
    )


# The file and its place


def _examine_library() -> Finding:
    name = f"SQLite {sqlite.LIBRARY.sqlite_version}, {_library_source()}"
    if sqlite.library_is_sound():
        return Finding("library", name)
    return Finding(
        "library", f"{name}; it has the WAL-reset bug, so new stores use the rollback journal"
    )


def _library_source() -> str:
    own = sqlite.LIBRARY.__name__.startswith("pysqlite3")
    return "of the pysqlite3 package" if own else "of Python's standard library"


def _examine_place(location: StoreLocation) -> Finding:
    kind = filesystem.kind_of(_existing(location.folder))
    if filesystem.is_remote(kind):
        return Finding(
            "place",
            f"{location} is on {kind}, which may be shared with other machines: neither WAL nor"
            " locks are safe there",
            "move the store to a local disk, or name another one with --db PATH",
        )
    return Finding("place", f"{location} ({kind or 'unknown file system'})")


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _examine_space(location: StoreLocation) -> Finding:
    folder = _existing(location.folder)
    free = shutil.disk_usage(folder).free
    status = os.statvfs(folder)
    if status.f_files and not status.f_favail:
        return Finding("space", "no inodes left", "delete some files of that file system")
    message = f"{_size(free)} free"
    if free < LITTLE_SPACE_BYTES:
        return Finding("space", message, "free some disk space; results wait in memory without it")
    return Finding("space", message)


def _size(number: int) -> str:
    if number < 1024:
        return f"{number} bytes"
    power = min(int(math.log(number, 1024)), 4)
    return f"{number / 1024**power:.1f} {' KMGT'[power]}iB"


def _examine_permissions(location: StoreLocation) -> list[Finding]:
    files = [location.path, location.lock, location.bell, location.worker_log]
    files += [location.path.with_name(location.path.name + end) for end in ("-wal", "-shm")]
    folders = [location.logs, location.workers]
    problems = [*_exposed(files, 0o600), *_exposed(folders, 0o700), *_replaceable(location.folder)]
    return problems or [Finding("permissions", "nobody else can read or change the store")]


def _exposed(paths: Sequence[Path], mode: int) -> Iterator[Finding]:
    for path in paths:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if status.st_uid != os.geteuid():
            yield Finding(
                "permissions",
                f"{path} belongs to user {status.st_uid}",
                f"run queuectl as that user, or: chown {os.geteuid()} {path}",
            )
        elif stat.S_IMODE(status.st_mode) & ~mode:
            given = stat.S_IMODE(status.st_mode)
            message = f"{path} is open to others (mode {given:04o})"
            yield Finding("permissions", message, f"chmod {mode:o} {path}")
        elif stat.S_IMODE(status.st_mode) & mode != mode:
            yield Finding("permissions", f"{path} is closed to you", f"chmod {mode:o} {path}")


def _replaceable(folder: Path) -> Iterator[Finding]:
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield Finding(
            "permissions", f"anybody can replace the store in {folder}", f"chmod o-w {folder}"
        )


def _examine_schema(location: StoreLocation, revision: str | None) -> Finding:
    if revision == SCHEMA_REVISION:
        return Finding("schema", f"{revision}, as this program needs it")
    if schema.is_usable(location, revision):
        return Finding("schema", f"{revision}, newer than this program, which may use it")
    if copies.is_mark(revision):
        return Finding(
            "schema",
            f"{location} is an unfinished copy of another store",
            "run the same queuectl db copy again: it goes on where it stopped",
        )
    return Finding(
        "schema",
        f"{location} has schema {revision}, and this program needs {SCHEMA_REVISION}",
        "queuectl db upgrade, or the newer queuectl that wrote it",
    )


def _examine_journal(location: StoreLocation, mode: str) -> Finding:
    version = sqlite.LIBRARY.sqlite_version
    sound = sqlite.library_is_sound()
    remote = filesystem.is_remote(filesystem.kind_of(location.folder))
    if mode == "wal" and not sound:
        return Finding(
            "journal",
            f"WAL, and SQLite {version} can corrupt it: nothing can be written",
            "install the pysqlite3 package, or use Python with SQLite 3.51.3 or newer",
        )
    if mode == "wal" and remote:
        return Finding(
            "journal", "WAL, on a file system that may be shared", "move the store to a local disk"
        )
    if mode == "wal":
        return Finding("journal", f"WAL, {_size(inspection.wal_bytes(location))}")
    if not sound:
        why = f"SQLite {version} has the WAL-reset bug and could corrupt a store in WAL mode"
    elif remote:
        why = "WAL is not safe where the store lies"
    else:
        why = "WAL was not safe with the library or in the place where the store was made"
    return Finding("journal", f"rollback journal: {why}")


def _examine_readers(location: StoreLocation, mode: str) -> Finding:
    """Tell who keeps a read transaction open: it keeps the log from being emptied."""
    lasting = _lasting_readers(location, mode)
    if not lasting:
        return Finding("readers", "nobody keeps a read transaction open")
    who = ", ".join(inspection.describe_process(pid) for pid in sorted(lasting))
    log_bytes = inspection.wal_bytes(location)
    if mode == "wal" and log_bytes <= LARGE_WAL_BYTES:
        return Finding(
            "readers", f"a read transaction is kept open by {who}; the log has {_size(log_bytes)}"
        )
    what = (
        f"the log has grown to {_size(log_bytes)} and cannot be emptied"
        if mode == "wal"
        else "writers wait"
    )
    return Finding(
        "readers", f"{what}: a read transaction is kept open by {who}", "end it there, or end that"
    )


def _lasting_readers(location: StoreLocation, mode: str) -> set[int]:
    lasting = inspection.readers(location, mode)
    for _ in range(_LOOKS - 1):
        if not lasting:
            break
        time.sleep(_BETWEEN_LOOKS_SECONDS)
        lasting &= inspection.readers(location, mode)
    return lasting


# Workers and time


def _examine_workers(store: Store) -> list[Finding]:
    seen = workers.list_workers(store)
    problems = []
    for worker in seen:
        who = f"worker {worker.id} (process {worker.pid})"
        silent = (datetime.now(UTC) - worker.heartbeat_at).total_seconds()
        lease = (worker.lease_expires_at - worker.heartbeat_at).total_seconds()
        if worker.state != "alive":
            message = f"{who} died, and nobody has taken its {len(worker.running)} jobs back"
            problems.append(Finding("workers", message, "start one: queuectl worker start"))
        elif silent > lease * 2 / 3:
            message = f"{who} has not been heard of for {format_duration(silent)}"
            hint = f"is it stopped, or its disk? kill -CONT {worker.pid}, or kill -KILL"
            problems.append(Finding("workers", message, hint))
    alive = sum(worker.state == "alive" for worker in seen)
    return problems or [Finding("workers", f"{alive} alive" if alive else "none is running")]


def _examine_schedules(store: Store) -> list[Finding]:
    message, faults = timetable.examine(store)
    problems = [Finding("schedules", fault.text, fault.hint) for fault in faults]
    return problems or [Finding("schedules", message)]


def _examine_clock(store: Store) -> Finding:
    newest = store.read(_newest_instant)
    now = datetime.now(UTC)
    if newest is None or newest <= now + _CLOCK_TOLERANCE:
        return Finding("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, not behind the store's entries")
    ahead = format_duration((newest - now).total_seconds())
    return Finding(
        "clock",
        f"the newest entry of the store lies {ahead} ahead of this machine's clock",
        "set the clock right (timedatectl); jobs that are due by the other clock wait as long",
    )


def _newest_instant(connection: Connection) -> datetime | None:
    newest_job = select(JobRow.updated_at).order_by(JobRow.seq.desc()).limit(1)
    queries = (
        newest_job,
        select(func.max(JobRow.claimed_at)).where(in_states(State.PROCESSING)),
        select(func.max(WorkerRow.heartbeat_at)),
        select(func.max(DeadLetterRow.died_at)),
    )
    found = [connection.execute(query).scalar() for query in queries]
    return max((instant for instant in found if instant is not None), default=None)


def _examine_processes(store: Store, marked: Marked) -> list[Finding]:
    """Tell what still runs of this store's workers that are gone; other stores' are not judged."""
    query = select(WorkerRow.id)
    known = set(store.read(lambda connection: connection.execute(query).scalars().all()))
    with suppress(FileNotFoundError):  # a backup, on which no worker has ever been
        known.update(entry.name for entry in store.location.workers.iterdir())
    problems = [
        Finding(
            "processes",
            f"{inspection.describe_process(pid)} belongs to worker {worker_id}, which is gone",
            f"kill -KILL {pid}",
        )
        for worker_id in sorted(known.intersection(marked))
        if not presence.is_held(store.location, worker_id)
        for pid in marked[worker_id]
    ]
    return problems or [Finding("processes", "no process of a worker that is gone")]
