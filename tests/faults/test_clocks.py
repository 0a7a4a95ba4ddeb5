"""Wall clocks that jump, odd time zones, and nights on which an hour is missing or comes twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from queuectl.db import sqlite
from queuectl.db.engine import Store, open_store
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import CatchUp, Overlap
from queuectl.service import jobs, schedules
from queuectl.service.schedules import Definition
from tests.actors import Hire
from tests.aging import age
from tests.cli.conftest import Program
from tests.faults import clocks
from tests.faults.clocks import JumpingClock, clock_at
from tests.jobs import add, state_of
from tests.supervision import Supervisors
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("faketime")

TWO_HOURS = 7200


@pytest.fixture(autouse=True)
def tidy_clocks() -> Iterator[None]:
    """Leave nothing of the clocks behind."""
    yield
    clocks.tidy()


@pytest.mark.parametrize("whose", ["its own", "another's"])
def test_a_clock_that_jumps_ahead_rescues_no_live_job(
    store: Store, supervisors: Supervisors, hire: Hire, tmp_path: Path, whose: str
) -> None:
    """T2: two hours ahead every lease is over; the locks say who lives."""
    clock = JumpingClock(tmp_path)
    go = tmp_path / "go"
    add(store, f"while [ ! -e {go} ]; do sleep 0.05; done", id="live", queue="a")
    holder = supervisors.start(
        queues=["a"], environment=clock.environment if whose == "its own" else None
    )
    holder.wait_for("job-started")
    other = supervisors.start(queues=["b"], environment=clock.environment)

    clock.jump(TWO_HOURS)
    add(store, id="orphan", queue="b")
    add(store, id="later", queue="c")
    dead = hire("dead", queues=["c"])
    dead.claim_one()
    dead.die()
    wait_until(lambda: state_of(store, "orphan") == "completed")
    # Somebody has looked for dead workers since, and found the one that there is.
    wait_until(lambda: state_of(store, "later") == "pending")

    assert jobs.find(store, "orphan").updated_at > datetime.now(UTC) + timedelta(hours=1)
    assert state_of(store, "live") == "processing"
    go.touch()
    wait_until(lambda: state_of(store, "live") == "completed")
    [attempt] = jobs.history(store, "live").attempts
    assert (attempt.outcome, jobs.find(store, "live").crashes) == ("completed", 0)
    assert attempt.finished_at - attempt.started_at < timedelta(hours=1)
    assert other.events("worker-silent") == holder.events("worker-silent") == []


def test_a_clock_that_jumps_ahead_deletes_no_history(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """A year ahead everything is past its retention; one job was so before, and goes."""
    for name in ("young", "old"):
        add(store, id=name)
    supervisors.run_drained()
    age(store, 20, "young")
    age(store, 40, "old")
    add(store, id="now")
    clock = JumpingClock(tmp_path)
    clock.jump(365 * 86_400)
    # Before it looks for the first time, a worker has run "now", which ended in a year.
    supervisor = supervisors.start(environment=clock.environment)

    wait_until(lambda: supervisor.events("pruned"))

    assert {job.id for job in jobs.list_jobs(store)} == {"young", "now"}
    finished = jobs.find(store, "now").finished_at
    assert finished is not None
    assert finished > datetime.now(UTC) + timedelta(days=300)


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("America/New_York", datetime(2027, 3, 14, 7, tzinfo=UTC)),  # an hour is missing
        ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),  # an hour comes twice
        ("Asia/Kathmandu", datetime(2026, 12, 31, 18, 15, tzinfo=UTC)),  # a new year, at +05:45
        ("Pacific/Apia", datetime(2026, 12, 1, 10, tzinfo=UTC)),  # +13:00, another day
    ],
)
def test_instants_are_utc_and_backoffs_as_long_as_ever(
    queuectl: Program, zone: str, change: datetime
) -> None:
    """T3: a job fails half an hour before the change and is due again half an hour after it."""
    begin = change - timedelta(minutes=30)
    hour = 3600

    def at(seconds: int) -> dict[str, str]:
        return clock_at(begin + timedelta(seconds=seconds), zone)

    job = f'{{"id": "a", "command": "false", "max_retries": 1, "backoff_base": {hour}}}'
    queuectl("enqueue", job, variables=at(0))
    queuectl("worker", "start", "--drain", variables=at(0))
    with closing(open_store(queuectl.location)) as store:
        failed = jobs.find(store, "a")

        assert failed.state == "failed"
        assert begin <= failed.created_at < begin + timedelta(minutes=10)
        assert failed.run_at - failed.updated_at == timedelta(seconds=hour)
        assert _stored_created_at(queuectl) == failed.created_at.strftime("%Y-%m-%d %H:%M:%S.%f")
        queuectl("worker", "start", "--drain", variables=at(hour - 300))
        assert state_of(store, "a") == "failed"
        queuectl("worker", "start", "--drain", variables=at(hour + 600))
        assert state_of(store, "a") == "dead"
        shown = queuectl("show", "a", "--json", variables={"TZ": zone}).json
    assert shown["created_at"].startswith(failed.created_at.strftime("%Y-%m-%dT%H:%M:%S"))
    assert shown["created_at"].endswith("Z")
    queuectl("audit")


def _stored_created_at(queuectl: Program) -> str:
    """Return what a plain ``sqlite3`` shell would show."""
    with closing(sqlite.LIBRARY.connect(queuectl.location.path)) as connection:
        [value] = connection.execute("SELECT created_at FROM jobs").fetchone()
    return str(value)


@pytest.mark.parametrize(
    ("noon_before", "expected"),
    [
        # On the 29th the hour from 2:00 to 3:00 is missing: the tick comes right after the gap.
        (datetime(2027, 3, 27, 11, tzinfo=UTC), ["28T01:00:00Z", "29T00:30:00Z"]),
        # On the 31st it comes twice: the tick is that of the first time.
        (datetime(2027, 10, 30, 10, tzinfo=UTC), ["31T00:30:00Z", "01T01:30:00Z"]),
    ],
)
def test_a_schedule_is_due_once_in_a_night_of_another_length(
    queuectl: Program, noon_before: datetime, expected: list[str]
) -> None:
    words = ("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--catch-up", "all")
    queuectl("schedule", "add", "s", *words, "true", variables=clock_at(noon_before, "UTC"))

    for hours in (13, 14, 15, 37, 38, 39, 40):  # 2:00 and later, on two mornings
        clock = clock_at(noon_before + timedelta(hours=hours), "UTC")
        queuectl("worker", "start", "--drain", variables=clock)

    made = queuectl("list", "--json").json[::-1]
    assert [job["scheduled_for"][8:].replace(".000Z", "Z") for job in made] == expected


def test_a_schedule_goes_on_when_the_clock_is_set_back(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    clock = JumpingClock(tmp_path)
    request = JobRequest(command="true", cwd="/")
    hourly = Definition(None, 3600.0, "UTC", CatchUp.LAST, Overlap.QUEUE, request)
    added, _ = schedules.add(store, "s", hourly)
    supervisor = supervisors.start(environment=clock.environment)

    clock.jump(2 * TWO_HOURS)
    wait_until(lambda: schedules.show(store, ["s"])[0].schedule.last_at)
    clock.jump(0)

    supervisor.wait_for("schedule-moved")
    [known] = schedules.show(store, ["s"])
    assert known.schedule.next_at == added.next_at
    assert added.next_at is not None
    assert known.schedule.last_at == added.next_at + timedelta(hours=3)
