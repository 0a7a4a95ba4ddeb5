"""Jobs that were not started by their deadline: never started later, dead, with the reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.job import Ending
from queuectl.domain.request import validate_request
from queuectl.errors import InvalidJob
from queuectl.service import (
    audit,
    claims,
    counts,
    dead_letters,
    expiry,
    explanation,
    jobs,
    queues,
)
from tests.actors import Hire
from tests.jobs import add, state_of

PAST = datetime(2001, 1, 1, tzinfo=UTC)


def pass_deadline(store: Store, *ids: str) -> None:
    """Let the deadlines of these jobs have passed."""
    changed = update(JobRow).where(JobRow.id.in_(ids)).values(deadline=PAST)
    store.write(lambda connection: connection.execute(changed))


def test_a_job_is_not_started_after_its_deadline(store: Store, hire: Hire) -> None:
    add(store, id="late", deadline="1h")
    add(store, id="in-time", deadline="1h")
    pass_deadline(store, "late")

    claimed = hire().claim(5)

    assert [claim.id for claim in claimed] == ["in-time"]
    [letter] = dead_letters.list_dead(store)
    assert (letter.job.id, letter.reason) == ("late", "expired")
    assert letter.last_error == "it was not started by 2001-01-01T00:00:00Z"
    assert all(check.ok for check in audit.audit(store))


def test_whatever_keeps_a_job_it_expires(store: Store, hire: Hire) -> None:
    add(store, id="held", hold=True, deadline="1h")
    add(store, id="scheduled", delay="1h", deadline="2h")
    add(store, id="needed", queue="unserved", deadline="1h")
    add(store, id="blocked", after=["needed"], deadline="1h")
    add(store, id="dependent", after=["blocked"])
    add(store, id="paused", queue="closed", deadline="1h")
    queues.pause(store, ["closed"])
    kept = ("held", "scheduled", "needed", "blocked", "paused")
    pass_deadline(store, *kept)

    hire(queues=["default"]).turn()

    assert {job_id: state_of(store, job_id) for job_id in kept} == dict.fromkeys(kept, "dead")
    assert jobs.find(store, "dependent").cancel_reason == "job blocked died"


def test_a_job_that_was_started_in_time_is_retried_after_it(store: Store, hire: Hire) -> None:
    add(store, id="a", deadline="1h", max_retries=1)
    actor = hire()
    actor.settle(actor.claim_one(), Ending.STOPPED)
    pass_deadline(store, "a")

    assert [claim.id for claim in actor.claim()] == ["a"]


def test_a_claim_that_was_given_back_unstarted_expires(store: Store, hire: Hire) -> None:
    add(store, id="a", deadline="1h")
    actor = hire()
    claim = actor.claim_one()
    actor.turn()  # it has seen that nothing else has a deadline
    pass_deadline(store, "a")
    claims.take_turn(actor.store, actor.claimant, [], free=0, idle=True, unstarted=[claim])

    assert actor.claim() == []
    assert state_of(store, "a") == "dead"


def test_an_idle_worker_sees_when_the_next_deadline_is(store: Store, hire: Hire) -> None:
    actor = hire(queues=["other"])
    job = add(store, id="a", deadline="1h")

    outlook = claims.look(actor.store, actor.claimant)
    assert (outlook.due, outlook.next_due_at) == (False, job.deadline)
    pass_deadline(store, "a")
    assert claims.look(actor.store, actor.claimant).due
    actor.turn()
    assert not claims.look(actor.store, actor.claimant).due


def test_a_worker_does_not_spin_for_a_deadline_that_it_met(store: Store, hire: Hire) -> None:
    actor = hire()
    job = add(store, id="a", deadline=0.2)
    claims.look(actor.store, actor.claimant)
    actor.claim_one()
    assert job.deadline is not None
    while datetime.now(UTC) <= job.deadline:
        pass

    actor.turn()

    assert not claims.look(actor.store, actor.claimant).due
    assert state_of(store, "a") == "processing"


def test_a_turn_that_meets_too_many_claims_nothing_yet(
    store: Store, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "EXPIRED_A_TURN", 2)
    for name in "abc":
        add(store, id=name, deadline="1h")
    pass_deadline(store, *"abc")
    actor = hire()

    assert actor.claim(5) == []
    assert counts.read_status(store).overdue == 1
    assert actor.claim(5) == []
    assert counts.read_status(store).overdue == 0


def test_what_no_worker_has_moved_is_told(store: Store) -> None:
    add(store, id="a", deadline="1h")
    assert counts.read_status(store).overdue == 0
    pass_deadline(store, "a")

    assert counts.read_status(store).overdue == 1
    assert jobs.find(store, "a").is_overdue(datetime.now(UTC))
    [first, second] = explanation.explain(store, "a").reasons
    assert (first.name, second.name) == ("deadline-passed", "no-worker")


def test_a_retry_lifts_the_deadline(store: Store, hire: Hire) -> None:
    add(store, id="a", deadline="1h")
    pass_deadline(store, "a")
    actor = hire()
    actor.turn()

    dead_letters.requeue(store, ["a"])

    assert actor.claim_one().id == "a"


def test_a_deadline_is_an_instant_or_a_duration(store: Store) -> None:
    job = add(store, deadline="90m")
    assert job.deadline == job.created_at + timedelta(minutes=90)
    assert add(store, deadline="2100-01-01T00:00:00Z").deadline == datetime(2100, 1, 1, tzinfo=UTC)
    # With a duration, a repeated request is the same one.
    add(store, id="again", deadline="1h")
    add(store, id="again", deadline="1h")


@pytest.mark.parametrize(
    "fields",
    [
        {"deadline": 0},
        {"deadline": "never"},
        {"deadline": "1h", "delay": "1h"},
        {"deadline": "2100-01-01T00:00:00Z", "run_at": "2100-01-01T00:00:01Z"},
    ],
)
def test_a_deadline_that_cannot_be_met_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidJob, match="deadline"):
        validate_request({"command": "true", **fields})
