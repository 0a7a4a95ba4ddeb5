"""Cancelling: at once what waits, what runs through its worker; and retrying what has ended."""

from __future__ import annotations

import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import LIVE, Ending, State
from queuectl.domain.selection import Chosen, Selection
from queuectl.errors import Conflict, InvalidInput
from queuectl.service import (
    audit,
    cancelling,
    claims,
    config,
    dead_letters,
    jobs,
    orders,
    requeueing,
    rescues,
)
from queuectl.service.selection import choose
from tests.actors import Hire
from tests.jobs import add, state_of


def chosen(store: Store, *references: str) -> list[Chosen]:
    return choose(store, Selection(references), among=State, verb="meant")


def is_sound(store: Store) -> bool:
    return all(check.ok for check in audit.audit(store))


def test_a_job_that_waits_is_cancelled_at_once(store: Store, hire: Hire) -> None:
    add(store, id="pending")
    add(store, id="scheduled", delay="1h")
    add(store, id="held", hold=True)

    done = cancelling.cancel(store, chosen(store, "pending", "scheduled", "held"), reason="late")

    assert done == [
        cancelling.Cancelled(name, runs=False) for name in ("pending", "scheduled", "held")
    ]
    job = jobs.find(store, "pending")
    assert (job.state, job.cancel_reason, job.finished_at is not None) == (
        "cancelled",
        "late",
        True,
    )
    assert hire().claim() == []
    assert is_sound(store)


def test_a_job_that_runs_is_ended_by_its_worker_and_tried_no_more(store: Store, hire: Hire) -> None:
    add(store, id="a")
    worker = hire()
    claim = worker.claim_one()

    [done] = cancelling.cancel(store, chosen(store, "a"), reason="no use")
    cancelling.cancel(store, chosen(store, "a"), reason="again")

    assert done.runs
    assert state_of(store, "a") == "processing"
    [order, _] = orders.take(store, worker.id)
    assert (order.mark, order.action) == (claim.mark, orders.Action.CANCEL)
    assert orders.take(store, worker.id) == []
    turn = worker.settle(claim, Ending.CANCELLED)
    assert turn.decisions[claim.mark].state is State.CANCELLED
    job = jobs.find(store, "a")
    assert (job.state, job.cancel_reason, job.attempts) == ("cancelled", "no use", 0)
    assert is_sound(store)


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.STOPPED])
def test_an_end_that_would_be_followed_by_another_try_is_the_last(
    store: Store, hire: Hire, ending: Ending
) -> None:
    add(store, id="a")
    worker = hire()
    claim = worker.claim_one()
    cancelling.cancel(store, chosen(store, "a"))

    worker.settle(claim, ending)  # it had ended before the order came

    job = jobs.find(store, "a")
    assert (job.state, job.finished_at is not None) == ("cancelled", True)
    assert is_sound(store)


def test_a_job_that_was_done_before_the_order_came_is_completed(store: Store, hire: Hire) -> None:
    add(store, id="a")
    worker = hire()
    claim = worker.claim_one()
    cancelling.cancel(store, chosen(store, "a"))

    worker.settle(claim)

    assert state_of(store, "a") == "completed"


def test_a_claim_that_is_given_back_unstarted_is_cancelled(store: Store, hire: Hire) -> None:
    add(store, id="a")
    worker = hire()
    claim = worker.claim_one()
    cancelling.cancel(store, chosen(store, "a"))

    claims.take_turn(worker.store, worker.claimant, [], free=0, idle=True, unstarted=[claim])

    job = jobs.find(store, "a")
    assert (job.state, job.runs, job.finished_at is not None) == ("cancelled", 0, True)
    assert is_sound(store)


@pytest.mark.parametrize("started", [True, False])
def test_a_job_whose_worker_died_before_it_read_the_order_is_cancelled(
    store: Store, hire: Hire, *, started: bool
) -> None:
    add(store, id="a")
    worker = hire()
    claim = worker.claim_one()
    cancelling.cancel(store, chosen(store, "a"))
    worker.die()

    known = {worker.id: frozenset({claim.mark} if started else ())}
    rescues.rescue(store, [worker.id], started=known)

    job = jobs.find(store, "a")
    assert (job.state, job.finished_at is not None) == ("cancelled", True)
    assert len(jobs.history(store, "a").attempts) == started
    assert is_sound(store)


def test_a_cancelled_job_that_is_retried_runs_as_if_nothing_had_been(
    store: Store, hire: Hire
) -> None:
    add(store, id="a")
    cancelling.cancel(store, chosen(store, "a"), reason="no use")

    assert requeueing.retry(store, chosen(store, "a")).ids == ["a"]

    job = jobs.find(store, "a")
    assert (job.state, job.cancel_reason, job.cancel_requested_at) == ("pending", None, None)
    worker = hire()
    worker.settle(worker.claim_one(), Ending.FAILED)
    assert state_of(store, "a") == "failed"


def test_every_ended_job_can_be_retried_and_no_other(store: Store, hire: Hire) -> None:
    config.set_option(store, "max-retries", 0)
    worker = hire()
    for name, ending in (("done", Ending.COMPLETED), ("dead", Ending.FAILED)):
        add(store, id=name)
        worker.settle(worker.claim_one(), ending)
    add(store, id="waits")

    found = requeueing.retry(store, chosen(store, "done", "dead", "waits")).ids

    assert found == ["done", "dead"]
    assert dead_letters.list_dead(store) == []
    for name in ("done", "dead"):
        job = jobs.find(store, name)
        assert (job.state, job.attempts, job.runs, job.finished_at) == ("pending", 0, 1, None)
    for _ in range(3):
        worker.settle(worker.claim_one())
    assert is_sound(store)


def test_a_retry_of_a_job_whose_unique_key_is_taken_is_refused(store: Store, hire: Hire) -> None:
    add(store, id="first", unique="k")
    worker = hire()
    worker.settle(worker.claim_one())
    add(store, id="second", unique="k")

    with pytest.raises(Conflict, match="same unique key"):
        requeueing.retry(store, chosen(store, "first"))

    assert state_of(store, "first") == "completed"


def test_freezing_is_seen_until_the_job_is_thawed_or_ends(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="waits")
    worker = hire()
    claim = worker.claim_one()

    assert orders.freeze(store, chosen(store, "a", "waits")) == ["a"]
    assert jobs.find(store, "a").frozen_at is not None
    assert orders.thaw(store, chosen(store, "a")) == ["a"]
    assert jobs.find(store, "a").frozen_at is None
    orders.freeze(store, chosen(store, "a"))
    worker.settle(claim)

    assert jobs.find(store, "a").frozen_at is None
    assert [order.action for order in orders.take(store, worker.id)] == ["freeze", "thaw", "freeze"]


def test_the_workers_row_tells_that_there_are_orders(store: Store, hire: Hire) -> None:
    add(store, id="a")
    worker = hire()
    worker.claim_one()
    before = worker.turn().orders

    orders.send_signal(store, chosen(store, "a"), 2)

    assert worker.turn().orders == before + 1
    [order] = orders.take(store, worker.id)
    assert (order.action, order.signal) == (orders.Action.SIGNAL, 2)


def test_a_selection_by_what_jobs_have_in_common(store: Store) -> None:
    add(store, id="a", queue="q", tags=["x", "y"], name="nightly")
    add(store, id="b", queue="q", tags=["x"])
    add(store, id="c", delay="1h", tags=["x"])
    add(store, id="d", hold=True)

    def ids(**conditions: object) -> list[str]:
        selection = Selection(**conditions)  # type: ignore[arg-type]  # passed on
        return [job.id for job in choose(store, selection, among=LIVE, verb="meant")]

    assert ids(queues=("q",)) == ["a", "b"]
    assert ids(tags=("x",)) == ["a", "b", "c"]
    assert ids(tags=("x",), queues=("q",)) == ["a", "b"]
    assert ids(tags=("y",)) == ids(names=("nightly",)) == ["a"]
    assert ids(tags=("y", "z"), queues=("r", "q")) == ["a"]
    assert ids(states=(State.SCHEDULED,)) == ["c"]
    assert ids(states=(State.HELD,)) == ["d"]
    assert ids(everything=True) == ["a", "b", "c", "d"]
    assert ids(references=("d", "a", "a")) == ["d", "a"]
    assert ids(since=jobs.find(store, "c").created_at) == ["c", "d"]


def test_a_selection_of_nothing_and_of_impossible_states_is_refused(store: Store) -> None:
    add(store, id="a")

    with pytest.raises(InvalidInput, match="no jobs were named"):
        choose(store, Selection(), among=LIVE, verb="cancelled")
    with pytest.raises(InvalidInput, match="completed jobs cannot be cancelled"):
        choose(store, Selection(states=(State.COMPLETED,)), among=LIVE, verb="cancelled")
    with pytest.raises(Conflict, match="'a' is pending, and cannot be frozen"):
        choose(store, Selection(("a",)), among=(State.PROCESSING,), verb="frozen")


def test_many_jobs_are_changed_in_small_transactions(store: Store) -> None:
    for number in range(3):
        add(store, id=f"job-{number}")
    everything = choose(store, Selection(everything=True), among=LIVE, verb="cancelled")
    many = [*everything, *(Chosen(10_000 + n, f"gone-{n}", State.PENDING) for n in range(1200))]

    done = cancelling.cancel(store, many)

    assert [job.id for job in done] == ["job-0", "job-1", "job-2"]
