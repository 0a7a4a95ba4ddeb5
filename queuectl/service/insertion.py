"""New rows of ``jobs``, a thousand at a time and as fast as the driver takes them.

A value that is bound costs 0.6 microseconds a row, whatever it is. So what is the same for all new
jobs stands in the statement, a column that no job of a chunk uses is left out, and the rows go to
the driver's ``executemany`` past SQLAlchemy's preparation of each: 7 microseconds a job, not 30.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, insert, literal_column

from queuectl.db.models import JobRow
from queuectl.domain.options import Options
from queuectl.service.spool import Draft

#: Ten base-32 characters: 50 random bits. A million at once meet with a chance of 1 in 2,000.
_ID_LENGTH = 10
#: One of 32 characters for each byte; each of them for eight bytes, so that none is likelier.
_ID_LETTERS = b"abcdefghijklmnopqrstuvwxyz234567" * 8
_INSERT = insert(JobRow).values(
    runs=literal_column("0"),
    attempts=literal_column("0"),
    crashes=literal_column("0"),
    version=literal_column("1"),
)
_TYPES = {column.name: column.type for column in JobRow.__table__.columns}


def generate_ids(count: int) -> list[str]:
    """Return new random ids."""
    letters = os.urandom(count * _ID_LENGTH).translate(_ID_LETTERS).decode()
    return [letters[at : at + _ID_LENGTH] for at in range(0, count * _ID_LENGTH, _ID_LENGTH)]


def insert_jobs(
    connection: Connection,
    drafts: Sequence[Draft],
    ids: Sequence[str],
    *,
    options: Options,
    cwd: str | None,
    now: datetime,
) -> None:
    """Insert these jobs under these ids; part of the enqueueing transaction."""
    columns = {
        name: values
        for name, values in _columns(drafts, ids, options, cwd, now).items()
        if any(value is not None for value in values)
    }
    statement, names = _compile(connection.dialect, tuple(columns))
    encoded = [_encode(connection.dialect, name, columns[name]) for name in names]
    connection.exec_driver_sql(statement, list(zip(*encoded, strict=True)))


def _columns(
    drafts: Sequence[Draft],
    ids: Sequence[str],
    options: Options,
    cwd: str | None,
    now: datetime,
) -> dict[str, Sequence[Any]]:
    said: Any = Draft._make(zip(*drafts, strict=True))  # each field a column now
    run_at = [
        start or now if delay is None else now + timedelta(seconds=delay)
        for start, delay in zip(said.run_at, said.delay, strict=True)
    ]
    return {
        "id": ids,
        "queue": said.queue,
        "command": said.command,
        "cwd": _fill_in(said.cwd, cwd),
        "env": said.env,
        "state": ["scheduled" if start > now else "pending" for start in run_at],
        "priority": said.priority,
        "run_at": run_at,
        "max_retries": _fill_in(said.max_retries, options.max_retries),
        "timeout_seconds": _fill_in(said.timeout, options.timeout),
        "backoff_base": said.backoff_base,
        "request_digest": said.digest,
        "created_at": [now] * len(drafts),
        "updated_at": [now] * len(drafts),
    }


def _fill_in(values: Any, default: Any) -> list[Any]:
    return [default if value is None else value for value in values]


@lru_cache(maxsize=32)
def _compile(dialect: Dialect, names: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the statement that sets these columns, and the order in which it wants them."""
    compiled = _INSERT.compile(dialect=dialect, column_keys=list(names))
    order: list[str] = getattr(compiled, "positiontup", None) or list(names)
    return str(compiled), order


def _encode(dialect: Dialect, name: str, values: Sequence[Any]) -> Sequence[Any]:
    """Return the values as the driver takes them; equal instants are formatted once."""
    kind = _TYPES[name].dialect_impl(dialect)
    encode: Callable[[Any], Any] | None = kind.bind_processor(dialect)
    if encode is None:
        return values
    if isinstance(values[0], datetime):
        known = {value: encode(value) for value in set(values)}
        return [known[value] for value in values]
    return [encode(value) for value in values]
