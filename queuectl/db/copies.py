"""What a copy of a store needs of the databases: a mark while it is unfinished, and the sequence.

The mark stands in the place of the schema's revision, so that nothing takes half a copy for a
store: neither this program, nor an older one, nor Alembic.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, text

from queuectl.db import presence, schema
from queuectl.db.engine import Store
from queuectl.db.models import SCHEMA_REVISION
from queuectl.errors import Conflict, SchemaMismatch
from queuectl.settings import ServerLocation, StoreLocation

#: How long one statement of a copy may take, in seconds: emptying half a copy takes minutes.
PATIENCE_SECONDS = 600.0
#: What one copy at a time holds: on a server the advisory lock "QCTC", else a file's ``flock``.
_TRY_LOCK = text(f"SELECT pg_try_advisory_lock({0x51435443})")
_LOCK_FILE = "copy"

_REVISION = text("SELECT version_num FROM alembic_version")
_MARK = text("UPDATE alembic_version SET version_num = :new WHERE version_num = :old")
_LAST = {
    "sqlite": "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'jobs'",
    "postgresql": "SELECT coalesce("
    "pg_sequence_last_value(pg_get_serial_sequence('jobs', 'seq')::regclass), 0)",
}
_ADVANCE = {
    "sqlite": (
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'jobs', 0"
        " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'jobs')",
        "UPDATE sqlite_sequence SET seq = :last WHERE name = 'jobs'",
    ),
    "postgresql": ("SELECT setval(pg_get_serial_sequence('jobs', 'seq'), :last)",),
}


def mark_of(source: StoreLocation) -> str:
    """Return what an unfinished copy of this source bears: it must go on with the same one."""
    server = isinstance(source, ServerLocation)
    place = source.real_path.parent.name if server else str(source.real_path)
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{schema.UNFINISHED}{SCHEMA_REVISION} {digest}"  # a column of 32 characters


def is_mark(revision: str | None) -> bool:
    """Whether a store of this revision is an unfinished copy."""
    return revision is not None and revision.startswith(schema.UNFINISHED)


class UnfinishedStore(Store):
    """The target of a copy: opens if it bears this mark and no other copy has it open."""

    def __init__(self, location: StoreLocation, mark: str) -> None:
        super().__init__(location)
        self.patience_seconds = PATIENCE_SECONDS
        self._mark = mark
        self._lock: presence.Presence | None = None

    def close(self) -> None:
        """Close the connection, and let another copy in."""
        super().close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release(remove=True)

    def _admit(self, connection: Connection) -> None:
        if connection.execute(_REVISION).scalar() != self._mark:
            raise SchemaMismatch(
                f"{self.location} is no longer the copy that was begun",
                hint="is another queuectl db copy at work there? look with: queuectl db check",
            )
        if not self._keep_others_out(connection):
            raise Conflict(
                f"another copy to {self.location} goes on at this moment",
                hint="let that one end, then look again",
            )

    def _keep_others_out(self, connection: Connection) -> bool:
        """Take a lock that lasts as long as this connection; False: another copy holds it."""
        if self.is_shared:
            return bool(connection.execute(_TRY_LOCK).scalar())
        self._lock = self._lock or presence.take(self.location, _LOCK_FILE, create=False)
        return self._lock is not None


def mark(connection: Connection, new: str, *, old: str = SCHEMA_REVISION) -> bool:
    """Put one mark in another's place; False: the store bears neither, but a third."""
    return connection.execute(_MARK, {"new": new, "old": old}).rowcount == 1


def unmark(connection: Connection, old: str) -> bool:
    """Make a finished copy a store."""
    return mark(connection, SCHEMA_REVISION, old=old)


def last_seq(connection: Connection) -> int:
    """Return the highest sequence number that was ever given to a job; 0: none was."""
    return int(connection.execute(text(_LAST[connection.dialect.name])).scalar_one())


def advance_seq(connection: Connection, last: int) -> None:
    """Let the next job get a number behind ``last``; never turns back."""
    if last <= last_seq(connection):
        return
    for statement in _ADVANCE[connection.dialect.name]:
        query = text(statement)
        connection.execute(query, {"last": last} if ":last" in statement else {})
