"""Finding jobs, listing them, and telling all that is known of one."""

from __future__ import annotations

import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import Ending, State
from queuectl.domain.selection import Selection
from queuectl.errors import Conflict, InvalidInput, NotFound
from queuectl.service import jobs
from tests.actors import Hire
from tests.jobs import add


def listed(
    store: Store, only: Selection | None = None, *, limit: int | None = 20, next_first: bool = False
) -> list[str]:
    found = jobs.list_jobs(store, only, limit=limit, next_first=next_first)
    return [job.id for job in found]


# Finding


def test_an_exact_id_comes_before_a_prefix(store: Store) -> None:
    add(store, id="abc")
    add(store, id="ab")

    assert jobs.find(store, "ab").id == "ab"


def test_a_prefix_of_one_id_is_enough(store: Store) -> None:
    add(store, id="abc")
    add(store, id="abd")
    add(store, id="b")

    assert jobs.find(store, "abc").id == "abc"
    assert jobs.find(store, "b").id == "b"


def test_a_prefix_of_several_ids_is_a_conflict_that_names_them(store: Store) -> None:
    for job_id in ("abc", "abd", "abe"):
        add(store, id=job_id)

    with pytest.raises(Conflict, match=r"several ids: abc, abd, \.\.\.$"):
        jobs.find(store, "ab")


@pytest.mark.parametrize("reference", ["zzz", "%", "a_", "", "A", "last!", "\udcff", "\U0010ffff"])
def test_an_unknown_id_is_named(store: Store, reference: str) -> None:
    add(store, id="abc")

    with pytest.raises(NotFound) as caught:
        jobs.find(store, reference)

    assert repr(reference) in caught.value.message
    assert caught.value.exit_code == 3


def test_last_is_the_newest(store: Store) -> None:
    add(store, id="z")
    add(store, id="a")

    assert jobs.find(store, "last").id == "a"


def test_without_jobs_there_is_no_last(store: Store) -> None:
    with pytest.raises(NotFound, match="there is no job yet"):
        jobs.find(store, "last")


def test_jobs_are_found_by_ids_in_the_order_of_these(store: Store) -> None:
    for job_id in ("a", "b", "c"):
        add(store, id=job_id)

    found = jobs.find_by_ids(store, ["c", "gone", "a"])

    assert [job.id for job in found] == ["c", "a"]


# Listing


def test_the_newest_come_first_and_twenty_at_most(store: Store) -> None:
    for number in range(25):
        add(store, id=f"job-{number}")

    assert listed(store) == [f"job-{number}" for number in range(24, 4, -1)]
    assert len(listed(store, limit=None)) == 25
    assert listed(store, limit=1) == ["job-24"]


def test_a_list_can_be_of_states_and_of_a_queue(store: Store, hire: Hire) -> None:
    add(store, id="dead", max_retries=0)
    actor = hire()
    actor.settle(actor.claim_one(), Ending.FAILED)
    add(store, id="later", delay="1h")
    add(store, id="p1", queue="q")
    add(store, id="p2")

    assert listed(store, Selection(states=(State.PENDING,))) == ["p2", "p1"]
    assert listed(store, Selection(states=(State.DEAD, State.SCHEDULED))) == ["later", "dead"]
    three = Selection(states=(State.DEAD, State.PENDING, State.SCHEDULED))
    assert listed(store, three, limit=2) == [
        "p2",
        "p1",
    ]
    assert listed(store, Selection(queues=("q",))) == ["p1"]
    assert listed(store, Selection(states=(State.PENDING,), queues=("q",))) == ["p1"]
    assert listed(store, Selection(states=(State.COMPLETED,))) == []
    assert listed(store, Selection(queues=("nowhere",))) == []


def test_what_runs_next_is_listed_in_the_order_of_claims_and_then_by_time(
    store: Store, hire: Hire
) -> None:
    add(store, id="low", priority=-1)
    add(store, id="first")
    add(store, id="second")
    add(store, id="high", priority=5)
    add(store, id="in-1h", delay="1h")
    add(store, id="in-1m", delay="1m")

    assert listed(store, next_first=True) == ["high", "first", "second", "low", "in-1m", "in-1h"]
    assert listed(store, next_first=True, limit=5)[-1] == "in-1m"
    scheduled = Selection(states=(State.SCHEDULED,))
    assert listed(store, scheduled, next_first=True) == ["in-1m", "in-1h"]
    assert [claim.id for claim in hire().claim(10)] == ["high", "first", "second", "low"]


def test_what_runs_next_holds_nothing_that_has_ended_or_runs(store: Store, hire: Hire) -> None:
    add(store, id="done")
    add(store, id="running")
    actor = hire()
    actor.settle(actor.claim()[0])
    actor.claim_one()

    assert listed(store, next_first=True) == []


@pytest.mark.parametrize("text", ["pending", "PENDING"])
def test_a_state_is_named_in_either_case(text: str) -> None:
    assert jobs.parse_state(text) is State.PENDING


def test_an_unknown_state_is_refused_and_the_known_are_told() -> None:
    with pytest.raises(InvalidInput, match="there is no state 'done'") as caught:
        jobs.parse_state("done")

    assert "completed" in str(caught.value.hint)


# History


def test_a_history_holds_every_attempt_oldest_first(store: Store, hire: Hire) -> None:
    add(store, id="a", max_retries=1, backoff_base=1)
    actor = hire()
    actor.settle(actor.claim_one(), Ending.STOPPED)
    actor.settle(actor.claim_one())

    history = jobs.history(store, "a")

    assert [(attempt.run, attempt.outcome) for attempt in history.attempts] == [
        (1, "stopped"),
        (2, "completed"),
    ]
    assert history.attempts[0].error == "it stopped"
    assert history.attempts[0].worker_id == "w1"
    assert history.job.runs == 2
    assert (history.dead_reason, history.died_at) == (None, None)


def test_a_history_of_a_dead_job_tells_why(store: Store, hire: Hire) -> None:
    add(store, id="a", max_retries=0)
    actor = hire()
    actor.settle(actor.claim_one(), Ending.FAILED)

    history = jobs.history(store, "a")

    assert history.dead_reason == "retries exhausted"
    assert history.died_at is not None
    assert history.job.last_error == "it failed"
