"""Import: the lines of an export become rows of this store; all of them or none.

The whole file is read and every line validated before anything is written, and then written in one
transaction: a store never has a part of an import, and whoever is killed runs it again. Jobs get
numbers of this store, in the order of the file. What is there already is left as it is, so that the
same import may be repeated, also after its jobs have run; a job that is there under the same id,
but was asked for differently, refuses the whole import.

A job that was running when it was exported comes in as pending (cancelled, if that was asked for),
and its attempt is recorded as lost: whether it ended, and how, is known where it ran, and not here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, insert, or_, select
from sqlalchemy.exc import IntegrityError

from queuectl.db import copies
from queuectl.db.bulk import insert_columns
from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, JobRow
from queuectl.domain.job import Ending, State
from queuectl.domain.options import Options, validate_option
from queuectl.domain.request import decode_json
from queuectl.errors import Conflict, InvalidInput
from queuectl.service import dependencies, queues, records, tables
from queuectl.service.rows import in_states
from queuectl.service.schedules import DEFINITION

#: Yields the lines of an export from its beginning, each time that it is called.
OpenLines = Callable[[], Iterable[str]]

#: The longest line, in characters: more than any export has.
LONGEST_LINE = 4 << 20
LOST_ERROR = "it was running when it was exported"

#: What becomes of a job changes these; the others say what was asked for.
_LIVED = frozenset(
    {
        "state",
        "run_at",
        "runs",
        "attempts",
        "crashes",
        "worker_id",
        "claimed_at",
        "last_error",
        "updated_at",
        "finished_at",
        "version",
        "requeued_after_run",
        "frozen_at",
        "cancel_requested_at",
        "cancel_reason",
        "needed",
        "deadline",
    }
)


@dataclass(slots=True)
class Imported:
    """What came in, and how much was there already, by kind; which options were left."""

    new: dict[str, int] = field(default_factory=lambda: dict.fromkeys(records.KINDS, 0))
    existing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(records.KINDS, 0))
    #: Stored options that have another value here than in the file.
    kept_options: list[str] = field(default_factory=list)
    #: Jobs that were running when they were exported.
    lost: int = 0


class Line:
    """One line of an export, read: its kind, what stands in it, and where it is."""

    __slots__ = ("kind", "values", "where")

    def __init__(self, kind: str, values: dict[str, Any], where: str) -> None:
        self.kind, self.values, self.where = kind, values, where


class _Undone(Exception):  # noqa: N818  # no error: the way out of a transaction
    """It was only to be seen what would be done."""


def read(lines: Iterable[str], name: str) -> Iterator[Line]:
    """Yield the validated lines between the first and the last. Raises InvalidInput."""
    counts = dict.fromkeys(records.KINDS, 0)
    names = {kind: plural for plural, kind in records.KINDS.items()}
    ended = False
    number = 0
    for number, text in enumerate(lines, 1):
        where = f"{name}, line {number}"
        fields = _decode(text, where)
        kind = fields.pop("kind", None)
        if number == 1:
            _require_head(kind, fields, where)
        elif ended:
            raise InvalidInput(f"{where}: the export had ended", hint="import one file at a time")
        elif kind == records.END:
            _require_counts(fields, counts, where)
            ended = True
        elif kind not in names:
            known = ", ".join(names)
            raise InvalidInput(
                f"{where}: {str(kind)[:40]!r} is no kind of line", hint=f"kinds: {known}"
            )
        else:
            counts[names[kind]] += 1
            yield Line(kind, records.decode(kind, fields, where=where), where)
    if not ended:
        raise InvalidInput(
            f"{name} is cut off: it has no last line" if number else f"{name} is empty",
            hint="nothing was imported; export it again",
        )


def _decode(text: str, where: str) -> dict[str, Any]:
    if len(text) > LONGEST_LINE:
        raise InvalidInput(f"{where}: longer than {LONGEST_LINE} characters")
    fields = decode_json(text, where=where)
    if not isinstance(fields, dict):
        raise InvalidInput(f"{where}: must be a JSON object")
    return fields


def _require_head(kind: object, fields: dict[str, Any], where: str) -> None:
    if kind != records.HEAD or not isinstance(fields.get("format"), int):
        raise InvalidInput(
            f"{where}: this is no export of queuectl's", hint="make one with: queuectl export FILE"
        )
    if fields["format"] != records.FORMAT:
        raise InvalidInput(
            f"{where}: format {fields['format']}, and this program reads {records.FORMAT}",
            hint="use the queuectl that wrote it",
        )


def _require_counts(fields: dict[str, Any], counts: dict[str, int], where: str) -> None:
    # A kind of which an older program knew nothing is not in what it wrote.
    if {**dict.fromkeys(counts, 0), **fields} != counts:
        raise InvalidInput(
            f"{where}: it counts {json.dumps(fields)[:200]}, and there are {json.dumps(counts)}",
            hint="nothing was imported; lines are missing, or were added: export it again",
        )


def import_(store: Store, open_lines: OpenLines, name: str, *, dry_run: bool = False) -> Imported:
    """Import the lines that each call of ``open_lines`` yields from the beginning.

    Raises InvalidInput for what is no whole export, Conflict for a job that is there with another
    content, and StoreError; nothing is changed then, nor with ``dry_run``.
    """
    for _ in read(open_lines(), name):
        pass
    done = Imported()

    def work(connection: Connection) -> None:
        nonlocal done
        done = Imported()
        _Import(connection, done).run(read(open_lines(), name))
        if dry_run:
            raise _Undone

    try:
        store.write(work)
    except _Undone:
        pass
    except IntegrityError as error:
        raise Conflict(
            f"{name} contradicts itself or the store: {str(error.orig)[:200]}",
            hint="nothing was imported; if somebody enqueued the same ids meanwhile, run it again",
        ) from error
    return done


class _Import:
    """One import, part of its transaction."""

    def __init__(self, connection: Connection, done: Imported) -> None:
        self._connection, self._done = connection, done
        #: Jobs of higher numbers came in by this import.
        self._last_seq = copies.last_seq(connection)
        self._now = datetime.now(UTC)

    def run(self, lines: Iterator[Line]) -> None:
        """Insert everything."""
        names = {kind: plural for plural, kind in records.KINDS.items()}
        for kind, group in groupby(lines, key=lambda line: line.kind):
            size = min(tables.batch_size(records.TABLES[kind]), tables.BATCH_ROWS // 2)
            while batch := list(islice(group, size)):
                self._insert_batch(names[kind], kind, batch)
        self._require_letters()
        dependencies.join_imported(self._connection, self._last_seq)

    def _insert_batch(self, name: str, kind: str, lines: Sequence[Line]) -> None:
        if name == "options":
            new = self._options(lines)
        elif name == "queues":
            new = self._queues(lines)
        elif name == "schedules":
            new = self._schedules(lines)
        elif name == "jobs":
            new = self._jobs(lines)
        else:
            new = self._belongings(kind, lines)
        self._done.new[name] += new
        self._done.existing[name] += len(lines) - new

    def _options(self, lines: Sequence[Line]) -> int:
        table = records.TABLES["option"]
        there = dict(self._connection.execute(select(table.c.key, table.c.value)).all())
        new = []
        for line in lines:
            key, value = line.values["key"], line.values["value"]
            if key not in Options.model_fields:
                raise InvalidInput(f"{line.where}: there is no option {key[:60]!r}")
            validate_option(key, json.loads(value))
            if key not in there:
                new.append(line.values)
            elif json.loads(there[key]) != json.loads(value):
                self._done.kept_options.append(key.replace("_", "-"))
        if new:
            self._connection.execute(insert(table), new)
        return len(new)

    def _queues(self, lines: Sequence[Line]) -> int:
        table = records.TABLES["queue"]
        there = set(self._connection.execute(select(table.c.name)).scalars())
        new = [line.values for line in lines if line.values["name"] not in there]
        if new:
            self._connection.execute(insert(table), new)
        return len(new)

    def _schedules(self, lines: Sequence[Line]) -> int:
        table = records.TABLES["schedule"]
        there = {row["name"]: row for row in self._connection.execute(select(table)).mappings()}
        new: dict[str, dict[str, Any]] = {}
        for line in lines:
            name, values = line.values["name"], line.values
            if name in new:
                raise InvalidInput(f"{line.where}: schedule {name!r} stands in it twice")
            if (values["cron"] is None) == (values["every_seconds"] is None):
                raise InvalidInput(f"{line.where}: it needs either cron or every_seconds")
            if (found := there.get(name)) is None:
                new[name] = values
            elif any(found[column] != values[column] for column in DEFINITION):
                raise Conflict(
                    f"{line.where}: schedule {name!r} is there with another definition",
                    hint="nothing was imported; import it into another store, or remove it first",
                )
        if new:
            self._connection.execute(insert(table), list(new.values()))
        return len(new)

    def _jobs(self, lines: Sequence[Line]) -> int:
        there = self._find(line.values["id"] for line in lines)
        new: dict[str, dict[str, Any]] = {}
        for line in lines:
            job_id = line.values["id"]
            found = there.get(job_id)
            if job_id in new or (found is not None and found["seq"] > self._last_seq):
                raise InvalidInput(f"{line.where}: job {job_id!r} stands in it twice")
            if found is None:
                new[job_id] = line.values
            else:
                _require_same(line, found)
        running = {job_id: _put_back(row, self._now) for job_id, row in new.items()}
        self._insert("job", list(new.values()))
        self._record_lost([row for row in running.values() if row is not None])
        queues.add(self._connection, {row["queue"] for row in new.values()})
        return len(new)

    def _find(self, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        query = select(JobRow.__table__).where(JobRow.id.in_(sorted(set(ids))))
        return {row["id"]: dict(row) for row in self._connection.execute(query).mappings()}

    def _record_lost(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        seqs = self._seqs(row["job"] for row in rows)
        lost = [{"job_seq": seqs[row.pop("job")], **row} for row in rows]
        self._connection.execute(insert(AttemptRow), lost)
        self._done.lost += len(lost)

    def _seqs(self, ids: Iterable[str]) -> dict[str, int]:
        query = select(JobRow.id, JobRow.seq).where(JobRow.id.in_(sorted(set(ids))))
        return dict(self._connection.execute(query).all())

    def _belongings(self, kind: str, lines: Sequence[Line]) -> int:
        """Insert what belongs to jobs that came in by this import; the others have theirs."""
        seqs = self._seqs(line.values["job"] for line in lines)
        new = []
        for line in lines:
            job_id = line.values.pop("job")
            if job_id not in seqs:
                raise InvalidInput(f"{line.where}: there is no job {job_id!r} in front of it")
            if seqs[job_id] > self._last_seq:
                new.append({"job_seq": seqs[job_id], **line.values})
        self._insert(kind, new)
        return len(new)

    def _require_letters(self) -> None:
        """Refuse a dead job that is not in the dead letter queue, and the other way round."""
        letters = records.TABLES["dead_letter"]
        dead = select(JobRow.seq).where(in_states(State.DEAD), JobRow.seq > self._last_seq)
        named = select(letters.c.job_seq).where(letters.c.job_seq > self._last_seq)
        query = select(JobRow.id).where(
            or_(
                JobRow.seq.in_(dead) & JobRow.seq.not_in(named),
                JobRow.seq.in_(named) & JobRow.seq.not_in(dead),
            ),
            JobRow.seq > self._last_seq,
        )
        if (job_id := self._connection.execute(query.limit(1)).scalar()) is not None:
            raise InvalidInput(
                f"job {job_id!r} is dead without a dead letter, or the other way round",
                hint="nothing was imported; export it again",
            )

    def _insert(self, kind: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        columns = {name: list(map(itemgetter(name), rows)) for name in rows[0]}
        insert_columns(self._connection, records.TABLES[kind], columns, {})


def _require_same(line: Line, found: Mapping[str, Any]) -> None:
    """Refuse a job that was asked for differently than the one of its id that is there."""
    for name, value in line.values.items():
        if name not in _LIVED and found[name] != value:
            raise Conflict(
                f"{line.where}: job {line.values['id']!r} is there with another {name}",
                hint="nothing was imported; import it into another store, or purge that job first",
            )


def _put_back(row: dict[str, Any], now: datetime) -> dict[str, Any] | None:
    """Make a job that was running pending; return its attempt, which is lost."""
    if row["state"] != State.PROCESSING:
        return None
    attempt = {
        "job": row["id"],
        "run": row["runs"],
        "worker_id": row["worker_id"] or "",
        "host": "",
        "pid": 0,
        "started_at": row["claimed_at"] or now,
        "finished_at": now,
        "outcome": Ending.LOST,
        "error": LOST_ERROR,
    }
    cancelled = row["cancel_requested_at"] is not None
    row.update(
        state=State.CANCELLED if cancelled else State.PENDING,
        version=row["version"] + 1,
        worker_id=None,
        claimed_at=None,
        frozen_at=None,
        finished_at=now if cancelled else None,
        updated_at=now,
    )
    return attempt
