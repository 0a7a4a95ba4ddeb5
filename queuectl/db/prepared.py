"""Statements of the hot paths: built with Core, compiled once, given to the driver as they are.

SQLAlchemy's own way costs about 45 microseconds a call and 25 a row on top of the database's work,
more than SQLite takes for the row itself; this way costs 4 and 2. Only the turn and the bulk insert
use it: everything else goes through SQLAlchemy's execution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.expression import ClauseElement


@lru_cache(maxsize=256)  # most instants of a turn are the same one
def instant_text(instant: datetime) -> str:
    """Return an instant as ``models.Instant`` stores it in SQLite."""
    return instant.astimezone(UTC).isoformat(" ", "microseconds").removesuffix("+00:00")


class Prepared:
    """One Core statement with named parameters, for one kind of database.

    Values are what the driver takes; instants are the exception and may be given as they are.
    Results are the driver's rows. Raises the driver's own errors.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._sql = ""
        self._names: Sequence[str] = ()
        self._fixed: dict[str, Any] = {}

    def fetch(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        """Execute once and return all rows."""
        cursor = self._cursor(connection)
        try:
            cursor.execute(self._sql, self._bind(values))
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def execute(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Execute for each row of values; return how many database rows matched in all."""
        cursor = self._cursor(connection)
        try:
            cursor.executemany(self._sql, [self._bind(row) for row in rows])
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def _cursor(self, connection: Connection) -> Any:
        if not self._sql:
            compiled: Any = self._statement.compile(dialect=connection.dialect)
            self._sql = str(compiled)
            self._names = compiled.positiontup or ()
            # Constants in the statement, such as a LIMIT, are parameters of the compiled one.
            self._fixed = {
                name: compiled.binds[name].value
                for name in self._names
                if not compiled.binds[name].required
            }
        return connection.connection.cursor()

    def _bind(self, values: Mapping[str, Any]) -> list[Any]:
        fixed = self._fixed
        bound = [fixed[name] if name in fixed else values[name] for name in self._names]
        return [instant_text(v) if v.__class__ is datetime else v for v in bound]
