"""Create, upgrade and check the tables; the one importer of Alembic."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from queuectl.db import filesystem, sqlite
from queuectl.db.backend import backend_of, driver_error
from queuectl.db.files import create_private_file, prepare_side_files, sync_folder
from queuectl.db.models import SCHEMA_REVISION, Base, StoreRow
from queuectl.errors import SchemaMismatch, StoreError
from queuectl.settings import ServerLocation, StoreLocation

if TYPE_CHECKING:
    from alembic.config import Config

_SQLITE_MAGIC = b"SQLite format 3\0"
#: The advisory lock of whoever migrates a store on a server: "QCTL".
_MIGRATION_LOCK = 0x5143544C
#: How the revision of a store begins that is still being copied: no program of any version uses it.
UNFINISHED = "copying "


def prepare(location: StoreLocation) -> None:
    """Make sure that the store exists and has this program's tables.

    Costs two stats and one read when it does; imports Alembic only when something must change. A
    store on a server is neither created nor upgraded here: it is looked at when it is opened, and
    others may be using it. Raises StoreError.
    """
    if isinstance(location, ServerLocation):
        backend_of(location)
        return
    if not _exists(location):
        upgrade(location)
        return
    if stored_revision(location) != SCHEMA_REVISION:
        upgrade(location)
    elif not location.workers.is_dir():  # a backup in its new place, or a file that moved alone
        _prepare_folder(location)


def upgrade(location: StoreLocation) -> bool:
    """Bring the store to this program's revision; return whether anything changed.

    One that is newer, and that this program may use, is left as it is. Raises StoreError.
    """
    if is_there(location):
        revision = stored_revision(location)
        if is_usable(location, revision):
            return False
        _refuse_newer(location, revision)
    from alembic import command

    with migrating(location) as connection:
        config = alembic_config(location)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    backend_of(location).ring(location)
    return True


def is_there(location: StoreLocation) -> bool:
    """Whether there is a file, or a server to ask; raises StoreError for what is no store."""
    return isinstance(location, ServerLocation) or _exists(location)


def check(location: StoreLocation) -> list[str]:
    """Return how the store's tables differ from this program's models, in words.

    Raises StoreError, also for one that is newer: it does differ, and may be used.
    """
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    _refuse_newer(location, stored_revision(location))
    with _translated(location), _connection(location) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [str(difference) for difference in compare_metadata(context, Base.metadata)]


def stored_revision(location: StoreLocation) -> str | None:
    """Return the revision that the store says it has; raises StoreError if it is none."""
    backend = backend_of(location)
    try:
        with _connection(location) as connection:
            return backend.stored_revision(location, connection)
    except (DBAPIError, backend.ERROR) as error:
        raise (
            backend.translate_error(location, driver_error(error))
            or sqlite.not_a_store(location, "it has no schema revision")
        ) from error


@contextmanager
def _connection(location: StoreLocation) -> Iterator[Connection]:
    engine = backend_of(location).create_store_engine(location)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def is_usable(location: StoreLocation, revision: str | None) -> bool:
    """Whether this program may use a store of this revision. Raises StoreError."""
    if revision is None or revision <= SCHEMA_REVISION:
        return revision == SCHEMA_REVISION
    with _translated(location), _connection(location) as connection:
        return _is_usable(connection, revision)


def read_id(connection: Connection) -> str:
    """Return the id that the store was given when its tables were made."""
    return connection.execute(select(StoreRow.id)).scalar_one()


def require_usable(location: StoreLocation, connection: Connection) -> None:
    """Refuse a store whose tables this program may not use; raises SchemaMismatch."""
    revision = backend_of(location).stored_revision(location, connection)
    if revision != SCHEMA_REVISION and not _is_usable(connection, revision):
        require_same(location, revision)


def require_same(location: StoreLocation, revision: str | None) -> None:
    """Refuse a store whose tables are not this program's; raises SchemaMismatch."""
    if revision != SCHEMA_REVISION:
        _refuse_newer(location, revision)
        raise SchemaMismatch(
            f"{location} has no tables of queuectl's yet"
            if revision is None
            else f"{location} has schema {revision}, and this program needs {SCHEMA_REVISION}",
            hint="run: queuectl db upgrade",
        )


def _is_usable(connection: Connection, revision: str | None) -> bool:
    """Whether a newer schema was made so that programs as old as this one may go on using it.

    The newer program's migration has said so, of this very revision. What it has not said is no.
    """
    if revision is None or revision.startswith(UNFINISHED) or revision < SCHEMA_REVISION:
        return False
    if not connection.dialect.has_table(connection, StoreRow.__tablename__):
        return False
    usable_from = connection.execute(
        select(StoreRow.usable_from).where(StoreRow.revision == revision)
    ).scalar()
    return usable_from is not None and usable_from <= SCHEMA_REVISION


def _refuse_newer(location: StoreLocation, revision: str | None) -> None:
    _refuse_unfinished(location, revision)
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(alembic_config(location))
    known = {entry.revision for entry in script.walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaMismatch(
            f"{location} has schema {revision}, which is newer than this program's"
            f" {SCHEMA_REVISION}",
            hint="use the newer queuectl that wrote it",
        )


def _refuse_unfinished(location: StoreLocation, revision: str | None) -> None:
    if revision is not None and revision.startswith(UNFINISHED):
        raise SchemaMismatch(
            f"{location} is an unfinished copy of another store",
            hint="run the same queuectl db copy again: it goes on where it stopped",
        )


def _exists(location: StoreLocation) -> bool:
    """Whether a file is there; refuses at once what cannot be a store. Raises StoreError."""
    try:
        status = location.path.stat()
    except FileNotFoundError:
        if location.path.is_symlink():  # its disk may only be away; nothing is put over it
            raise sqlite.not_a_store(location, "it is a link to nothing") from None
        return False
    except OSError as error:
        raise StoreError(
            f"{location} cannot be opened: {error.strerror}",
            hint="name another store with --db PATH",
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise sqlite.not_a_store(location, "it is not a regular file")
    if status.st_uid != os.geteuid() and not os.access(location.path, os.R_OK | os.W_OK):
        raise StoreError(
            f"{location} belongs to another user and is not yours to write",
            hint="name a store of your own with --db PATH",
        )
    _check_magic(location)
    return True


def _check_magic(location: StoreLocation) -> None:
    try:
        with location.path.open("rb") as file:
            magic = file.read(len(_SQLITE_MAGIC))
    except OSError as error:
        raise StoreError(
            f"{location} cannot be read: {error.strerror}",
            hint=f"check the owner and mode of {location.path}",
        ) from error
    if not magic:
        raise sqlite.not_a_store(location, "it is empty (cut off?)")
    if magic != _SQLITE_MAGIC:
        raise sqlite.not_a_store(location, "it is not an SQLite database")


@contextmanager
def migrating(location: StoreLocation) -> Iterator[Connection]:
    """Yield a connection on which migrations may run, alone; commit when the block ends.

    A new store is built under another name and renamed when it is whole, so that a file of the
    store's name is always a store. Raises StoreError.
    """
    if isinstance(location, ServerLocation):
        with _translated(location), _server_migration(location) as connection:
            yield connection
        return
    _prepare_folder(location)
    with sqlite.writers_queue(location), _translated(location):
        if _exists(location):
            with _migration_connection(location) as connection:
                yield connection
            return
        draft = StoreLocation(location.path.with_name(location.path.name + ".new"), "draft")
        _discard(draft)
        create_private_file(draft.path)
        with _migration_connection(draft, new=True) as connection:
            yield connection
        draft.path.rename(location.path)
        sync_folder(location.folder)


@contextmanager
def _migration_connection(location: StoreLocation, *, new: bool = False) -> Iterator[Connection]:
    engine = sqlite.create_store_engine(location)
    try:
        with engine.connect() as connection:
            sqlite.refuse_unsound_wal(connection)
            driver = sqlite.driver_connection(connection)
            connection.rollback()
            # Batch migrations recreate tables: with foreign keys on, that would empty their
            # children by cascade, and the pragma has no effect inside a transaction.
            driver.execute("PRAGMA foreign_keys=OFF")
            if new:
                driver.execute(f"PRAGMA application_id={sqlite.APPLICATION_ID}")
                kind = filesystem.kind_of(location.folder)
                driver.execute(f"PRAGMA journal_mode={sqlite.journal_mode(kind)}")
            connection.info["writes"] = True
            with connection.begin():
                yield connection
                broken = driver.execute("PRAGMA foreign_key_check").fetchall()
                if broken:
                    raise StoreError(f"the migration left {len(broken)} rows without their job")
    finally:
        engine.dispose()


@contextmanager
def _server_migration(location: ServerLocation) -> Iterator[Connection]:
    """One transaction for all migrations; a second one waits, and finds them done."""
    from queuectl.db import postgresql

    with _connection(location) as connection:
        postgresql.prepare_connection(location, connection)
        connection.rollback()
        connection.info["writes"] = True
        connection.info["patience"] = None
        with connection.begin():
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            yield connection


def _prepare_folder(location: StoreLocation) -> None:
    prepare_side_files(location)
    try:
        create_private_file(location.lock)
        create_private_file(location.bell)
    except OSError as error:
        raise StoreError(
            f"{location} cannot be created: {error.strerror}: {error.filename}",
            hint="check the owner, mode and free space of that folder, or name another store"
            " with --db PATH",
        ) from error


@contextmanager
def _translated(location: StoreLocation) -> Iterator[None]:
    backend = backend_of(location)
    try:
        yield
    except (DBAPIError, backend.ERROR) as error:
        meaning = backend.translate_error(location, driver_error(error))
        if meaning is None:
            raise
        raise meaning from error


def _discard(draft: StoreLocation) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            draft.path.with_name(draft.path.name + suffix).unlink()


def migrations_folder() -> Path:
    """Return the migration scripts: beside the package's own files, else the checkout's."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def alembic_config(location: StoreLocation) -> Config:
    """Return an Alembic configuration for this store, wherever the program is installed."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["location"] = location
    return config
