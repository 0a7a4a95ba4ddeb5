"""Stats: exact numbers of what has ended, on each kind of store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, JobRow
from queuectl.domain.job import Ending, Outcome
from queuectl.domain.statistics import NO_TIMES
from queuectl.service import stats
from queuectl.service.claims import Settlement
from tests.actors import Actor, Hire
from tests.jobs import add

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture
def actor(hire: Hire) -> Actor:
    return hire()


def run(
    store: Store,
    actor: Actor,
    *,
    waited: float = 0.0,
    took: float = 1.0,
    ago: float = 60.0,
    ending: Ending = Ending.COMPLETED,
    **fields: object,
) -> None:
    """Let a job wait and run for so many seconds, and end so many seconds ago."""
    command = fields.pop("command", "true")
    job = add(store, str(command), **{"max_retries": 0, **fields})
    finished_at = NOW - timedelta(seconds=ago)
    started_at = finished_at - timedelta(seconds=took)
    due = started_at - timedelta(seconds=waited)
    [claim] = actor.claim()
    outcome = Outcome(ending, started_at, finished_at, exit_code=0, error="why")
    actor.turn(Settlement(claim, outcome))
    store.write(
        lambda connection: connection.execute(
            update(JobRow).where(JobRow.seq == job.seq).values(run_at=due)
        )
    )


def read(store: Store, since: timedelta = DAY, queue: str | None = None) -> stats.Stats:
    return stats.read_stats(store, since=NOW - since, now=NOW, queue=queue)


def test_an_empty_store_has_no_times(store: Store) -> None:
    seen = read(store)

    assert (seen.waiting, seen.running) == (NO_TIMES, NO_TIMES)
    assert sum(seen.outcomes.values()) == sum(seen.ended) == 0
    assert (seen.queues, seen.programs) == ([], [])
    assert len(seen.ended) in (24, 25)


def test_one_attempt_is_every_percentile(store: Store, actor: Actor) -> None:
    run(store, actor, waited=0.25, took=1.5)

    seen = read(store)

    running = seen.running
    assert running.count == 1
    assert running.mean == running.median == running.percentile_95 == running.percentile_99 == 1.5
    assert running.longest == 1.5
    assert running.histogram == (0, 0, 0, 1, 0, 0, 0, 0, 0)
    assert (seen.waiting.count, seen.waiting.median) == (1, 0.25)


def test_percentiles_are_times_that_occurred_to_the_microsecond(store: Store, actor: Actor) -> None:
    for number in range(1, 101):
        run(store, actor, took=number / 1000 + 0.000_7, waited=number)

    seen = read(store)

    assert seen.running.median == pytest.approx(0.0507, abs=1e-9)
    assert seen.running.percentile_95 == pytest.approx(0.0957, abs=1e-9)
    assert seen.running.percentile_99 == pytest.approx(0.0997, abs=1e-9)
    assert seen.running.longest == pytest.approx(0.1007, abs=1e-9)
    assert seen.running.mean == pytest.approx(0.0512, abs=1e-9)
    assert seen.running.histogram[:3] == (9, 90, 1)
    assert (seen.waiting.median, seen.waiting.percentile_99) == (50.0, 99.0)


def test_only_what_ended_since_then_is_counted(store: Store, actor: Actor) -> None:
    run(store, actor, ago=30)
    run(store, actor, ago=7200)

    seen = read(store, since=timedelta(hours=1))

    assert seen.outcomes[Ending.COMPLETED] == 1
    assert seen.running.count == seen.waiting.count == 1
    assert sum(seen.ended) == sum(seen.completed) == 1


def test_spans_are_counted_in_order(store: Store, actor: Actor) -> None:
    for ago in (1, 2, 2 * 3600 + 1):
        run(store, actor, ago=ago)
    run(store, actor, ago=3, ending=Ending.FAILED)

    seen = read(store)

    assert seen.span_seconds == 3600
    number = int((NOW - timedelta(seconds=2 * 3600 + 1)).timestamp()) // 3600
    first = int(seen.first_span_at.timestamp()) // 3600
    assert seen.ended[number - first] == 1
    assert sum(seen.ended) == 4
    assert sum(seen.completed) == 3


def test_a_long_time_begins_with_the_first_attempt(store: Store, actor: Actor) -> None:
    run(store, actor, ago=3600)

    seen = read(store, since=timedelta(days=3650))

    assert seen.begins == NOW - timedelta(hours=1)
    assert seen.span_seconds == 300


def test_failures_are_counted_by_queue_and_program(store: Store, actor: Actor) -> None:
    for command in ("/bin/convert a", "convert b", "make"):
        run(store, actor, command=command, queue="slow", ending=Ending.FAILED)
    run(store, actor, command="make", queue="fast", ending=Ending.TIMED_OUT)
    run(store, actor, command="ls", queue="fast")

    seen = read(store)

    assert sorted(seen.programs) == [("convert", 2), ("make", 2)]
    assert [(one.name, one.attempts, one.failures) for one in seen.queues] == [
        ("slow", 3, 3),
        ("fast", 2, 1),
    ]
    of_fast = read(store, queue="fast")
    assert of_fast.programs == [("make", 1)]
    assert [one.name for one in of_fast.queues] == ["fast"]
    assert of_fast.running.count == of_fast.waiting.count == 2
    assert sum(of_fast.ended) == 2


def test_attempts_that_others_ended_have_no_running_time(store: Store, actor: Actor) -> None:
    run(store, actor, ending=Ending.STOPPED)

    seen = read(store)

    assert seen.outcomes[Ending.STOPPED] == 1
    assert seen.running.count == 0
    assert seen.waiting.count == 0  # it waits again


def test_a_job_that_was_put_back_waits_from_then_on(store: Store, actor: Actor) -> None:
    add(store)
    instants = [NOW - timedelta(seconds=seconds) for seconds in (100, 90, 60, 50)]
    for ending in (Ending.STOPPED, Ending.COMPLETED):
        outcome = Outcome(ending, instants.pop(0), instants.pop(0))
        actor.turn(Settlement(actor.claim_one(), outcome))
    store.write(
        lambda connection: connection.execute(
            update(JobRow).values(run_at=NOW - timedelta(seconds=101))
        )
    )

    assert read(store).waiting.median == 30.0


def test_a_clock_that_was_set_back_makes_no_negative_time(store: Store, actor: Actor) -> None:
    run(store, actor, waited=-5)

    assert read(store).waiting.median == 0.0


def test_more_jobs_than_a_page_are_counted(
    store: Store, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "_PAGE_JOBS", 2)
    monkeypatch.setattr(stats, "_MOST_PROGRAMS", 2)
    for program in ("a", "b", "c", "d", "a"):
        run(store, actor, command=program, ending=Ending.FAILED)

    assert sorted(read(store).programs) == [(stats.OTHERS, 2), ("a", 2), ("b", 1)]


def test_fractions_of_a_second_are_not_rounded_up(store: Store, actor: Actor) -> None:
    run(store, actor, took=0.5)
    exact = {
        "started_at": NOW - timedelta(seconds=61, microseconds=300),
        "finished_at": NOW - timedelta(seconds=60, microseconds=100),
    }
    store.write(lambda connection: connection.execute(update(AttemptRow).values(exact)))

    assert read(store).running.median == 1.0002
