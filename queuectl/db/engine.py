"""Open a store and run transactions on it; transient errors are retried here and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from queuectl.db import schema
from queuectl.db.backend import backend_of, driver_error
from queuectl.db.prepared import Prepared
from queuectl.db.wakeup import Bell
from queuectl.errors import InvalidInput, OutcomeUnknown
from queuectl.settings import StoreLocation

Result = TypeVar("Result")

#: A statement that reads holds up nobody: an audit of millions of attempts may take minutes.
READING_SECONDS = 300.0


class Store:
    """An open store: one connection, used by one thread. Close it before a fork."""

    def __init__(self, location: StoreLocation) -> None:
        self.location = location
        self._backend = backend_of(location)
        #: How long a transaction is tried again; on a server, how long a statement of one that
        #: writes may take, in seconds.
        self.patience_seconds = self._backend.PATIENCE_SECONDS
        #: On a server, how long a statement of a transaction that only reads may take, in seconds.
        self.reading_seconds = READING_SECONDS
        self._engine = self._backend.create_store_engine(location)
        self._connection: Connection | None = None
        self._bell: Bell | None = None
        self._committing = False
        self._remembered: dict[Hashable, object] = {}
        self._remembered_version: int | None = None
        #: The same where nothing tells of others' commits: until when by the monotonic clock.
        self._believed: dict[Hashable, tuple[float, object]] = {}

    @property
    def is_shared(self) -> bool:
        """Whether workers of several machines use it, so that leases decide about them."""
        return self._backend.SHARED

    @property
    def poll_seconds(self) -> float:
        """How long an idle worker sleeps at most, in seconds, though it hears nothing."""
        return self._backend.POLL_SECONDS

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one short read transaction: all that it reads is of one moment.

        Raises StoreError, or whatever ``work`` raises.
        """
        return self._retry(lambda: self._transact(work, writes=False))

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one write transaction: committed durably when this returns, or undone.

        Waits for other writers; runs ``work`` again after a transient error, so it must have no
        other effects. Rings the bell if a row changed. Raises StoreError, or whatever ``work``
        raises; OutcomeUnknown if the reply to the commit was lost.
        """

        def attempt() -> tuple[Result, bool]:
            with self._backend.writers_queue(self.location):
                before = self._backend.changes(self._open())
                result = self._transact(work, writes=True)
                return result, self._backend.changes(self._open()) != before

        result, changed = self._retry(attempt)
        if changed:
            self._backend.ring(self.location, hushed=bool(self._open().info.get("hushed")))
        return result

    def hush(self, connection: Connection) -> None:
        """Wake no worker for what this transaction changes: a thousand sleepers cost much.

        On SQLite whoever waits for a job hears it all the same, which costs nothing.
        """
        connection.info["hushed"] = True

    def remember(
        self,
        connection: Connection,
        key: Hashable,
        ask: Callable[[Connection], Callable[[], Result]],
        *,
        seconds: float = 0.0,
    ) -> Callable[[], Result]:
        """Return what ``ask(connection)`` returns, asked anew only if others may have committed.

        For what this store's own transactions do not change: options, queues, one's own worker row.
        A server does not tell whether others have; its answers are believed for ``seconds``.
        """
        version = self._backend.data_version(connection)
        if version is None:
            return self._believe(connection, key, ask, seconds)
        if version != self._remembered_version:
            self._remembered_version = version
            self._remembered.clear()
        if key not in self._remembered:
            self._remembered[key] = ask(connection)()
        result: Result = self._remembered[key]  # type: ignore[assignment]  # what ask's gave
        return lambda: result

    def _believe(
        self,
        connection: Connection,
        key: Hashable,
        ask: Callable[[Connection], Callable[[], Result]],
        seconds: float,
    ) -> Callable[[], Result]:
        now = time.monotonic()
        until, believed = self._believed.get(key, (0.0, None))
        if now < until:
            return lambda: believed  # type: ignore[return-value]  # what ask's gave
        answer = ask(connection)
        if not seconds:
            return answer

        def read() -> Result:
            result = answer()
            self._believed[key] = now + seconds, result
            return result

        return read

    def forget(self) -> None:
        """Ask anew for what is remembered: this store's own transaction changes some of it."""
        self._remembered.clear()
        self._believed.clear()

    def data_version(self) -> int | None:
        """Return a number that differs once another connection has committed, if there is one."""
        return self._backend.data_version(self._open())

    def clock(self, connection: Connection) -> datetime:
        """Return the time by which leases are given and judged."""
        return self._backend.clock(connection)

    def doorbell(self, *, hushed: bool = True) -> Bell:
        """Return an ear for what others commit, on this store's own connection if it has one.

        ``hushed``: also for what is to wake no worker, where that can be heard.
        """
        self._bell = bell = self._backend.doorbell(self.location, self.close, hushed=hushed)
        if self._connection is not None:
            try:
                bell.attend(self._connection)
            except self._backend.ERROR:
                self.close()  # it is broken; the next transaction has another, and listens on it
        return bell

    def prepare_statements(self) -> None:
        """Compile the statements of the hot paths now; opens no connection."""
        Prepared.compile_all(self._engine.dialect)

    def close(self) -> None:
        """Close the connection; the next transaction opens it anew."""
        connection, self._connection = self._connection, None
        self._remembered_version = None
        if connection is not None:
            self._backend.end_connection(connection)

    def _transact(self, work: Callable[[Connection], Result], *, writes: bool) -> Result:
        connection = self._open()
        connection.info["writes"] = writes
        connection.info["patience"] = self.patience_seconds if writes else self.reading_seconds
        connection.info["hushed"] = False
        transaction = connection.begin()
        try:
            result = work(connection)
            if writes:
                self._backend.announce(connection)
            self._committing = writes
            transaction.commit()
        except BaseException:
            with suppress(DBAPIError, self._backend.ERROR):  # what went wrong first is told
                transaction.close()  # a session of the work's may have rolled it back already
            raise
        self._committing = False
        return result

    def _open(self) -> Connection:
        if self._connection is None:
            connection = self._engine.connect()
            try:
                self._backend.prepare_connection(self.location, connection)
                self._admit(connection)
                self._backend.settle_in(self.location, connection)
                connection.rollback()
                if self._bell is not None:
                    self._bell.attend(connection)
            except BaseException:
                self._backend.end_connection(connection)
                raise
            self._connection = connection
        return self._connection

    def _admit(self, connection: Connection) -> None:
        """Refuse a store that is not to be used; raises SchemaMismatch."""
        schema.require_usable(self.location, connection)

    def _retry(self, attempt: Callable[[], Result]) -> Result:
        begun = time.monotonic()
        tries = 0
        while True:
            self._committing = False
            try:
                return attempt()
            except UnicodeEncodeError as error:  # a value that no text column holds
                raise InvalidInput(f"{error.object[:60]!r} is not valid Unicode") from error
            except (DBAPIError, self._backend.ERROR) as error:
                self._judge(error, time.monotonic() - begun)
            self._backend.pause_before_retry(tries)
            tries += 1

    def _judge(self, error: Exception, waited: float) -> None:
        """Return if the transaction is to be tried again; raise what the error means if not."""
        cause = driver_error(error)
        unknown = self._committing and self._backend.is_outcome_unknown(cause)
        connected = self._connection is not None
        if (
            not unknown
            and waited < self.patience_seconds
            and self._backend.is_worth_a_try(cause, connected=connected, waited=waited)
        ):
            if self._backend.is_disconnect(cause):
                self.close()
            return
        self.close()  # what state it is in after a failed commit is not known
        if unknown:
            raise OutcomeUnknown(
                f"{self.location}: the connection broke before the commit was confirmed",
                hint="look whether it was done before you repeat it",
            ) from error
        meaning = self._backend.translate_error(self.location, cause)
        if meaning is None:
            raise error
        raise meaning from error


def open_store(location: StoreLocation) -> Store:
    """Return the store at ``location``; an SQLite one is created or upgraded where needed.

    Raises StoreError when it is no store, is newer than this program, or out of reach.
    """
    schema.prepare(location)
    return Store(location)
