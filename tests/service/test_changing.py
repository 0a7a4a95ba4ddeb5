"""A change of jobs that wait and a claim of them: either is first, whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from queuectl.db.engine import Store
from queuectl.domain.changes import CHANGEABLE
from queuectl.domain.job import Ending, State
from queuectl.domain.selection import Chosen, Selection
from queuectl.domain.terms import Backoff, Terms
from queuectl.errors import Conflict, InvalidJob
from queuectl.service import changing, editing, jobs, requeueing
from queuectl.service.selection import choose
from tests.actors import Hire
from tests.jobs import add, state_of


def meant(store: Store, *ids: str) -> list[Chosen]:
    selection = Selection(ids) if ids else Selection(everything=True)
    return choose(store, selection, among=CHANGEABLE, verb="changed")


def test_a_job_that_was_claimed_meanwhile_is_refused_by_name_and_keeps_all_as_they_were(
    store: Store, hire: Hire
) -> None:
    add(store, id="a", priority=1)
    add(store, id="b")
    chosen = meant(store, "b", "a")
    hire().claim(1)

    with pytest.raises(Conflict, match="job 'a' is processing by now; nothing was changed"):
        changing.change(store, chosen, {"priority": 9}, strict=True)

    assert jobs.find(store, "b").priority == 0
    left = changing.change(store, chosen, {"priority": 9}, strict=False)
    assert left.ids == ["b"]
    assert [jobs.find(store, job_id).priority for job_id in ("a", "b")] == [1, 9]


def test_whoever_claims_after_a_change_runs_what_it_says(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="b")
    version = jobs.find(store, "b").version

    changing.change(store, meant(store, "b"), {"priority": 5, "command": "echo"}, strict=True)

    assert jobs.find(store, "b").version == version + 1
    claim = hire().claim(1)[0]
    assert (claim.id, claim.command) == ("b", "echo")


def test_changes_and_claims_at_once_leave_every_job_whole(store: Store, hire: Hire) -> None:
    for number in range(60):
        add(store, id=f"job{number:02}")
    chosen = meant(store)
    actors = [hire(f"w{number}") for number in range(4)]

    with ThreadPoolExecutor(5) as threads:
        claims = [threads.submit(actor.claim, 5) for actor in actors]
        changed = changing.change(store, chosen, {"command": "echo changed"}, strict=False).ids
        claimed = [claim for each in claims for claim in each.result()]

    claimed += [claim for actor in actors for claim in actor.claim(5)]

    # On PostgreSQL a claim passes over what the change holds: it takes fewer then, or none.
    assert len({claim.id for claim in claimed}) == len(claimed) >= 20
    for claim in claimed:  # it was claimed before and is as it was, or after and is changed
        stored = jobs.find(store, claim.id)
        assert stored.command == claim.command
        assert (claim.command == "echo changed") == (claim.id in changed)
    assert len(changed) >= 40
    assert {claim.id for claim in claimed}.issuperset(
        chosen_job.id for chosen_job in chosen if chosen_job.id not in changed
    )


def test_more_jobs_than_one_statement_names_are_changed_or_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing, "CHUNK", 2)
    for number in range(3):
        add(store, id=f"far{number}", run_at="2099-01-01T00:00:00Z")
    add(store, id="soon", deadline="1h")

    with pytest.raises(InvalidJob, match="job 'soon': the deadline must be later"):
        changing.change(store, meant(store), {"run_at": "2098-01-01T00:00:00Z"}, strict=False)

    assert jobs.find(store, "far0").run_at.year == 2099
    assert len(changing.change(store, meant(store), {"priority": 1}, strict=False).ids) == 4
    assert changing.change(store, meant(store), {"priority": 1}, strict=False).alike == 4


def test_terms_are_changed_in_one_version_and_each_job_keeps_its_others(
    store: Store, hire: Hire
) -> None:
    add(store, id="a", backoff="fixed", backoff_base=0.5)
    add(store, id="b", expect="^done", backoff="fixed")
    add(store, id="c", jitter=0.2)
    before = {job_id: jobs.find(store, job_id).version for job_id in "abc"}

    changed = changing.change(store, meant(store), {"jitter": 0.2}, strict=True)

    assert (changed.ids, changed.alike) == (["a", "b"], 1)
    after = {job_id: jobs.find(store, job_id).version - before[job_id] for job_id in "abc"}
    assert after == {"a": 1, "b": 1, "c": 0}
    assert [claim.terms for claim in hire().claim(3)] == [
        Terms(backoff=Backoff.FIXED, jitter=0.2),
        Terms(backoff=Backoff.FIXED, jitter=0.2, expect="^done"),
        Terms(jitter=0.2),
    ]


def test_a_job_that_is_edited_is_nobodys_and_comes_back(store: Store, hire: Hire) -> None:
    add(store, id="needed", hold=True)
    add(store, id="a", after=["needed"])
    edit = editing.begin(store, "a")
    assert (state_of(store, "a"), hire().claim(9)) == ("held", [])

    assert editing.finish(store, edit, {"priority": 3})

    job = jobs.find(store, "a")
    assert (job.state, job.priority, job.edit_started_at) == (State.BLOCKED, 3, None)
    with pytest.raises(Conflict, match="was changed while you edited it, and is blocked now"):
        editing.finish(store, edit, {"priority": 4})


def test_what_is_refused_in_an_edit_leaves_it_held_for_another_try(store: Store) -> None:
    add(store, id="a")
    edit = editing.begin(store, "a")

    with pytest.raises(InvalidJob, match="priority"):
        editing.finish(store, edit, {"priority": "high"})

    assert jobs.find(store, "a").is_edited
    with pytest.raises(Conflict, match="somebody is editing job 'a' already"):
        editing.begin(store, "a")
    assert not editing.finish(store, edit, {})
    assert state_of(store, "a") == "pending"


def test_a_job_that_was_retried_though_what_it_needs_failed_is_not_cancelled_by_an_edit(
    store: Store, hire: Hire
) -> None:
    add(store, id="needed", max_retries=0)
    add(store, id="a", after=["needed"])
    actor = hire()
    actor.settle(actor.claim_one(), Ending.FAILED)
    assert state_of(store, "a") == "cancelled"
    chosen = choose(store, Selection(("a",)), among=State, verb="meant")
    requeueing.retry(store, chosen)
    assert state_of(store, "a") == "pending"

    editing.finish(store, editing.begin(store, "a"), {"priority": 2})

    assert state_of(store, "a") == "pending"
