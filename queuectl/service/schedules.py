"""Schedules: added, listed, paused, resumed, run now, removed. ``service/ticks.py`` runs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from queuectl.db.engine import Store
from queuectl.db.models import JobRow, ScheduleRow
from queuectl.domain.job import Job
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import CatchUp, Overlap, Schedule, Timing
from queuectl.errors import Conflict, NotFound
from queuectl.service.jobs import Receipt, known_keys
from queuectl.service.rows import SCHEDULE_COLUMNS, select_jobs, to_job, to_schedule
from queuectl.service.ticks import LIVE_OF_SCHEDULE, insert_ticks, write_anew

#: What a schedule is; the others are what becomes of it.
DEFINITION = ("cron", "every_seconds", "timezone", "catch_up", "overlap", "request")
_TIMING = ("cron", "every_seconds", "timezone")


@dataclass(frozen=True, slots=True)
class Definition:
    """What somebody asks for: when, what, and what becomes of missed and overlapping ticks.

    What its jobs get as their standard input must be UTF-8.
    """

    cron: str | None
    every_seconds: float | None
    timezone: str
    catch_up: CatchUp
    overlap: Overlap
    request: JobRequest

    def values(self) -> dict[str, Any]:
        """Return the columns that it fills."""
        fields = self.request.model_dump(mode="json", exclude_unset=True)
        if self.request.stdin is not None:
            fields["stdin"] = self.request.stdin.decode()  # as a request in JSON has it
        return {
            "cron": self.cron,
            "every_seconds": self.every_seconds,
            "timezone": self.timezone,
            "catch_up": self.catch_up.value,
            "overlap": self.overlap.value,
            "request": fields,
        }


class Added(StrEnum):
    """What became of a schedule that somebody added."""

    NEW = "added"
    REPLACED = "replaced"
    SAME = "unchanged"


@dataclass(frozen=True, slots=True)
class Known:
    """A schedule, the newest job that it made, and how many of its jobs wait or run."""

    schedule: Schedule
    last_job: Job | None
    live: int


@dataclass(frozen=True, slots=True)
class Change:
    """A schedule as a command leaves it, and whether that is another state than before."""

    schedule: Schedule
    changed: bool
    #: How many of its jobs wait or run at that moment.
    live: int


def add(
    store: Store, name: str, definition: Definition, *, replace: bool = False
) -> tuple[Schedule, Added]:
    """Add a schedule, whose first tick is the next one from now on; the same again is harmless.

    Raises Conflict where the name has another definition, unless it is to be replaced: then what
    waits and runs goes on, and a paused one stays paused.
    """

    def work(connection: Connection) -> tuple[Schedule, Added]:
        now = store.clock(connection)
        values = definition.values()
        found = next(iter(_rows(connection, [name], lock=True)), None)
        if found is None:
            return _insert(connection, name, values, now), Added.NEW
        if (done := _compare(found, values, replace=replace)) is Added.SAME:
            return found, done
        changes = _changes(found, values, now)
        connection.execute(update(ScheduleRow).where(ScheduleRow.name == name).values(**changes))
        return _require(connection, [name])[0], done

    try:
        return store.write(work)
    except IntegrityError:  # somebody else added it at the same moment
        return store.write(work)


def rehearse(
    store: Store | None, name: str, definition: Definition, *, replace: bool = False
) -> tuple[Schedule, Added]:
    """Return what ``add`` would, and store nothing; None is a store that is not there yet.

    Raises Conflict as ``add`` does.
    """
    if store is None:
        return _imagine(name, definition, datetime.now(UTC)), Added.NEW
    there, values = store, definition.values()

    def work(connection: Connection) -> tuple[Schedule, Added]:
        now = there.clock(connection)
        found = next(iter(_rows(connection, [name])), None)
        if found is None:
            return _imagine(name, definition, now), Added.NEW
        if (done := _compare(found, values, replace=replace)) is Added.SAME:
            return found, done
        changes = _changes(found, values, now)
        changes |= {"catch_up": definition.catch_up, "overlap": definition.overlap}
        return dataclasses.replace(found, **changes), done

    return there.read(work)


def _imagine(name: str, definition: Definition, now: datetime) -> Schedule:
    values = {
        **definition.values(),
        "catch_up": definition.catch_up,
        "overlap": definition.overlap,
        **_timed(definition.values(), now),
    }
    return Schedule(
        name=name,
        last_at=None,
        paused_at=None,
        problem=None,
        created_at=now,
        updated_at=now,
        **values,
    )


def _compare(found: Schedule, values: Mapping[str, Any], *, replace: bool) -> Added:
    """Return what becomes of a schedule that is there; raises Conflict."""
    if all(getattr(found, column) == values[column] for column in DEFINITION):
        return Added.SAME
    if not replace:
        raise Conflict(
            f"schedule {found.name!r} is already there, with another definition",
            hint=f"see it with: queuectl schedule show {found.name} (or add --replace)",
        )
    return Added.REPLACED


def _insert(
    connection: Connection, name: str, values: Mapping[str, Any], now: datetime
) -> Schedule:
    fresh = _timed(values, now)
    connection.execute(
        insert(ScheduleRow).values(name=name, created_at=now, updated_at=now, **values, **fresh)
    )
    return _require(connection, [name])[0]


def _changes(found: Schedule, values: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    changes = {**values, "updated_at": now, "problem": None}
    if any(getattr(found, column) != values[column] for column in _TIMING):
        changes |= _timed(values, now)
        if found.paused_at is not None:
            changes["next_at"] = None
    return changes


def _timed(values: Mapping[str, Any], now: datetime) -> dict[str, datetime | None]:
    """Return where an interval counts from, a whole second, and the first tick."""
    starts_at = now.replace(microsecond=0)
    timing = Timing(values["cron"], values["every_seconds"], values["timezone"], starts_at)
    return {"starts_at": starts_at, "next_at": timing.next_after(now)}


def list_schedules(store: Store) -> list[Known]:
    """Return all schedules by name, each with its newest job."""

    def work(connection: Connection) -> list[Known]:
        return [_know(connection, found) for found in _rows(connection, None)]

    return store.read(work)


def show(store: Store, names: Sequence[str]) -> list[Known]:
    """Return these schedules, in the order in which they were named. Raises NotFound."""

    def work(connection: Connection) -> list[Known]:
        return [_know(connection, found) for found in _require(connection, names)]

    return store.read(work)


def pause(store: Store, names: Sequence[str], *, dry_run: bool = False) -> list[Change]:
    """Let these schedules make no more jobs; what waits or runs goes on. Raises NotFound."""

    def change(found: Schedule, now: datetime) -> dict[str, Any] | None:
        return None if found.paused_at else {"paused_at": now, "next_at": None}

    return _change(store, names, change, dry_run=dry_run)


def resume(store: Store, names: Sequence[str], *, dry_run: bool = False) -> list[Change]:
    """Let these schedules go on with their next tick; those of the pause are not made up for.

    Raises NotFound.
    """

    def change(found: Schedule, now: datetime) -> dict[str, Any] | None:
        if found.paused_at is None:
            return None
        return {"paused_at": None, "problem": None, "next_at": found.timing.next_after(now)}

    return _change(store, names, change, dry_run=dry_run)


def remove(store: Store, names: Sequence[str], *, dry_run: bool = False) -> list[Change]:
    """Delete these schedules; their jobs stay, and what waits or runs goes on. Raises NotFound."""

    def work(connection: Connection) -> list[Change]:
        found = _require(connection, names, lock=not dry_run)
        changes = [Change(one, True, _count_live(connection, one.name)) for one in found]
        if not dry_run:
            connection.execute(
                delete(ScheduleRow).where(ScheduleRow.name.in_([one.name for one in found]))
            )
        return changes

    return store.read(work) if dry_run else store.write(work)


def run_now(store: Store, names: Sequence[str], *, dry_run: bool = False) -> Receipt:
    """Enqueue a job of each of these schedules now, besides those of their ticks.

    Paused ones too, and whatever of them waits or runs, but for a job that has the unique key: that
    is the answer then, as it is of ``enqueue``. Raises NotFound.
    """

    def work(connection: Connection) -> Receipt:
        found = _require(connection, names, lock=not dry_run)
        if dry_run:
            return Receipt([], [], [])
        now = store.clock(connection)
        receipt = _insert_now(connection, found, now)
        connection.execute(
            update(ScheduleRow)
            .where(ScheduleRow.name.in_([one.name for one in found]))
            .values(updated_at=now)
        )
        return receipt

    return store.read(work) if dry_run else write_anew(store, work)


def _insert_now(connection: Connection, found: Sequence[Schedule], now: datetime) -> Receipt:
    receipt = Receipt([], [], [])
    keys = [one.request["unique"] for one in found if one.request.get("unique") is not None]
    holders = known_keys(connection, keys)
    for one in found:
        key = one.request.get("unique")
        if key in holders:
            receipt.unique.append(holders[key])
            receipt.ids.append(holders[key])
            continue
        [job_id] = insert_ticks(connection, [(one, now)], now)
        receipt.ids.append(job_id)
        if key is not None:
            holders[key] = job_id
    return receipt


def _change(
    store: Store,
    names: Sequence[str],
    change: Callable[[Schedule, datetime], dict[str, Any] | None],
    *,
    dry_run: bool,
) -> list[Change]:
    def work(connection: Connection) -> list[Change]:
        now = store.clock(connection)
        changed: dict[str, bool] = {}
        before = _require(connection, names, lock=not dry_run)
        for found in before:
            values = change(found, now)
            changed[found.name] = values is not None
            if values is not None and not dry_run:
                connection.execute(
                    update(ScheduleRow)
                    .where(ScheduleRow.name == found.name)
                    .values(updated_at=now, **values)
                )
        after = before if dry_run else _require(connection, names)
        return [Change(one, changed[one.name], _count_live(connection, one.name)) for one in after]

    return store.read(work) if dry_run else store.write(work)


def _require(connection: Connection, names: Sequence[str], *, lock: bool = False) -> list[Schedule]:
    wanted = list(dict.fromkeys(names))
    found = {one.name: one for one in _rows(connection, wanted, lock=lock)}
    for name in wanted:
        if name not in found:
            raise NotFound(
                f"there is no schedule {name[:128]!r}",
                hint="list them with: queuectl schedule list",
            )
    return [found[name] for name in wanted]


def _rows(
    connection: Connection, names: Sequence[str] | None, *, lock: bool = False
) -> list[Schedule]:
    query: Select[Any] = select(*SCHEDULE_COLUMNS).order_by(ScheduleRow.name)
    if names is not None:
        # What is not ASCII is no name, and the driver refuses some of it.
        query = query.where(ScheduleRow.name.in_([name for name in names if name.isascii()]))
    if lock:
        query = query.with_for_update()
    return [to_schedule(row) for row in connection.execute(query)]


def _know(connection: Connection, found: Schedule) -> Known:
    # By the index of ticks, from its end.
    newest = select_jobs().where(JobRow.schedule == found.name, JobRow.schedule.is_not(None))
    row = connection.execute(newest.order_by(JobRow.scheduled_for.desc()).limit(1)).first()
    job = None if row is None else to_job(row)
    return Known(found, job, _count_live(connection, found.name))


def _count_live(connection: Connection, name: str) -> int:
    query = select(func.count()).select_from(JobRow).where(*LIVE_OF_SCHEDULE)
    return int(connection.execute(query, {"schedule_name": name}).scalar_one())
