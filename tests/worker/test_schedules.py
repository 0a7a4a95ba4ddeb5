"""Schedules with real workers: ticks that were missed, and those that come while it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from queuectl.db.engine import Store
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import CatchUp, Overlap
from queuectl.service import schedules
from tests.jobs import output_of, until
from tests.service.test_schedules import HOUR, add, find, late_by, made
from tests.supervision import Supervisors
from tests.waiting import wait_until

TELL = JobRequest(command="echo $QUEUECTL_SCHEDULED_FOR", cwd="/")


@pytest.mark.parametrize(
    ("catch_up", "count"), [(CatchUp.NONE, 0), (CatchUp.LAST, 1), (CatchUp.ALL, 3)]
)
def test_a_worker_that_starts_after_three_missed_ticks_makes_up_for_them(
    store: Store, supervisors: Supervisors, catch_up: CatchUp, count: int
) -> None:
    add(store, catch_up=catch_up, request=TELL)
    first = late_by(store, 2 * HOUR + timedelta(minutes=5)).next_at
    assert first is not None

    supervisors.run_drained(count=2)

    found = made(store)
    missed = [first + number * HOUR for number in range(3)]
    assert [job.scheduled_for for job in found] == missed[3 - count :]
    for job in found:
        assert job.scheduled_for is not None
        told = output_of(store, job.id).strip()
        assert datetime.fromisoformat(told).astimezone(UTC) == job.scheduled_for
    assert find(store).next_at == first + 3 * HOUR


def test_several_workers_make_one_job_of_each_tick_and_a_busy_one_makes_them_too(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    add(store, every_seconds=1.0, request=JobRequest(command=until(go), cwd="/"))
    started = [supervisors.start(count=2) for _ in range(2)]

    wait_until(lambda: len(made(store)) >= 7)  # each of the four slots is taken by then
    go.touch()
    wait_until(lambda: len(made(store)) >= 9)

    ticks = [job.scheduled_for for job in made(store)]
    assert ticks == sorted(set(ticks), key=str)
    for supervisor in started:
        assert not supervisor.events("schedules-refused")


def test_cancelling_the_old_job_ends_its_processes(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    never = JobRequest(command=until(tmp_path / "never"), cwd="/")
    add(store, every_seconds=2.0, overlap=Overlap.CANCEL_OLD, request=never)
    supervisors.start()

    wait_until(lambda: [job.state for job in made(store)][:1] == ["cancelled"])

    assert made(store)[0].cancel_reason == "the next tick of schedule s came"
    schedules.remove(store, ["s"])


def test_a_job_goes_on_when_its_schedule_is_removed(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    add(store, every_seconds=1.0, overlap=Overlap.SKIP, request=JobRequest(command=until(go)))
    supervisors.start()
    wait_until(lambda: [job.state for job in made(store)] == ["processing"])

    schedules.remove(store, ["s"])
    go.touch()

    wait_until(lambda: [job.state for job in made(store)] == ["completed"])
