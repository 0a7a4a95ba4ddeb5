"""What the shell is offered: quick reads that never create, wait or complain."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import pytest

from queuectl.db import completion
from queuectl.db.engine import Store
from queuectl.db.sqlite import LIBRARY
from queuectl.service import workers
from queuectl.settings import StoreLocation
from tests.actors import Hire
from tests.db.population import populate
from tests.jobs import add


def test_jobs_are_offered_newest_first_with_their_commands(store: Store) -> None:
    add(store, "sleep 1", id="a1")
    add(store, "sleep 2", id="b")
    add(store, "sleep 3", id="a2")

    assert completion.jobs(store.location, "a") == [("a2", "sleep 3"), ("a1", "sleep 1")]
    assert [job_id for job_id, _ in completion.jobs(store.location, "")] == ["a2", "b", "a1"]


def test_a_prefix_is_no_pattern(store: Store) -> None:
    add(store, id="a_b")
    add(store, id="axb")

    assert [job_id for job_id, _ in completion.jobs(store.location, "a_")] == ["a_b"]
    assert completion.jobs(store.location, "%") == []


def test_a_long_command_is_cut(store: Store) -> None:
    add(store, "x" * 100_000, id="a")

    [(_, command)] = completion.jobs(store.location, "a")

    assert command == "x" * 200


def test_at_most_a_hundred_are_offered(store: Store) -> None:
    for number in range(103):
        add(store, id=f"a{number}")

    assert len(completion.jobs(store.location, "a")) == 100


def test_the_dead_and_the_queues_are_offered(store: Store) -> None:
    populate(store)

    assert completion.dead(store.location, "") == [("dead", "true")]
    assert completion.dead(store.location, "de") == [("dead", "true")]
    assert completion.dead(store.location, "x") == []
    assert completion.queues(store.location) == ["default", "other"]


@pytest.mark.parametrize("query", [completion._NEWEST_DEAD, completion._FEW_DEAD])
def test_the_dead_are_found_without_going_through_all_jobs(store: Store, query: str) -> None:
    values = {"first": "a", "end": "b", "many": 1, "recent": 1, "limit": 1}
    with closing(LIBRARY.connect(store.location.path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()

    steps = [step[-1] for step in plan]
    assert any(step.startswith("SEARCH jobs") for step in steps)
    assert [step for step in steps if step.startswith("SCAN jobs")] == []


def test_workers_and_hosts_are_offered_while_they_have_not_left(store: Store, hire: Hire) -> None:
    hire("w1")
    hire("w2")
    hire("x")
    workers.leave(store, "w2")

    assert completion.workers(store.location, "w") == [("w1", "here, process 4711")]
    assert completion.hosts(store.location, "h") == ["here"]
    assert completion.hosts(store.location, "x") == []


def test_a_store_that_is_not_there_is_not_created(location: StoreLocation) -> None:
    assert completion.jobs(location, "") == []
    assert completion.queues(location) == []
    assert not location.folder.exists()


@pytest.mark.parametrize("prefix", ["\udcff", "\0", "\U0010ffff"])
def test_no_prefix_breaks_it(store: Store, prefix: str) -> None:
    add(store)

    assert completion.jobs(store.location, prefix) == []


def test_what_is_no_store_offers_nothing(location: StoreLocation) -> None:
    location.folder.mkdir()
    location.path.write_text("not a database")

    assert completion.jobs(location, "") == []


def test_a_writer_in_the_middle_of_a_transaction_does_not_hold_it_up(store: Store) -> None:
    add(store, id="a")
    with closing(LIBRARY.connect(store.location.path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM jobs")

        assert completion.jobs(store.location, "a") == [("a", "true")]


def test_it_needs_neither_sqlalchemy_nor_pydantic() -> None:
    code = "import sys; from queuectl.db import completion; print(*sys.modules)"

    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()

    assert "queuectl.db.completion" in loaded
    assert not {"sqlalchemy", "pydantic", "alembic", "typer"}.intersection(loaded)
