"""Copy a store into an empty one, of the same kind or another; the source is only read.

The target is marked before its first row and bears the mark until all of it was compared, so half a
copy can be told from a store and is used by nothing. Rows go over in the order of their keys, a
batch a transaction: where a copy was killed, the highest key in the target tells where to go on.
What changes in the source meanwhile is found when both are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from queuectl.db import copies, schema
from queuectl.db.bulk import insert_columns
from queuectl.db.engine import Store, open_store
from queuectl.db.files import prepare_side_files
from queuectl.db.models import JobRow
from queuectl.domain.job import State
from queuectl.errors import Conflict, InvalidInput, SchemaMismatch, StoreError
from queuectl.service import headcount, tables
from queuectl.service.rows import in_states
from queuectl.settings import ServerLocation, StoreLocation

#: What is told while it goes on: the step, and how many rows more of it are done.
Watch = Callable[[str, int], None]

COPYING, COMPARING = "copying", "comparing"


def watch_nothing(step: str, rows: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a copy is about to do: the rows of the source by kind, and how many are there yet."""

    rows: dict[str, int]
    done: dict[str, int]
    #: An earlier copy of the same source was cut off, and this one goes on with it.
    resumes: bool


class Fingerprint(NamedTuple):
    """What a table holds: how many rows, and a checksum that does not depend on their order."""

    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that is finished: what both stores hold, by kind, and the sequence number."""

    tables: dict[str, Fingerprint]
    last_seq: int


def open_source(location: StoreLocation) -> Store:
    """Return the store to be copied, which is neither created nor upgraded. Raises StoreError."""
    if isinstance(location, ServerLocation):
        return open_store(location)
    if not schema.is_there(location):
        raise StoreError(f"there is no store at {location}", hint="name the source with --db")
    return Store(location)


def plan(source: Store, target: StoreLocation, *, restart: bool = False) -> Plan:
    """Return what copying would do; changes nothing.

    Raises InvalidInput for a store and itself, Conflict when workers are alive in either, a job's
    worker has died, the target is not empty or another store's unfinished copy; and StoreError.
    """
    _refuse_itself(source, target)
    schema.require_same(source.location, schema.stored_revision(source.location))
    _refuse_workers(source)
    rows = source.read(_count_rows)
    _refuse_processing(source)
    nothing = dict.fromkeys(tables.TABLES, 0)
    if not schema.is_there(target):
        return Plan(rows, nothing, resumes=False)
    if not isinstance(target, ServerLocation):
        prepare_side_files(target)
    revision = schema.stored_revision(target)
    if not copies.is_mark(revision):
        _refuse_unfit(source, target, revision)
        return Plan(rows, nothing, resumes=False)
    if restart:
        return Plan(rows, nothing, resumes=False)
    if revision != copies.mark_of(source.location):
        raise Conflict(
            f"{target} is an unfinished copy of another store, or of another version's",
            hint="name that store with --db to finish it, or add --restart to begin anew",
        )
    with closing(copies.UnfinishedStore(target, revision)) as opened:
        return Plan(rows, opened.read(_count_rows), resumes=True)


def _refuse_itself(source: Store, target: StoreLocation) -> None:
    if target.real_path == source.location.real_path:
        raise InvalidInput("a store cannot be copied to itself", hint="name another with --to")


def _refuse_workers(store: Store) -> None:
    if alive := headcount.count_alive(store):
        raise Conflict(
            f"{alive} {'worker runs' if alive == 1 else 'workers run'} on {store.location}",
            hint=f"stop them first: queuectl --db {store.location} worker stop",
        )


def _refuse_processing(source: Store) -> None:
    """Refuse jobs whose worker died: what it left may still run, and would run twice."""
    query = select(func.count()).select_from(JobRow).where(in_states(State.PROCESSING))
    if count := source.read(lambda connection: connection.execute(query).scalar_one()):
        raise Conflict(
            f"{count} {'job was' if count == 1 else 'jobs were'} running when the worker died,"
            " and may still be",
            hint="let a worker of this store take them back:"
            f" queuectl --db {source.location} worker start",
        )


def _refuse_unfit(source: Store, target: StoreLocation, revision: str | None) -> None:
    """Refuse a target that is in use, or of another version."""
    try:
        schema.require_same(target, revision)
    except SchemaMismatch as error:
        hint = error.hint and error.hint.replace("queuectl db", f"queuectl --db {target} db")
        raise SchemaMismatch(error.message, hint=hint) from error
    with closing(Store(target)) as store:
        store.read(lambda connection: None)
        _refuse_itself(source, target)  # now that it is open, two URLs of it are known for one
        _refuse_workers(store)
        store.read(lambda connection: _refuse_rows(target, connection))


def _refuse_rows(target: StoreLocation, connection: Connection) -> None:
    there = {name: count for name, count in _count_rows(connection).items() if count}
    if there:
        found = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in there.items())
        raise Conflict(
            f"{target} is not empty: {found}", hint="name a store that holds nothing yet with --to"
        )


def _count_rows(connection: Connection) -> dict[str, int]:
    return {
        name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for name, table in tables.TABLES.items()
    }


def begin(source: Store, target: StoreLocation, *, restart: bool = False) -> Store:
    """Mark the target as an unfinished copy of this source, and return it, open for that.

    Creates an SQLite target; ``restart`` empties what an unfinished copy holds. Raises as ``plan``.
    """
    wanted = copies.mark_of(source.location)
    there = schema.stored_revision(target) if schema.is_there(target) else None
    if there is None or not copies.is_mark(there):
        with closing(open_store(target)) as store:
            store.write(lambda connection: _claim(target, connection, wanted))
        return copies.UnfinishedStore(target, wanted)
    if restart:
        with closing(copies.UnfinishedStore(target, there)) as store:
            store.write(lambda connection: _empty(connection, there, wanted))
    return copies.UnfinishedStore(target, wanted)


def _claim(target: StoreLocation, connection: Connection, mark: str) -> None:
    if not copies.mark(connection, mark):
        raise Conflict(
            f"another copy to {target} has just begun", hint="let that one end, then look again"
        )
    _refuse_rows(target, connection)


def _empty(connection: Connection, old: str, new: str) -> None:
    copies.mark(connection, new, old=old)
    for table in reversed(tables.TABLES.values()):
        connection.execute(delete(table))


def transfer(source: Store, target: Store, watch: Watch = watch_nothing) -> None:
    """Copy the rows that the target does not have yet; an end at any moment can be resumed.

    Raises Conflict if somebody else writes to the target.
    """
    try:
        for table in tables.GROWING.values():
            _transfer_growing(source, target, table, watch)
        for table in tables.SMALL.values():
            watch(COPYING, _transfer_small(source, target, table))
    except IntegrityError as error:
        raise Conflict(
            f"another copy to {target.location} goes on at this moment",
            hint="let one of them end; what is there is compared before it is used",
        ) from error


def _transfer_growing(source: Store, target: Store, table: Table, watch: Watch) -> None:
    last = target.read(partial(tables.last_key, table=table))
    while rows := source.read(partial(tables.rows_after, table=table, last=last)):
        columns = dict(zip(table.columns.keys(), zip(*rows, strict=True), strict=True))
        target.write(partial(_add, target, table=table, columns=columns))
        last = tables.key_of(table, rows[-1])
        watch(COPYING, len(rows))


def _add(target: Store, connection: Connection, table: Table, columns: Any) -> None:
    target.hush(connection)
    insert_columns(connection, table, columns, {})


def _transfer_small(source: Store, target: Store, table: Table) -> int:
    rows = source.read(lambda connection: connection.execute(select(table)).mappings().all())

    def work(connection: Connection) -> None:
        target.hush(connection)
        connection.execute(delete(table))
        if rows:
            connection.execute(insert(table), [dict(row) for row in rows])

    target.write(work)
    return len(rows)


def finish(source: Store, target: Store, watch: Watch = watch_nothing) -> Copy:
    """Compare all of both, set the target's sequence, and make it a store.

    Raises Conflict if they differ; the target stays unfinished then.
    """
    ours, last = source.read(lambda connection: _describe(connection, watch))
    theirs, _ = target.read(lambda connection: _describe(connection, watch))
    for name in tables.TABLES:
        if ours[name] != theirs[name]:
            raise Conflict(
                f"the copy differs from the source in its {name.replace('_', ' ')}"
                f" ({theirs[name].rows} rows, and {ours[name].rows} in the source):"
                " one of them was changed meanwhile",
                hint="stop what enqueues there, then run it again with --restart",
            )

    def work(connection: Connection) -> None:
        copies.advance_seq(connection, last)
        if not copies.unmark(connection, copies.mark_of(source.location)):
            raise Conflict(f"another copy to {target.location} has begun anew", hint="let it end")

    target.write(work)
    return Copy(ours, last)


def _describe(connection: Connection, watch: Watch) -> tuple[dict[str, Fingerprint], int]:
    found = {n: _fingerprint(connection, table, watch) for n, table in tables.TABLES.items()}
    return found, copies.last_seq(connection)


def _fingerprint(connection: Connection, table: Table, watch: Watch) -> Fingerprint:
    count = total = 0
    for rows in tables.batches(connection, table):
        for row in rows:
            # All values are plain ones by now, and read the same from every database.
            digest = hashlib.blake2b(
                repr(tuple(row)).encode(errors="surrogatepass"), digest_size=16
            )
            total += int.from_bytes(digest.digest(), "big")
        count += len(rows)
        watch(COMPARING, len(rows))
    return Fingerprint(count, f"{total % (1 << 128):032x}")
