"""The dead letter queue: listed, requeued with a fresh start, purged with its history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow
from queuectl.domain.job import Ending
from queuectl.domain.request import JobRequest
from queuectl.domain.selection import Selection
from queuectl.errors import Conflict, NotFound
from queuectl.service import dead_letters, jobs
from tests.actors import Actor, Hire, ended
from tests.jobs import add


@pytest.fixture
def actor(hire: Hire) -> Actor:
    return hire()


def kill(store: Store, actor: Actor, job_id: str, queue: str = "default") -> None:
    """Add a job and let it fail for the last time."""
    add(store, id=job_id, max_retries=0, queue=queue)
    actor.settle(actor.claim_one(), Ending.FAILED)


def listed(store: Store, **how: object) -> list[str]:
    return [letter.job.id for letter in dead_letters.list_dead(store, **how)]  # type: ignore[arg-type]  # passed on


def test_who_died_last_is_listed_first(store: Store, actor: Actor) -> None:
    for job_id in ("a", "b", "c"):
        kill(store, actor, job_id, queue="q" if job_id == "b" else "default")

    assert listed(store) == ["c", "b", "a"]
    assert listed(store, limit=2) == ["c", "b"]
    assert listed(store, only=Selection(queues=("q",))) == ["b"]
    assert listed(store, only=Selection(queues=("nowhere",))) == []


def test_a_requeued_job_starts_afresh_and_keeps_its_history(store: Store, actor: Actor) -> None:
    kill(store, actor, "a")
    dead = jobs.find(store, "a")
    before = datetime.now(UTC)

    [changed] = dead_letters.requeue(store, ["a"])

    job = jobs.find(store, "a")
    assert changed == dead
    assert (job.state, job.attempts, job.crashes, job.finished_at) == ("pending", 0, 0, None)
    assert job.version > dead.version
    assert job.run_at >= before
    assert listed(store) == []
    assert len(jobs.history(store, "a").attempts) == 1
    assert actor.claim_one().run == 2


def test_a_requeued_job_can_die_again(store: Store, actor: Actor) -> None:
    kill(store, actor, "a")
    dead_letters.requeue(store, ["a"])

    actor.settle(actor.claim_one(), Ending.FAILED)

    assert listed(store) == ["a"]
    assert [attempt.run for attempt in jobs.history(store, "a").attempts] == [1, 2]


def test_a_prefix_names_a_dead_job_and_twice_is_once(store: Store, actor: Actor) -> None:
    kill(store, actor, "abc")

    changed = dead_letters.requeue(store, ["ab", "abc", "last"])

    assert [job.id for job in changed] == ["abc"]


@pytest.mark.parametrize("change", [dead_letters.requeue, dead_letters.purge])
def test_all_are_changed_or_none(
    store: Store, actor: Actor, change: Callable[[Store, list[str]], object]
) -> None:
    kill(store, actor, "a")
    kill(store, actor, "b")
    add(store, id="waits")

    with pytest.raises(Conflict, match="job 'waits' is pending, not dead"):
        change(store, ["a", "waits"])
    with pytest.raises(NotFound, match="'nobody'"):
        change(store, ["a", "nobody"])

    assert listed(store) == ["b", "a"]


def test_every_dead_job_can_be_requeued_or_those_of_a_queue(store: Store, actor: Actor) -> None:
    for job_id, queue in (("a", "q"), ("b", "p"), ("c", "q")):
        kill(store, actor, job_id, queue)

    assert [job.id for job in dead_letters.requeue_all(store, Selection(queues=("q",)))] == [
        "a",
        "c",
    ]
    assert listed(store) == ["b"]
    assert [job.id for job in dead_letters.requeue_all(store)] == ["b"]
    assert dead_letters.requeue_all(store) == []


def test_a_dry_run_changes_nothing(store: Store, actor: Actor) -> None:
    kill(store, actor, "a")
    before = store.data_version()

    told = [
        dead_letters.requeue(store, ["a"], dry_run=True),
        dead_letters.requeue_all(store, dry_run=True),
        dead_letters.purge(store, ["a"], dry_run=True),
        dead_letters.purge_all(store, dry_run=True),
    ]

    assert [[job.id for job in jobs_] for jobs_ in told] == [["a"]] * 4
    assert store.data_version() == before
    assert listed(store) == ["a"]


def test_a_dry_run_refuses_what_the_real_one_would(store: Store) -> None:
    add(store, id="waits")

    with pytest.raises(Conflict):
        dead_letters.requeue(store, ["waits"], dry_run=True)


def test_a_purged_job_is_gone_with_its_history(store: Store, actor: Actor) -> None:
    kill(store, actor, "a")
    kill(store, actor, "b")

    [purged] = dead_letters.purge(store, ["a"])

    assert (purged.id, purged.runs) == ("a", 1)
    with pytest.raises(NotFound):
        jobs.find(store, "a")
    kept = store.read(lambda connection: connection.execute(select(AttemptRow.job_seq)).all())
    assert [row.job_seq for row in kept] == [jobs.find(store, "b").seq]
    assert listed(store) == ["b"]


def test_more_than_a_thousand_are_changed_at_once(store: Store, actor: Actor) -> None:
    requests = [JobRequest(command="true", max_retries=0) for _ in range(1200)]
    jobs.enqueue(store, requests, cwd=None)
    actor.turn(*(ended(claim, Ending.FAILED) for claim in actor.claim(1200)))

    assert len(dead_letters.requeue_all(store)) == 1200
    actor.turn(*(ended(claim, Ending.FAILED) for claim in actor.claim(1200)))
    assert len(dead_letters.purge_all(store)) == 1200

    assert jobs.list_jobs(store) == []


def fail_with(store: Store, actor: Actor, job_id: str, command: str, error: str) -> None:
    """Let a job die of an error."""
    add(store, command, id=job_id, max_retries=0, queue="q" if job_id == "b" else "default")
    settlement = ended(actor.claim_one(), Ending.FAILED)
    actor.turn(replace(settlement, outcome=replace(settlement.outcome, error=error)))


@pytest.fixture
def kinds(store: Store, actor: Actor) -> list[dead_letters.Kind]:
    """Three jobs that died of the same, and one that did not."""
    fail_with(store, actor, "a", "convert 1.jpg", "exit code 1: 1.jpg is bad at 09:10:11")
    fail_with(store, actor, "b", "convert 2.jpg", "exit code 1: 2.jpg is bad at 10:11:12")
    fail_with(store, actor, "c", "/bin/convert 3", "exit code 1: 3.jpg is bad at 11:12:13")
    fail_with(store, actor, "d", "convert 4.jpg", "exit code 2: 4.jpg is bad at 11:12:13")
    return dead_letters.list_kinds(store)


def test_dead_jobs_are_folded_into_kinds(store: Store, kinds: list[dead_letters.Kind]) -> None:
    many, single = kinds

    assert (many.count, many.program, many.example.job.id) == (3, "convert", "c")
    assert many.error == "exit code 1: PATH is bad at TIME"
    assert (single.count, single.example.job.id) == (1, "d")
    first, *_, last = sorted(letter.died_at for letter in dead_letters.list_dead(store))[:3]
    assert (many.first_died_at, many.last_died_at) == (first, last)
    [of_queue] = dead_letters.list_kinds(store, Selection(queues=("q",)))
    assert (of_queue.id, of_queue.count) == (many.id, 1)


def test_a_kind_is_requeued_alone(store: Store, kinds: list[dead_letters.Kind]) -> None:
    told = dead_letters.requeue_kind(store, kinds[0].id, dry_run=True)
    assert [job.id for job in told] == ["a", "b", "c"]
    assert [
        job.id for job in dead_letters.requeue_kind(store, kinds[0].id, Selection(queues=("q",)))
    ] == ["b"]

    changed = dead_letters.requeue_kind(store, kinds[0].id.upper())

    assert [job.id for job in changed] == ["a", "c"]
    assert listed(store) == ["d"]


def test_a_kind_is_found(store: Store, kinds: list[dead_letters.Kind]) -> None:
    assert [job.id for job in dead_letters.find_kind(store, kinds[1].id)] == ["d"]
    assert dead_letters.find_kind(store, kinds[1].id, Selection(queues=("q",))) == []


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize("reference", ["", "zzzz", "*"])
def test_a_kind_that_nobody_died_of_is_refused(store: Store, reference: str) -> None:
    with pytest.raises(NotFound, match="no dead job is of the kind"):
        dead_letters.requeue_kind(store, reference)


def test_a_beginning_of_several_kinds_is_refused(store: Store, actor: Actor) -> None:
    for letter in "abcdefghijklmnopq":  # more than there are digits
        fail_with(store, actor, f"job-{letter}", letter, "died")
    kinds = [kind.id for kind in dead_letters.list_kinds(store)]
    digit = next(d for d in "0123456789abcdef" if sum(k.startswith(d) for k in kinds) > 1)

    with pytest.raises(Conflict, match="is the beginning of several kinds"):
        dead_letters.requeue_kind(store, digit)

    assert len(listed(store)) == 17


def test_without_dead_jobs_there_are_no_kinds(store: Store) -> None:
    assert dead_letters.list_kinds(store) == []
