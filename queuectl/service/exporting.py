"""Export: everything that a store holds as lines of JSON, all of one moment, in flat memory.

The first line names the format and the last one counts what stands between, so that a file that was
cut off is known for one. Between them: options, queues, schedules, jobs in the order in which they
came, then what belongs to them: attempts, outputs that are kept in the store, dead letters, tags,
dependencies and inputs. Workers' rows are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, select

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.selection import Selection
from queuectl.errors import StoreUnavailable
from queuectl.service import records, tables
from queuectl.service.narrowing import narrow
from queuectl.service.rows import in_states

#: What the id of the job is called to which a row belongs.
_JOB_ID = "id_of_job"
#: Takes a line, without its end.
Write = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """Which jobs are exported; without a condition all of them, with options and queues."""

    only: Selection = field(default_factory=Selection)
    with_output: bool = True

    @property
    def is_all(self) -> bool:
        """Whether it is the whole store, or jobs alone."""
        return self.only == Selection()


def export(store: Store, write: Write, part: Part | None = None) -> dict[str, int]:
    """Hand over the lines, one after the other; return how many there were of each kind.

    Raises StoreError, after some lines as well: what was written is then to be thrown away.
    """
    begun = False

    def work(connection: Connection) -> dict[str, int]:
        nonlocal begun
        if begun:  # the store was out of reach for a moment, and this is another one
            raise StoreUnavailable(
                f"{store.location} was out of reach in the middle of it", hint="export it again"
            )
        begun = True
        return _export(connection, write, part or Part())

    return store.read(work)


def _export(connection: Connection, write: Write, part: Part) -> dict[str, int]:
    counts = dict.fromkeys(records.KINDS, 0)
    write(records.dump({"kind": records.HEAD, "format": records.FORMAT}))
    for name, kind in records.KINDS.items():
        table = records.TABLES[kind]
        for rows in _batches(connection, name, table, part):
            for row in rows:
                values: Any = row._mapping
                job_id = values[_JOB_ID] if records.belongs_to_job(table) else None
                write(records.encode(kind, values, job_id))
            counts[name] += len(rows)
    write(records.dump({"kind": records.END, **counts}))
    return counts


def _batches(
    connection: Connection, name: str, table: Table, part: Part
) -> Iterator[Sequence[Any]]:
    if name in tables.SMALL:
        if part.is_all:
            [key] = table.primary_key.columns
            rows = connection.execute(select(table)).all()
            # Not by the database: each has an order of its own.
            yield sorted(rows, key=lambda row: str(row._mapping[key]))
        return
    if name == "output_chunks" and not part.with_output:
        return
    yield from tables.batches(connection, table, _query(table, part))


def _query(table: Table, part: Part) -> Select[Any]:
    conditions: list[ColumnElement[bool]] = []
    if part.only.states:
        conditions.append(in_states(*part.only.states))
    conditions += narrow(part.only)
    if not records.belongs_to_job(table):
        return select(table).where(*conditions)
    joined = table.join(JobRow.__table__, JobRow.seq == table.c.job_seq)
    return select(table, JobRow.id.label(_JOB_ID)).select_from(joined).where(*conditions)
