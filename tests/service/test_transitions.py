"""The services make exactly the changes of state that the domain allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.job import TRANSITIONS, Ending, State
from queuectl.service import config, dead_letters, rescues
from tests.actors import Hire
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


def test_the_services_make_every_change_but_cancelling_and_no_other(
    store: Store, hire: Hire
) -> None:
    config.set_option(store, "max-crashes", 0)
    actor = hire()
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
    dead_letters.requeue_all(store)
    crashed = hire("crashed")
    crashed.claim_one()
    rescues.rescue(store, ["crashed"])

    seen = changes(store)

    cancelling = {pair for pair in allowed() if pair[1] is State.CANCELLED}
    assert seen == set(allowed()) - cancelling


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
    assert TRANSITIONS[State.COMPLETED] == TRANSITIONS[State.CANCELLED] == frozenset()
    assert TRANSITIONS[State.DEAD] == {State.PENDING}
    assert set(TRANSITIONS) == set(State)
