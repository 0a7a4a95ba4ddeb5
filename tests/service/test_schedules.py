"""Schedules in a store: their definitions, and one job a tick whoever thinks that it is due."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from queuectl.db.engine import Store, open_store
from queuectl.db.models import ScheduleRow
from queuectl.domain.job import Job
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import CatchUp, Overlap, Schedule
from queuectl.errors import Conflict, NotFound
from queuectl.service import claims, config, jobs, orders, schedules, ticks
from queuectl.service.schedules import Added, Definition
from tests.actors import Hire
from tests.bench.test_counts import Traced
from tests.jobs import add as add_job
from tests.jobs import state_of

HOUR = timedelta(hours=1)


def definition(**fields: Any) -> Definition:
    given: dict[str, Any] = {
        "cron": None,
        "every_seconds": 3600.0,
        "timezone": "UTC",
        "catch_up": CatchUp.LAST,
        "overlap": Overlap.QUEUE,
        "request": JobRequest(command="true", cwd="/"),
    }
    return Definition(**{**given, **fields})


def add(store: Store, name: str = "s", **fields: Any) -> Schedule:
    found, _ = schedules.add(store, name, definition(**fields))
    return found


def find(store: Store, name: str = "s") -> Schedule:
    [known] = schedules.show(store, [name])
    return known.schedule


def late_by(store: Store, late: timedelta, name: str = "s") -> Schedule:
    """Let this schedule have begun, and be due, so much earlier; a few seconds more or less."""
    back = late + HOUR
    found = find(store, name)
    assert found.next_at is not None
    values = {"starts_at": found.starts_at - back, "next_at": found.next_at - back}
    query = update(ScheduleRow).where(ScheduleRow.name == name).values(**values)
    store.write(lambda connection: connection.execute(query))
    return find(store, name)


def made(store: Store) -> list[Job]:
    """Return the jobs of schedules, the oldest first."""
    return [job for job in jobs.list_jobs(store, limit=None)[::-1] if job.schedule]


def ticks_of(found: Sequence[Job]) -> list[datetime | None]:
    return [job.scheduled_for for job in found]


def test_a_schedule_is_stored_with_its_next_tick(store: Store) -> None:
    before = datetime.now(UTC)

    found = add(store, request=JobRequest(command="true", cwd="/", tags=["b", "a"], timeout=1.5))

    assert found.next_at is not None
    assert timedelta(minutes=59) < found.next_at - before <= HOUR
    assert found.request == {"command": "true", "cwd": "/", "tags": ["a", "b"], "timeout": 1.5}
    assert [known.schedule for known in schedules.list_schedules(store)] == [found]


def test_the_same_again_is_harmless_and_another_is_a_conflict(store: Store) -> None:
    first = add(store, cron="0 3 * * *", every_seconds=None)
    same = definition(cron="0 3 * * *", every_seconds=None)
    other = definition(cron="0 4 * * *", every_seconds=None)

    assert schedules.add(store, "s", same) == (first, Added.SAME)
    with pytest.raises(Conflict, match="'s' is already there, with another definition"):
        schedules.add(store, "s", other)
    replaced, how = schedules.add(store, "s", other, replace=True)

    assert how is Added.REPLACED
    assert (replaced.cron, replaced.created_at) == ("0 4 * * *", first.created_at)
    assert replaced.next_at is not None
    assert replaced.next_at.hour == 4


def test_replacing_only_the_command_keeps_the_next_tick(store: Store) -> None:
    before = late_by(store, timedelta(0), add(store).name)

    changed = definition(request=JobRequest(command="false", cwd="/"))
    after, _ = schedules.add(store, "s", changed, replace=True)

    assert (after.next_at, after.starts_at) == (before.next_at, before.starts_at)
    assert after.request["command"] == "false"


def test_a_due_tick_makes_one_job_and_the_next_one_is_set(store: Store, hire: Hire) -> None:
    config.set_option(store, "max-retries", 7)
    add(store, request=JobRequest(command="echo", cwd="/", queue="q", tags=["t"], env={"A": "b"}))
    due = late_by(store, timedelta(minutes=5))

    done = ticks.enqueue_due(store)

    [job] = made(store)
    assert done.ids == [job.id]
    assert (job.schedule, job.scheduled_for) == ("s", due.next_at)
    assert (job.queue, job.cwd, job.env, job.max_retries) == ("q", "/", {"A": "b"}, 7)
    assert jobs.history(store, job.id).tags == ["t"]
    after = find(store)
    assert due.next_at is not None
    assert (after.last_at, after.next_at) == (due.next_at, due.next_at + HOUR)
    assert not ticks.enqueue_due(store).found
    [claim] = hire(queues=["q"]).claim()
    assert claim.scheduled_for == due.next_at


def test_fifty_who_race_for_a_tick_make_one_job(store: Store) -> None:
    add(store)
    late_by(store, timedelta(minutes=5))
    barrier = threading.Barrier(50)
    done: list[ticks.Ticked] = []

    def race() -> None:
        with closing(open_store(store.location)) as own:
            own.read(lambda connection: None)
            barrier.wait()
            done.append(ticks.enqueue_due(own))

    threads = [threading.Thread(target=race) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(done) == 50
    assert len(made(store)) == sum(len(one.ids) for one in done) == 1


@pytest.mark.parametrize(
    ("catch_up", "count"), [(CatchUp.NONE, 0), (CatchUp.LAST, 1), (CatchUp.ALL, 4)]
)
def test_missed_ticks_are_made_up_for(store: Store, catch_up: CatchUp, count: int) -> None:
    add(store, catch_up=catch_up)
    first = late_by(store, 3 * HOUR + timedelta(minutes=5)).next_at
    assert first is not None

    ticks.enqueue_due(store)

    missed = [first + number * HOUR for number in range(4)]
    assert ticks_of(made(store)) == missed[len(missed) - count :]
    assert find(store).next_at == first + 4 * HOUR


def test_a_tick_is_skipped_while_an_earlier_job_waits_or_runs(store: Store, hire: Hire) -> None:
    add(store, overlap=Overlap.SKIP)
    late_by(store, timedelta(minutes=5))
    ticks.enqueue_due(store)
    worker = hire()

    late_by(store, timedelta(minutes=5))
    assert ticks.enqueue_due(store).ids == []  # it waits
    claim = worker.claim_one()
    late_by(store, timedelta(minutes=5))
    assert ticks.enqueue_due(store).ids == []  # it runs
    worker.settle(claim)
    late_by(store, timedelta(minutes=5))
    assert len(ticks.enqueue_due(store).ids) == 1


def test_a_tick_makes_no_job_while_another_has_its_unique_key(store: Store, hire: Hire) -> None:
    request = JobRequest(command="true", cwd="/", unique="k")
    add(store, request=request, catch_up=CatchUp.ALL)
    add(store, "other", request=request)
    add_job(store, id="by-hand", unique="k")
    worker = hire()
    claim = worker.claim_one()

    late_by(store, 3 * HOUR)
    assert ticks.enqueue_due(store).ids == []
    assert schedules.run_now(store, ["s", "other"]).unique == ["by-hand", "by-hand"]
    worker.settle(claim)
    late_by(store, 3 * HOUR)
    late_by(store, HOUR, "other")
    [job_id] = ticks.enqueue_due(store).ids

    [job] = made(store)
    assert (job.id, job.unique_key) == (job_id, "k")
    assert find(store).next_at is not None
    worker.settle(worker.claim_one())
    both = schedules.run_now(store, ["s", "other"])
    assert both.unique == both.ids[1:] == both.ids[:1]
    assert len(made(store)) == 2


def test_the_jobs_of_a_schedule_are_given_what_it_keeps(store: Store, hire: Hire) -> None:
    text = "ä\tb\0\n"
    add(store, request=JobRequest(command="cat", cwd="/", stdin=text.encode()))
    add(store, request=JobRequest(command="cat", cwd="/", stdin=text.encode()))
    late_by(store, timedelta(minutes=5))
    ticks.enqueue_due(store)

    claim = hire().claim_one()

    assert claim.stdin == text.encode()
    assert find(store).request["stdin"] == text


def test_an_earlier_job_is_cancelled_where_that_was_asked_for(store: Store, hire: Hire) -> None:
    add(store, overlap=Overlap.CANCEL_OLD)
    add_job(store, id="neighbour")
    late_by(store, timedelta(minutes=5))
    [first] = ticks.enqueue_due(store).ids
    late_by(store, timedelta(minutes=6))
    second = ticks.enqueue_due(store)
    assert second.cancelled == [first]
    assert state_of(store, first) == "cancelled"
    worker = hire()
    worker.claim(2)

    late_by(store, timedelta(minutes=7))
    third = ticks.enqueue_due(store)

    assert third.cancelled == second.ids
    running = jobs.find(store, second.ids[0])
    assert running.cancel_reason == "the next tick of schedule s came"
    assert [order.action for order in orders.take(store, worker.id)] == ["cancel"]
    assert state_of(store, "neighbour") == "processing"


def test_a_tick_that_has_its_job_makes_no_second_one(store: Store) -> None:
    add(store)
    due = late_by(store, timedelta(minutes=5))
    ticks.enqueue_due(store)
    schedules.remove(store, ["s"])

    add(store)
    again = update(ScheduleRow).values(starts_at=due.starts_at, next_at=due.next_at)
    store.write(lambda connection: connection.execute(again))

    assert ticks.enqueue_due(store).ids == []
    assert len(made(store)) == 1
    assert find(store).next_at is not None


def test_a_paused_schedule_makes_no_job_and_what_it_missed_is_not_made_up_for(
    store: Store,
) -> None:
    add(store, catch_up=CatchUp.ALL)
    late_by(store, timedelta(minutes=5))

    [paused] = schedules.pause(store, ["s"])
    [again] = schedules.pause(store, ["s"])

    assert (paused.changed, again.changed) == (True, False)
    assert not ticks.enqueue_due(store).found
    [resumed] = schedules.resume(store, ["s"])
    assert resumed.changed
    assert resumed.schedule.next_at is not None
    assert resumed.schedule.next_at > datetime.now(UTC)
    assert not ticks.enqueue_due(store).found
    assert not schedules.resume(store, ["s"])[0].changed


def test_a_replaced_one_stays_paused(store: Store) -> None:
    add(store)
    schedules.pause(store, ["s"])

    found, _ = schedules.add(store, "s", definition(every_seconds=60.0), replace=True)

    assert (found.next_at, found.every_seconds) == (None, 60.0)
    assert found.paused_at is not None


def test_running_one_now_changes_nothing_of_its_ticks(store: Store) -> None:
    before = add(store)
    schedules.pause(store, ["s"])

    ids = schedules.run_now(store, ["s"]).ids
    ids += schedules.run_now(store, ["s"]).ids

    found = made(store)
    assert [job.id for job in found] == ids
    assert {job.schedule for job in found} == {"s"}
    assert find(store).last_at is None
    assert schedules.resume(store, ["s"])[0].schedule.next_at == before.next_at


def test_a_removed_schedule_leaves_its_running_job_alone(store: Store, hire: Hire) -> None:
    add(store)
    late_by(store, timedelta(minutes=5))
    [job_id] = ticks.enqueue_due(store).ids
    worker = hire()
    claim = worker.claim_one()

    [change] = schedules.remove(store, ["s"])

    assert change.live == 1
    worker.settle(claim)
    assert state_of(store, job_id) == "completed"
    assert jobs.find(store, job_id).schedule == "s"
    assert schedules.list_schedules(store) == []


def test_a_dry_run_changes_nothing(store: Store) -> None:
    before = add(store)

    schedules.pause(store, ["s"], dry_run=True)
    schedules.remove(store, ["s"], dry_run=True)
    schedules.run_now(store, ["s"], dry_run=True)

    assert find(store) == before
    assert made(store) == []


@pytest.mark.parametrize("act", [schedules.pause, schedules.resume, schedules.remove])
def test_of_several_names_one_that_is_not_there_stops_all(store: Store, act: Any) -> None:
    before = add(store)

    with pytest.raises(NotFound, match="there is no schedule 'nöt'"):
        act(store, ["s", "nöt"])

    assert find(store) == before


def test_one_that_can_no_longer_be_read_is_paused_and_the_others_go_on(store: Store) -> None:
    add(store, "broken", cron="0 * * * *", every_seconds=None)
    add(store, "s")
    for name in ("broken", "s"):
        late_by(store, timedelta(minutes=5), name)
    spoil = update(ScheduleRow).where(ScheduleRow.name == "broken").values(timezone="Gone/Away")
    store.write(lambda connection: connection.execute(spoil))

    done = ticks.enqueue_due(store)

    assert [job.schedule for job in made(store)] == ["s"]
    assert list(done.broken) == ["broken"]
    found = find(store, "broken")
    assert "is no time zone" in (found.problem or "")
    assert (found.paused_at is not None, found.next_at) == (True, None)


def test_next_ticks_come_nearer_when_the_clock_was_set_back(store: Store) -> None:
    before = add(store)
    assert ticks.realign(store) == []
    assert before.next_at is not None
    ahead = update(ScheduleRow).values(next_at=before.next_at + 24 * HOUR)
    store.write(lambda connection: connection.execute(ahead))

    assert ticks.realign(store) == ["s"]

    assert find(store).next_at == before.next_at


def test_an_idle_worker_wakes_for_the_next_tick(store: Store, hire: Hire) -> None:
    worker = hire()
    assert claims.look(worker.store, worker.claimant).next_tick_at is None

    added = add(store)

    assert claims.look(worker.store, worker.claimant).next_tick_at == added.next_at
    assert worker.turn().next_tick_at == added.next_at


def test_a_worker_that_made_the_jobs_of_a_tick_knows_the_next_one(store: Store, hire: Hire) -> None:
    worker = hire()
    add(store)
    due = late_by(store, timedelta(minutes=5))
    assert worker.turn().next_tick_at == due.next_at

    ticks.enqueue_due(worker.store)

    assert due.next_at is not None
    assert worker.turn().next_tick_at == due.next_at + HOUR


@pytest.mark.sqlite
def test_a_turn_and_a_look_cost_no_statement_more_for_schedules(store: Store, hire: Hire) -> None:
    worker = hire()
    counts = []
    for _ in range(2):
        for _ in range(2):  # the first asks anew, as somebody has committed
            traced = Traced(worker.store)
            worker.turn(free=1)
            claims.look(worker.store, worker.claimant)
            Traced(worker.store)
        counts.append(len(traced.statements))
        add(store)

    assert counts[0] == counts[1]
