"""Open a store and run transactions on it; transient errors are retried here and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from queuectl.db import schema, sqlite
from queuectl.errors import InvalidInput
from queuectl.settings import StoreLocation

Result = TypeVar("Result")


class Store:
    """An open store: one connection, used by one thread. Close it before a fork."""

    def __init__(self, location: StoreLocation) -> None:
        self.location = location
        self._engine = sqlite.create_sqlite_engine(location)
        self._connection: Connection | None = None
        self._remembered: dict[Hashable, Any] = {}
        self._remembered_version: int | None = None

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one short read transaction: all that it reads is of one moment.

        Raises StoreError, or whatever ``work`` raises.
        """
        return self._retry(lambda: self._transact(work, writes=False))

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one write transaction: committed durably when this returns, or undone.

        Waits for other writers in line; runs ``work`` again after a transient error, so it must
        have no other effects. Rings the bell if a row changed. Raises StoreError, or whatever
        ``work`` raises.
        """

        def attempt() -> tuple[Result, bool]:
            with sqlite.writers_queue(self.location):
                before = self._changes()
                result = self._transact(work, writes=True)
                return result, self._changes() != before

        result, changed = self._retry(attempt)
        if changed:
            sqlite.ring(self.location)
        return result

    def remember(
        self, connection: Connection, key: Hashable, load: Callable[[Connection], Result]
    ) -> Result:
        """Return ``load(connection)``, computed anew only if somebody else has committed since.

        For what this store's own transactions do not change: options, queues, one's own worker row.
        """
        version = self.data_version()
        if version != self._remembered_version:
            self._remembered_version = version
            self._remembered.clear()
        if key not in self._remembered:
            self._remembered[key] = load(connection)
        result: Result = self._remembered[key]
        return result

    def data_version(self) -> int:
        """Return a number that differs once another connection has committed (4 microseconds)."""
        return int(self._driver().execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the connection; the next transaction opens it anew."""
        connection, self._connection = self._connection, None
        self._remembered_version = None
        if connection is not None:
            connection.close()

    def _transact(self, work: Callable[[Connection], Result], *, writes: bool) -> Result:
        connection = self._open()
        connection.info["writes"] = writes
        with connection.begin():
            return work(connection)

    def _open(self) -> Connection:
        if self._connection is None:
            connection = self._engine.connect()
            try:
                sqlite.refuse_unsound_wal(connection)
                schema.require_current(self.location, connection)
                connection.rollback()
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _driver(self) -> Any:
        return sqlite.driver_connection(self._open())

    def _changes(self) -> int:
        return int(self._driver().total_changes)

    def _retry(self, attempt: Callable[[], Result]) -> Result:
        deadline = time.monotonic() + sqlite.PATIENCE_SECONDS
        tries = 0
        while True:
            try:
                return attempt()
            except UnicodeEncodeError as error:  # a value that no text column holds
                raise InvalidInput(f"{error.object[:60]!r} is not valid Unicode") from error
            except (DBAPIError, sqlite.LIBRARY.Error) as error:
                cause = sqlite.driver_error(error)
                transient = sqlite.is_transient(cause) and time.monotonic() < deadline
                if not transient:
                    self.close()  # what state it is in after a failed commit is not known
                    meaning = sqlite.translate_error(self.location, cause)
                    if meaning is None:
                        raise
                    raise meaning from error
            sqlite.pause_before_retry(tries)
            tries += 1


def open_store(location: StoreLocation) -> Store:
    """Return the store at ``location``, created or upgraded first where that is needed.

    Raises StoreError when the file is not a store, is newer than this program, or out of reach.
    """
    schema.prepare(location)
    return Store(location)
