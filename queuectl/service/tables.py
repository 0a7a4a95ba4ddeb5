"""The tables that leave a store, by copy or export: in what order, and their rows in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, select, tuple_

from queuectl.db.models import (
    AttemptRow,
    Base,
    DeadLetterRow,
    DependencyRow,
    InputRow,
    JobRow,
    OptionRow,
    OutputChunkRow,
    QueueRow,
    ScheduleRow,
    TagRow,
)

#: Rows of a batch: with 4 KiB of output each it is 4 MiB of memory.
BATCH_ROWS = 1000
#: The same of pieces of output, each up to 64 KiB, and of input, each up to 1 MiB.
BATCH_CHUNKS = 64
BATCH_INPUTS = 8


def _table(row: type[Base]) -> Table:
    return row.metadata.tables[row.__tablename__]


#: What grows leaves by its key, which is a number; parents first.
GROWING = {
    "jobs": _table(JobRow),
    "attempts": _table(AttemptRow),
    "output_chunks": _table(OutputChunkRow),
    "dead_letters": _table(DeadLetterRow),
    "tags": _table(TagRow),
    "dependencies": _table(DependencyRow),
    "inputs": _table(InputRow),
}
#: What is small leaves as a whole; the order of its keys differs between databases.
SMALL = {
    "options": _table(OptionRow),
    "queues": _table(QueueRow),
    "schedules": _table(ScheduleRow),
}
TABLES = GROWING | SMALL


def last_key(connection: Connection, table: Table) -> Sequence[Any] | None:
    """Return the highest key that is there."""
    keys = list(table.primary_key.columns)
    newest = select(*keys).order_by(*(key.desc() for key in keys)).limit(1)
    return connection.execute(newest).first()


def rows_after(
    connection: Connection,
    table: Table,
    last: Sequence[Any] | None,
    query: Select[Any] | None = None,
) -> Sequence[Any]:
    """Return the next rows by key; of the table, or of a query that has all of its columns."""
    keys = list(table.primary_key.columns)
    query = (select(table) if query is None else query).order_by(*keys).limit(batch_size(table))
    if last is not None:
        query = query.where(tuple_(*keys) > tuple(last) if len(keys) > 1 else keys[0] > last[0])
    return connection.execute(query).all()


def batch_size(table: Table) -> int:
    """Return how many rows of a table are held at a time."""
    sizes = {"output_chunks": BATCH_CHUNKS, "inputs": BATCH_INPUTS}
    return sizes.get(table.name, BATCH_ROWS)


def key_of(table: Table, row: Any) -> Sequence[Any]:
    """Return the key of a row."""
    return [row._mapping[key] for key in table.primary_key.columns]


def batches(
    connection: Connection, table: Table, query: Select[Any] | None = None
) -> Iterator[Sequence[Any]]:
    """Yield all rows by key, a batch at a time; part of a transaction that sees one moment."""
    last: Sequence[Any] | None = None
    while rows := rows_after(connection, table, last, query):
        yield rows
        last = key_of(table, rows[-1])
