"""Holding what waits, and letting it go: where it comes back to, and whether a claim is first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import Ending, State
from queuectl.domain.selection import Chosen, Effect, Selection
from queuectl.errors import Conflict
from queuectl.service import audit, editing, holding, jobs, requeueing, single
from queuectl.service.selection import choose
from tests.actors import Hire
from tests.jobs import add, state_of


def meant(store: Store, *references: str) -> list[Chosen]:
    selection = Selection(references) if references else Selection(everything=True)
    return choose(store, selection, among=State, verb="meant")


def hold(store: Store, *references: str) -> Effect:
    return holding.hold(store, meant(store, *references), strict=bool(references))


def release(store: Store) -> requeueing.Released:
    held = choose(store, Selection(everything=True), among=[State.HELD], verb="meant")
    return requeueing.release(store, held)


def states(store: Store, *references: str) -> list[str]:
    return [state_of(store, reference) for reference in references]


def test_what_waits_is_held_and_comes_back_to_where_it_waited(store: Store, hire: Hire) -> None:
    add(store, id="backs-off", backoff_base=1000)
    actor = hire()
    actor.settle(actor.claim_one(), Ending.FAILED)
    add(store, id="ready")
    add(store, id="later", delay="1h")
    add(store, id="blocked", after=["ready"])
    names = ("backs-off", "ready", "later", "blocked")
    before = {name: jobs.find(store, name) for name in names}

    assert hold(store).ids == list(names)

    assert states(store, *names) == ["held"] * 4
    assert actor.claim(9) == []
    assert release(store).ids == list(names)
    for name, job in before.items():
        after = jobs.find(store, name)
        assert (after.state, after.run_at, after.attempts, after.version) == (
            job.state,
            job.run_at,
            job.attempts,
            job.version + 2,
        )
    assert actor.claim_one().id == "ready"
    assert all(check.ok for check in audit.audit(store))


def test_who_needs_it_waits_longer_and_is_judged_at_the_release(store: Store, hire: Hire) -> None:
    add(store, id="a", max_retries=0)
    add(store, id="b", after=["a"])
    add(store, id="c", after=["b"])

    assert hold(store, "a") == Effect(["a"], ["b", "c"])
    assert hold(store, "b") == Effect(["b"], ["c"])
    requeueing.release(store, meant(store, "a"))
    actor = hire()
    actor.settle(actor.claim_one(), Ending.FAILED)
    assert states(store, "b", "c") == ["held", "blocked"]

    would = requeueing.rehearse_release(store, meant(store, "b"))
    done = requeueing.release(store, meant(store, "b"))

    assert done == would == requeueing.Released(["b"], cancelled=["b"], dependents=["c"])
    assert states(store, "b", "c") == ["cancelled", "cancelled"]


def test_one_that_has_failed_since_waits_for_nobody_after_its_release(
    store: Store, hire: Hire
) -> None:
    add(store, id="needed", max_retries=0)
    add(store, id="a", after=["needed"], backoff_base=1000)
    actor = hire()
    actor.settle(actor.claim_one())
    actor.settle(actor.claim_one(), Ending.FAILED)
    hold(store, "a")
    requeueing.retry(store, meant(store, "needed"))
    actor.settle(actor.claim_one(), Ending.FAILED)

    release(store)

    assert state_of(store, "a") == "failed"


def test_one_that_was_retried_though_what_it_needs_failed_is_not_held(
    store: Store, hire: Hire
) -> None:
    add(store, id="needed", max_retries=0)
    add(store, id="a", after=["needed"])
    actor = hire()
    actor.settle(actor.claim_one(), Ending.FAILED)
    requeueing.retry(store, meant(store, "a"))
    add(store, id="other")

    with pytest.raises(Conflict, match="a release would cancel it; nothing was held"):
        hold(store, "other", "a")

    assert states(store, "other", "a") == ["pending", "pending"]
    assert hold(store).ids == ["other"]


def test_one_that_was_claimed_meanwhile_runs_and_is_refused_by_name(
    store: Store, hire: Hire
) -> None:
    add(store, id="a")
    add(store, id="b")
    chosen = meant(store, "a", "b")
    claim = hire().claim_one()
    assert claim.id == "a"

    with pytest.raises(Conflict, match="job 'a' is processing by now; nothing was held"):
        holding.hold(store, chosen, strict=True)

    assert states(store, "a", "b") == ["processing", "pending"]
    assert holding.rehearse(store, chosen, strict=False).ids == ["b"]
    assert state_of(store, "b") == "pending"
    assert holding.hold(store, chosen, strict=False).ids == ["b"]


def test_holds_and_claims_at_once_leave_each_job_to_one_of_them(store: Store, hire: Hire) -> None:
    for number in range(40):
        add(store, id=f"job{number:02}")
    chosen = meant(store)
    actors = [hire(f"w{number}") for number in range(4)]

    with ThreadPoolExecutor(5) as threads:
        claims = [threads.submit(actor.claim, 5) for actor in actors]
        held = holding.hold(store, chosen, strict=False).ids
        claimed = [claim.id for each in claims for claim in each.result()]

    assert sorted([*held, *claimed]) == [job.id for job in chosen]
    assert {state_of(store, job_id) for job_id in held} == {"held"}
    assert {state_of(store, job_id) for job_id in claimed} <= {"processing"}


def test_the_worker_of_a_run_takes_what_is_held_for_it_and_not_what_somebody_holds(
    store: Store, hire: Hire
) -> None:
    seq = add(store, id="a", hold=True, backoff_base=1).seq
    actor = hire()

    def standing() -> single.Standing:
        return store.read(lambda connection: single.ask_standing(connection, seq)())

    assert standing().due
    requeueing.release(store, meant(store, "a"))
    actor.settle(actor.claim_one(), Ending.FAILED)
    hold(store, "a")

    def choose_single() -> list[object]:
        now = jobs.find(store, "a").run_at
        return store.write(lambda connection: list(single.choose_single(connection, seq, now)))

    assert not standing().due
    assert choose_single() == []
    editing.finish(store, editing.begin(store, "a"), {})
    assert state_of(store, "a") == "held"
    release(store)
    assert len(choose_single()) == 1
