"""The driver's connection to a PostgreSQL server: it waits only so long, and saves round trips.

What needs no answer yet is owed: the beginning of a transaction, a statement whose answer is read
later. It is sent, in the order in which it was said, once an answer is wanted, or together with the
COMMIT: one message and one wait for all, which takes the server half the time of one by one.
Whatever else executes on the connection, through SQLAlchemy or not, comes after what was owed.

The driver's own pipelines send and wait for each statement by itself and take its cursors: two
statements of one cost more than two round trips through a local socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import fetch_many, send
from psycopg.pq import ExecStatus

from queuectl.db.prepared import StaleRows
from queuectl.db.server_errors import CONNECTION_LOST

_LIMITS = (
    b"SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true),"
    b" set_config('idle_in_transaction_session_timeout', $3, true)"
)
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE, ExecStatus.NONFATAL_ERROR)


class Reply:
    """A statement, with ``$1`` for a value, that is owed or sent, and its answer once it is there.

    ``expected``: how many rows it must match; StaleRows is raised if it does not.
    """

    __slots__ = ("_connection", "expected", "query", "result", "values")

    def __init__(
        self,
        connection: ServerConnection,
        query: bytes,
        values: Sequence[Any],
        expected: int | None,
    ) -> None:
        self._connection = connection
        self.query = query
        self.values = values
        self.expected = expected
        self.result: Any = None

    def rows(self) -> list[Any]:
        """Return all rows; sends what is owed if need be."""
        if self.result is None:
            self._connection.send_owed()
        return self._connection.load(self.result)

    def count(self) -> int:
        """Return how many rows matched; sends what is owed if need be."""
        if self.result is None:
            self._connection.send_owed()
        return int(self.result.command_tuples or 0)


class _Letter(NamedTuple):
    """A statement as it is sent. The server keeps it under its name, if it has one."""

    query: bytes
    name: bytes
    is_kept: bool
    values: Sequence[Any]
    types: tuple[int, ...]
    formats: Any

    @property
    def answers(self) -> int:
        """How many answers belong to it."""
        return 2 if self.name and not self.is_kept else 1


class _Cursor(psycopg.Cursor[Any]):
    """A cursor before whose statements all is sent that was owed."""

    def execute(self, *arguments: Any, **named: Any) -> _Cursor:
        self._connection.send_owed()
        super().execute(*arguments, **named)
        return self

    def executemany(self, *arguments: Any, **named: Any) -> None:
        self._connection.send_owed()
        super().executemany(*arguments, **named)

    def copy(self, *arguments: Any, **named: Any) -> Any:
        self._connection.send_owed()
        return super().copy(*arguments, **named)

    @property
    def _connection(self) -> Any:
        return self.connection


class ServerConnection(psycopg.Connection[Any]):
    """One connection; ``patience`` bounds each wait for a reply."""

    #: In seconds; None: as long as it takes.
    patience: float | None = None
    #: Whether a pooler stands between, or may: it lends another server to each transaction, where
    #: another client's statement may bear the name that this one would give to its own.
    is_pooled = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.cursor_factory = _Cursor
        self._owed: list[Reply] = []
        #: Whether all that is owed is the beginning of a transaction.
        self._is_untouched = False
        #: The server's names of statements, by text and types of values.
        self._kept: dict[tuple[bytes, tuple[int, ...]], bytes] = {}
        self._names = 0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        limit = self.patience if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:
                raise
            self.pgconn.finish()  # what it would still say belongs to nobody
            raise psycopg.OperationalError(CONNECTION_LOST) from error

    def owe_transaction(self, mode: str, *limits_ms: int) -> None:
        """Begin a transaction with the first statement: its statement, lock and idle limits."""
        self._owed.clear()
        self.owe(f"BEGIN ISOLATION LEVEL {mode}".encode())
        self.owe(_LIMITS, [str(limit) for limit in limits_ms])
        self._is_untouched = True

    def owe(
        self, query: bytes, values: Sequence[Any] = (), *, expected: int | None = None
    ) -> Reply:
        """Let a statement go with the next one that is waited for."""
        reply = Reply(self, query, values, expected)
        self._owed.append(reply)
        self._is_untouched = False
        return reply

    def send_owed(self) -> None:
        """Send what is owed and wait for all answers; raises StaleRows and the driver's errors."""
        owed, self._owed = self._owed, []
        self._is_untouched = False
        if not owed:
            return
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        letters = [self._write(reply) for reply in owed]
        answers: list[Any] = []
        try:
            self._exchange(letters, answers)
        except BaseException as error:
            self.pgconn.finish()  # nobody knows what has been read of it
            for answer in answers:
                if answer and answer[-1].status in _FAILED:
                    raise psycopg.errors.error_from_result(answer[-1]) from error
            raise
        position = -1
        for reply, letter in zip(owed, letters, strict=True):
            position += letter.answers
            reply.result = answers[position][-1]
            # In their order: an update that missed tells why what came after it has failed.
            _judge(reply)

    def _write(self, reply: Reply) -> _Letter:
        """Put values into the server's form; raises the driver's errors before anything is sent."""
        transformer, values = self._transformer, reply.values
        if not values:
            return self._name(reply.query, (), (), None)
        dumped = transformer.dump_sequence(values, [PyFormat.AUTO] * len(values))
        return self._name(reply.query, dumped, transformer.types or (), transformer.formats)

    def _name(
        self, query: bytes, values: Sequence[Any], types: tuple[int, ...], formats: Any
    ) -> _Letter:
        if self.is_pooled:
            return _Letter(query, b"", False, values, types, formats)
        name = self._kept.get((query, types))
        if name is not None:
            return _Letter(query, name, True, values, types, formats)
        self._names += 1
        name = self._kept[query, types] = f"queuectl_{self._names}".encode()
        return _Letter(query, name, False, values, types, formats)

    def _exchange(self, letters: Sequence[_Letter], answers: list[Any]) -> None:
        pgconn = self.pgconn
        pgconn.enter_pipeline_mode()
        for letter in letters:
            query, name, is_kept, values, types, formats = letter
            if not name:
                pgconn.send_query_params(query, values, types, formats)
                continue
            if not is_kept:
                pgconn.send_prepare(name, query, types)
            pgconn.send_query_prepared(name, values, formats)
        pgconn.pipeline_sync()
        count = sum(letter.answers for letter in letters) + 1
        self.wait(_collect(pgconn, count, answers))
        pgconn.exit_pipeline_mode()

    @cached_property
    def _transformer(self) -> Any:
        """What turns values into the server's form and back, as the driver's cursors do."""
        return Transformer(self)

    def load(self, result: Any) -> list[Any]:
        """Return the rows of an answer, as a cursor does."""
        self._transformer.set_pgresult(result)
        rows: list[Any] = self._transformer.load_rows(0, result.ntuples, tuple)
        return rows

    def commit(self) -> None:
        if self._is_untouched:
            self._owed.clear()
            self._is_untouched = False
        try:
            if any(reply.expected is not None for reply in self._owed):
                self.send_owed()  # first see that they match
            self._send_commit()
        except BaseException:
            with suppress(psycopg.Error):  # the server has skipped the COMMIT, and waits
                self.rollback()
            raise

    def _send_commit(self) -> None:
        if self._owed:
            self.owe(b"COMMIT")
            self.send_owed()
        else:
            super().commit()

    def rollback(self) -> None:
        self._owed.clear()
        self._is_untouched = False
        super().rollback()
        if self._kept:  # what was prepared by a message that failed, is not known
            self._kept.clear()
            self.execute("DEALLOCATE ALL")


def _judge(reply: Reply) -> None:
    """Raise what an answer means, unless all is well."""
    result = reply.result
    if result.status in _FAILED:
        raise psycopg.errors.error_from_result(result)
    if result.status == ExecStatus.PIPELINE_ABORTED:
        raise psycopg.OperationalError("what came before it has failed")
    if reply.expected is not None and int(result.command_tuples or 0) != reply.expected:
        raise StaleRows


def _collect(pgconn: Any, count: int, answers: list[Any]) -> Any:
    """Send what is waiting, and collect so many answers; a generator of the driver's kind."""
    yield from send(pgconn)
    for _ in range(count):
        answers.append((yield from fetch_many(pgconn)))  # noqa: PERF401  # what came is kept
