"""Arithmetic with instants, which each kind of database writes in its own way."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class microseconds(FunctionElement[int]):  # noqa: N801  # it is written like a function
    """The microseconds from 1970 to an instant, exactly."""

    type = BigInteger()
    inherit_cache = True


@compiles(microseconds, "sqlite")
def _in_sqlite(element: microseconds, compiler: SQLCompiler, **how: Any) -> str:
    # strftime rounds to milliseconds, and .9996 up to the next second: so it gets whole seconds.
    text = compiler.process(element.clauses, **how)
    whole = f"CAST(strftime('%s', substr({text}, 1, 19)) AS INTEGER)"
    return f"({whole} * 1000000 + CAST(substr({text}, 21, 6) AS INTEGER))"


@compiles(microseconds, "postgresql")
def _in_postgresql(element: microseconds, compiler: SQLCompiler, **how: Any) -> str:
    instant = compiler.process(element.clauses, **how)
    return f"CAST(extract(epoch FROM {instant}) * 1000000 AS BIGINT)"
