"""The services make exactly the changes of state that the domain allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.job import FINISHED, TRANSITIONS, Ending, State
from queuectl.domain.selection import Chosen, Selection
from queuectl.service import (
    cancelling,
    changing,
    config,
    dead_letters,
    editing,
    requeueing,
    rescues,
)
from queuectl.service.selection import choose
from tests.actors import Actor, Hire, ended
from tests.jobs import add

_TABLE = "CREATE TABLE changes (before TEXT, after TEXT, versions INTEGER)"
_NOTE = "INSERT INTO changes VALUES (old.state, new.state, new.version - old.version);"
_TRIGGERS = {
    "sqlite": (
        "CREATE TRIGGER changed AFTER UPDATE ON jobs WHEN old.state != new.state"
        f" BEGIN {_NOTE} END",
    ),
    "postgresql": (
        f"CREATE FUNCTION note() RETURNS trigger AS $$ BEGIN {_NOTE} RETURN NULL; END $$"
        " LANGUAGE plpgsql",
        "CREATE TRIGGER changed AFTER UPDATE ON jobs FOR EACH ROW"
        " WHEN (old.state != new.state) EXECUTE FUNCTION note()",
    ),
}


@pytest.fixture
def store(store: Store) -> Iterator[Store]:
    """A store that writes down every change of a job's state."""
    store.write(
        lambda connection: [
            connection.exec_driver_sql(statement)
            for statement in (_TABLE, *_TRIGGERS[connection.dialect.name])
        ]
    )
    yield store
    if store.is_shared:  # its database serves the next test too
        store.write(
            lambda connection: [
                connection.exec_driver_sql("DROP FUNCTION note() CASCADE"),
                connection.exec_driver_sql("DROP TABLE changes"),
            ]
        )


def changes(store: Store) -> set[tuple[State, State]]:
    rows = store.read(
        lambda connection: connection.exec_driver_sql("SELECT before, after FROM changes").all()
    )
    return {(State(before), State(after)) for before, after in rows}


def allowed() -> Iterable[tuple[State, State]]:
    return {(before, after) for before, afters in TRANSITIONS.items() for after in afters}


def make_all_due(store: Store) -> None:
    past = datetime(2001, 1, 1, tzinfo=UTC)
    store.write(lambda connection: connection.execute(update(JobRow).values(run_at=past)))


def every(store: Store, *states: State) -> list[Chosen]:
    return choose(store, Selection(everything=True), among=states, verb="meant")


def end_in_every_way(store: Store, actor: Actor) -> None:
    for endings in (
        [Ending.COMPLETED],
        [Ending.FAILED, Ending.COMPLETED],
        [Ending.TIMED_OUT, Ending.FAILED],
        [Ending.STOPPED, Ending.COMPLETED],
    ):
        add(store, max_retries=1, delay="1h")
        for ending in endings:
            make_all_due(store)
            actor.settle(actor.claim_one(), ending)


def cancel_in_every_state(store: Store, actor: Actor) -> None:
    add(store, hold=True)
    add(store, delay="1h")
    add(store, id="fails", queue="apart")
    [claim] = actor.claim()
    actor.settle(claim, Ending.FAILED)
    add(store, queue="apart")
    [claim] = actor.claim()
    add(store)
    cancelling.cancel(store, every(store, *State))
    actor.settle(claim, Ending.CANCELLED)


def wait_in_every_way(store: Store, actor: Actor) -> None:
    make_all_due(store)
    for claim in actor.claim(100):
        actor.settle(claim)
    for name in ("well", "ill", "revoked"):
        add(store, id=name, max_retries=0)
    add(store, id="next", after=["well"])
    add(store, id="later", after=["well"], delay="1h")
    add(store, id="released", after=["well"], hold=True)
    add(store, id="vain", after=["ill"])
    requeueing.release(store, every(store, State.HELD))
    well, ill, revoked = actor.claim(3)
    actor.settle(well)
    actor.settle(ill, Ending.FAILED)
    actor.settle(revoked)
    for name in ("completes", "dies", "cancelled"):
        add(store, id=name, after_any=["revoked"], max_retries=0)
    cancelling.cancel(store, choose(store, Selection(("cancelled",)), among=State, verb="meant"))
    for claim in actor.claim(100):
        actor.settle(claim, Ending.FAILED if claim.id == "dies" else Ending.COMPLETED)
    again = Selection(("revoked", "completes", "dies", "cancelled"))
    requeueing.retry(store, choose(store, again, among=State, verb="meant"))
    expire_in_every_state(store, actor)


def expire_in_every_state(store: Store, actor: Actor) -> None:
    for fields in ({"hold": True}, {"delay": "1h"}, {"after": ["revoked"]}, {}):
        add(store, deadline="2h", **fields)
    past = update(JobRow).where(JobRow.deadline.is_not(None))
    store.write(
        lambda connection: connection.execute(
            past.values(deadline=datetime(2001, 1, 1, tzinfo=UTC))
        )
    )
    actor.turn()


def be_changed_in_every_state(store: Store, actor: Actor) -> None:
    while claims := actor.claim(100):
        actor.turn(*(ended(claim) for claim in claims))
    add(store, id="edited-later", delay="1h")
    add(store, id="edited-blocked", after=["edited-later"])
    add(store, id="edited-failed")
    actor.settle(actor.claim_one(), Ending.FAILED)
    add(store, id="edited-ready")
    for name in ("edited-ready", "edited-later", "edited-blocked", "edited-failed"):
        editing.finish(store, editing.begin(store, name), {})
    changing.change(store, every(store, State.PENDING), {"delay": "1h"}, strict=True)


def test_the_services_make_every_change_and_no_other(store: Store, hire: Hire) -> None:
    config.set_option(store, "max-crashes", 0)
    actor = hire()
    end_in_every_way(store, actor)
    dead_letters.requeue_all(store)
    crashed = hire("crashed")
    crashed.claim_one()
    rescues.rescue(store, ["crashed"])
    cancel_in_every_state(store, actor)
    requeueing.retry(store, every(store, State.COMPLETED, State.CANCELLED))
    add(store, hold=True)
    add(store, hold=True, delay="1h")
    requeueing.release(store, every(store, State.HELD))
    wait_in_every_way(store, actor)
    be_changed_in_every_state(store, actor)

    assert changes(store) == set(allowed())


def test_every_change_of_state_adds_to_the_version(store: Store, hire: Hire) -> None:
    add(store, max_retries=0)
    actor = hire()
    actor.settle(actor.claim_one(), Ending.FAILED)
    dead_letters.requeue_all(store)
    actor.claim_one()
    rescues.rescue(store, ["w1"])

    steps = store.read(
        lambda connection: connection.exec_driver_sql("SELECT versions FROM changes").all()
    )

    assert [step for (step,) in steps] == [1] * 5


def test_a_finished_job_is_left_by_requeueing_alone() -> None:
    assert all(TRANSITIONS[state] == {State.PENDING, State.BLOCKED} for state in FINISHED)
    assert set(TRANSITIONS) == set(State)
