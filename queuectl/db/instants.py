"""Arithmetic with instants, which each kind of database writes in its own way."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

#: From the first julian day to 1970.
_EPOCH_SECONDS = 210_866_760_000


class microseconds(FunctionElement[int]):  # noqa: N801  # it is written like a function
    """The microseconds from 1970 to an instant, exactly."""

    type = BigInteger()
    inherit_cache = True


@compiles(microseconds, "sqlite")
def _in_sqlite(element: microseconds, compiler: SQLCompiler, **how: Any) -> str:
    # SQLite knows milliseconds at most, so it gets whole seconds, and the rest is added. julianday
    # takes half the time of strftime, and unixepoch is not in every version.
    text = compiler.process(element.clauses, **how)
    days = f"julianday(substr({text}, 1, 19))"
    whole = f"(CAST(round({days} * 86400.0) AS INTEGER) - {_EPOCH_SECONDS})"
    return f"({whole} * 1000000 + CAST(substr({text}, 21, 6) AS INTEGER))"


@compiles(microseconds, "postgresql")
def _in_postgresql(element: microseconds, compiler: SQLCompiler, **how: Any) -> str:
    instant = compiler.process(element.clauses, **how)
    return f"CAST(extract(epoch FROM {instant}) * 1000000 AS BIGINT)"


class server_clock(FunctionElement[datetime]):  # noqa: N801  # it is written like a function
    """The time by the one clock that all machines share; null on SQLite, where there is one."""

    name = "server_clock"
    type = DateTime(timezone=True)
    inherit_cache = True


@compiles(server_clock, "sqlite")
def _no_server(element: server_clock, compiler: SQLCompiler, **how: Any) -> str:
    return "NULL"


@compiles(server_clock, "postgresql")
def _of_the_server(element: server_clock, compiler: SQLCompiler, **how: Any) -> str:
    return "clock_timestamp()"
