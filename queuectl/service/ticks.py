"""Ticks: the due ones become jobs, exactly one each, however many workers and hosts there are.

Any worker does it, in a transaction of its own, when the next tick of all schedules has come; with
its own row it reads in each turn and look when that is. The transaction locks the rows of the
schedules that are due (SQLite has one writer; a server skips those that another worker has),
inserts the jobs and sets each schedule's next tick: both or neither. So a worker that dies, or
whose commit's reply is lost, leaves either the jobs and the next tick, or the tick that is still
due. A unique index of schedule and tick stands behind it: where a clock was set back, or a schedule
was removed and added again, a tick that has its job makes no second one.

What is due is judged by the store's clock, which on a server is the same for all hosts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from queuectl.db.engine import Store
from queuectl.db.models import JobRow, ScheduleRow
from queuectl.db.prepared import Prepared
from queuectl.domain.job import LIVE
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import (
    Overlap,
    Schedule,
    check_timezone,
    due_ticks,
    let_in,
)
from queuectl.errors import InvalidInput
from queuectl.service import config, queues
from queuectl.service.cancelling import cancel_in
from queuectl.service.insertion import generate_ids, insert_jobs
from queuectl.service.jobs import known_keys
from queuectl.service.needs import Bonds
from queuectl.service.rows import SCHEDULE_COLUMNS, in_states, to_schedule
from queuectl.service.spool import Draft, draft

Result = TypeVar("Result")

#: Schedules that one transaction serves, so that no worker waits long for it.
_SERVED_AT_ONCE = 50
#: How often it is tried where another client took an id or a unique key at the same moment.
_TRIES = 5
#: Jobs that one statement cancels: below SQLite's limit of parameters.
_CHUNK = 500

#: The jobs of a schedule that wait or run, by the index that holds no others.
LIVE_OF_SCHEDULE = (
    JobRow.schedule == bindparam("schedule_name"),
    JobRow.schedule.is_not(None),
    in_states(*LIVE),
)
_LIVE = select(JobRow.seq).where(*LIVE_OF_SCHEDULE).order_by(JobRow.seq)
# Every worker asks, idle ones too: one that compiles nothing shares its supervisor's memory.
_ANY_LATER = Prepared(
    select(ScheduleRow.name).where(ScheduleRow.next_at > bindparam("later_than")).limit(1)
)


@dataclass(slots=True)
class Ticked:
    """What a worker did about the ticks that were due."""

    #: Whether it found any: if not, another worker was quicker, or the store's clock is behind.
    found: bool = False
    ids: list[str] = field(default_factory=list)
    #: The ids of jobs that new ones took the place of.
    cancelled: list[str] = field(default_factory=list)
    #: Schedules that can no longer be read, and why; they are paused.
    broken: dict[str, str] = field(default_factory=dict)


def enqueue_due(store: Store) -> Ticked:
    """Make the jobs of the ticks that are due; those of some schedules, if many are.

    Raises StoreError; OutcomeUnknown leaves nothing to be done, as both outcomes are whole.
    """

    def work(connection: Connection) -> Ticked:
        now = store.clock(connection)
        done = Ticked()
        for schedule in _lock_due(connection, now):
            done.found = True
            _serve(connection, schedule, now, done)
        return done

    try:
        return write_anew(store, work)
    finally:
        store.forget()  # when the next tick is


def write_anew(store: Store, work: Callable[[Connection], Result]) -> Result:
    """Write, and again where a generated id or a unique key met one that came at that moment."""
    for _ in range(_TRIES - 1):
        with suppress(IntegrityError):
            return store.write(work)
    return store.write(work)


def _lock_due(connection: Connection, now: datetime) -> list[Schedule]:
    query = (
        select(*SCHEDULE_COLUMNS)
        .where(ScheduleRow.next_at <= now)
        .order_by(ScheduleRow.next_at)
        .limit(_SERVED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return [to_schedule(row) for row in connection.execute(query)]


def _serve(connection: Connection, schedule: Schedule, now: datetime, done: Ticked) -> None:
    assert schedule.next_at is not None  # noqa: S101  # it is what was asked for
    try:
        check_timezone(schedule.timezone)
        ticks = due_ticks(schedule.timing, schedule.catch_up, schedule.next_at, now)
        next_at = schedule.timing.next_after(now)
        request = JobRequest.model_validate(schedule.request)
    except (ValueError, InvalidInput) as error:
        # No worker that cannot read it may stop working; nor may it find it due for ever.
        reason = f"{error}"[:500]
        done.broken[schedule.name] = reason
        _set(connection, schedule.name, now, paused_at=now, next_at=None, problem=reason)
        return
    ticks = _without_jobs(connection, schedule.name, ticks)
    live = _find_live(connection, schedule) if ticks else []
    ticks = let_in(ticks, schedule.overlap, busy=bool(live))
    if ticks and live and schedule.overlap is Overlap.CANCEL_OLD:
        done.cancelled += _cancel(connection, schedule.name, live)
    if request.unique is not None:  # one of several ticks is enough, and none while one has the key
        ticks = [] if known_keys(connection, [request.unique]) else ticks[-1:]
    if ticks:
        done.ids += insert_ticks(connection, [(schedule, tick) for tick in ticks], now)
    last_at = ticks[-1] if ticks else schedule.last_at
    _set(connection, schedule.name, now, next_at=next_at, last_at=last_at)


def _set(connection: Connection, name: str, now: datetime, **values: Any) -> None:
    connection.execute(
        update(ScheduleRow).where(ScheduleRow.name == name).values(updated_at=now, **values)
    )


def _without_jobs(connection: Connection, name: str, ticks: list[datetime]) -> list[datetime]:
    """Leave out the ticks that have their job."""
    query = select(JobRow.scheduled_for).where(
        JobRow.schedule == name, JobRow.schedule.is_not(None), JobRow.scheduled_for.in_(ticks)
    )
    there = set(connection.execute(query).scalars()) if ticks else set()
    return [tick for tick in ticks if tick not in there]


def _find_live(connection: Connection, schedule: Schedule) -> list[int]:
    """Return the keys of its jobs that wait or run, as far as that matters."""
    if schedule.overlap is Overlap.QUEUE:
        return []
    query = _LIVE.limit(1) if schedule.overlap is Overlap.SKIP else _LIVE
    return list(connection.execute(query, {"schedule_name": schedule.name}).scalars())


def _cancel(connection: Connection, name: str, seqs: list[int]) -> list[str]:
    reason = f"the next tick of schedule {name} came"
    cancelled: list[str] = []
    for start in range(0, len(seqs), _CHUNK):
        done = cancel_in(connection, seqs[start : start + _CHUNK], reason)
        cancelled += [job.id for job in done if not job.follows]
    return cancelled


def insert_ticks(
    connection: Connection, ticks: Sequence[tuple[Schedule, datetime]], now: datetime
) -> list[str]:
    """Insert the job of each tick; part of a transaction that holds the schedules' rows."""
    options, known_queues = config.ask(connection)(), queues.ask_known(connection)()
    drafts = [_draft(one, tick) for one, tick in ticks]
    ids = generate_ids(len(ticks), os.urandom(16))
    named = [(one.name, tick) for one, tick in ticks]
    insert_jobs(
        connection, drafts, ids, options=options, cwd=None, now=now, bonds=Bonds(), ticks=named
    )
    queues.add(connection, {one.queue for one in drafts} - known_queues)
    return ids


def _draft(schedule: Schedule, tick: datetime) -> Draft:
    """Return the job of a tick, from which its deadline counts."""
    said = draft(JobRequest.model_validate(schedule.request))
    if not isinstance(said.deadline, float):
        return said
    return said._replace(deadline=tick + timedelta(seconds=said.deadline))


def realign(store: Store) -> list[str]:
    """Bring next ticks nearer that lie behind one that is to come; return the schedules' names.

    They do after the clock was set back: what it showed before is to come once more. A tick that
    has its job makes no second one.
    """

    def late(connection: Connection, *, lock: bool) -> dict[str, datetime]:
        now = store.clock(connection)
        query = (
            select(*SCHEDULE_COLUMNS).where(ScheduleRow.next_at > now).order_by(ScheduleRow.name)
        )
        rows = connection.execute(query.with_for_update() if lock else query).all()
        found = {}
        for schedule in map(to_schedule, rows):
            try:
                next_at = schedule.timing.next_after(now)
            except ValueError:  # its time comes, and then it is told
                continue
            if next_at is not None and schedule.next_at is not None and next_at < schedule.next_at:
                found[schedule.name] = next_at
        return found

    def work(connection: Connection) -> list[str]:
        found = late(connection, lock=True)
        now = store.clock(connection)
        for name, next_at in found.items():
            _set(connection, name, now, next_at=next_at)
        return list(found)

    def may_be_late(connection: Connection) -> bool:
        if not _ANY_LATER.fetch(connection, {"later_than": store.clock(connection)}):
            return False
        return bool(late(connection, lock=False))

    if not store.read(may_be_late):
        return []
    try:
        return store.write(work)
    finally:
        store.forget()
