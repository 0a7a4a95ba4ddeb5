"""The clock of a shared store leaps ahead: no worker elsewhere is taken for dead by that.

The clock is what all statements of the program ask for: here a schema that stands before
PostgreSQL's own in the search path has one of the same name, which can be set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from queuectl.db.engine import Store
from queuectl.service import config, workers
from queuectl.settings import ServerLocation
from tests.actors import Hire
from tests.jobs import add, attempts_of, state_of
from tests.supervision import Supervisors
from tests.waiting import wait_until

pytestmark = pytest.mark.postgresql

_LEASE_SECONDS = 4
_SET_UP = """
CREATE SCHEMA leaping;
CREATE TABLE leaping.clock (ahead interval NOT NULL);
INSERT INTO leaping.clock VALUES ('0');
CREATE FUNCTION leaping.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM leaping.clock';
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = leaping, pg_catalog, public',
        current_database());
END $$
"""
_TIDY_UP = """
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET search_path', current_database()); END $$;
DROP SCHEMA leaping CASCADE
"""


@pytest.fixture
def clock(store: Store) -> Iterator[psycopg.Connection[Any]]:
    """What sets the clock of all sessions that begin from now on."""
    assert isinstance(store.location, ServerLocation)
    with psycopg.connect(store.location.url, autocommit=True) as connection:
        connection.execute(_SET_UP)
        store.close()
        try:
            yield connection
        finally:
            connection.execute(_TIDY_UP)


def test_a_leap_of_the_servers_clock_rescues_no_live_job(
    clock: psycopg.Connection[Any], store: Store, supervisors: Supervisors, hire: Hire
) -> None:
    """T2: one of two workers elsewhere has died, and is silent for a lease after that."""
    config.set_option(store, "lease", _LEASE_SECONDS)
    live, dead = hire("live"), hire("dead")
    claims = {}
    for actor in (live, dead):
        add(store, id=actor.id)
        claims[actor.id] = actor.claim_one()
        actor.move_elsewhere(lease_left_seconds=600)
    rescuer = supervisors.start(queues=["others"])  # it takes jobs back, and runs none

    clock.execute("UPDATE leaping.clock SET ahead = '1 hour'")
    rescuer.wait_for("clock-leapt")
    states = [state_of(store, actor.id) for actor in (live, dead)]
    assert workers.beat(live.store, live.id, 600)
    wait_until(lambda: state_of(store, dead.id) == "pending")

    assert states == ["processing", "processing"]
    live.settle(claims[live.id])
    workers.leave(live.store, live.id)
    assert [attempt.outcome for attempt in attempts_of(store, live.id)] == ["completed"]
    assert [event["job"] for event in rescuer.events("job-rescued")] == ["dead"]
