"""Workers keep house: jobs past their retention go by themselves, and leftover outputs too."""

from __future__ import annotations

from queuectl.db.engine import Store
from queuectl.service import config, jobs
from tests.aging import age
from tests.jobs import add, output_of, state_of
from tests.supervision import Supervisors
from tests.waiting import wait_until


def names(store: Store) -> set[str]:
    return {job.id for job in jobs.list_jobs(store, limit=None)}


def test_an_idle_worker_deletes_what_is_past_its_retention(
    store: Store, supervisors: Supervisors
) -> None:
    for name in ("old", "young"):
        add(store, f"echo {name}", id=name)
    add(store, "false", id="dead", max_retries=0)
    supervisors.run_drained()
    age(store, 31, "old", "dead")
    age(store, 29, "young")
    old = jobs.find(store, "old")
    (store.location.logs / "999-1.log").write_text("of a job that is gone")
    add(store, id="now")

    supervisor = supervisors.start(count=2)

    wait_until(lambda: names(store) == {"young", "dead", "now"})
    wait_until(lambda: not (store.location.logs / "999-1.log").exists())
    assert not (store.location.logs / f"{old.seq}-1.log").exists()
    assert output_of(store, "young") == "young\n"
    assert [event["jobs"] for event in supervisor.events("pruned")] == [1]


def test_a_worker_that_only_drains_does_it_before_it_leaves(
    store: Store, supervisors: Supervisors
) -> None:
    config.set_option(store, "retention-completed", "never")
    config.set_option(store, "retention-dead", "60s")
    for name, command in (("old", "true"), ("dead", "false")):
        add(store, command, id=name, max_retries=0)
    supervisors.run_drained()
    age(store, 100, "old", "dead")
    add(store, id="now")

    supervisors.run_drained()

    assert names(store) == {"old", "now"}


def test_a_store_that_was_left_alone_keeps_its_last_jobs(
    store: Store, supervisors: Supervisors
) -> None:
    """Two months later, or with a clock that is wrong by them: nobody can tell."""
    for name in ("older", "newest"):
        add(store, id=name)
    supervisors.run_drained()
    age(store, 60, "newest")
    age(store, 92, "older")

    supervisors.run_drained()

    assert names(store) == {"newest"}
    assert state_of(store, "newest") == "completed"
