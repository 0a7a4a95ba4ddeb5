"""Jobs that wait for others: let go, cancelled and brought back, by whatever ends those."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import Ending, State
from queuectl.domain.request import validate_request
from queuectl.domain.selection import Selection
from queuectl.errors import Conflict, InvalidInput, InvalidJob, NotFound
from queuectl.service import (
    audit,
    cancelling,
    claims,
    config,
    counts,
    dead_letters,
    explanation,
    exporting,
    importing,
    jobs,
    pruning,
    queues,
    requeueing,
    rescues,
    tree,
)
from queuectl.service.selection import choose
from tests.actors import Actor, Hire, ended
from tests.jobs import add, state_of


def cancel(store: Store, *ids: str) -> None:
    chosen = choose(store, Selection(ids), among=State, verb="meant")
    cancelling.cancel(store, chosen, reason="by hand")


def retry(store: Store, *ids: str) -> None:
    requeueing.retry(store, choose(store, Selection(ids), among=State, verb="meant"))


def release(store: Store, *ids: str) -> None:
    requeueing.release(store, choose(store, Selection(ids), among=State, verb="meant"))


def states(store: Store, *ids: str) -> list[str]:
    return [state_of(store, job_id) for job_id in ids]


def reason_of(store: Store, job_id: str) -> str | None:
    return jobs.find(store, job_id).cancel_reason


def end(actor: Actor, job_id: str, ending: Ending = Ending.COMPLETED) -> None:
    """Let the next job, which must be this one, end so."""
    claim = actor.claim_one()
    assert claim.id == job_id
    actor.settle(claim, ending)


def test_a_job_waits_until_all_that_it_needs_have_completed(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="b")
    waiting = add(store, id="c", after=["a", "b"])
    actor = hire()

    assert waiting.state == "blocked"
    a, b = actor.claim(3)
    actor.settle(a)
    assert state_of(store, "c") == "blocked"
    turn = actor.turn(ended(b), free=1)

    # What the end of one job lets go is claimed in the very turn that settles it.
    assert [claim.id for claim in turn.claims] == ["c"]


def test_dependents_are_cancelled_with_the_reason_all_the_way_down(
    store: Store, hire: Hire
) -> None:
    add(store, id="a", max_retries=0)
    add(store, id="b", after=["a"])
    add(store, id="c", after=["b"])
    add(store, id="clean", after_any=["c"])
    add(store, id="alarm", after_failure=["c"])

    end(hire(), "a", Ending.FAILED)

    assert states(store, "a", "b", "c") == ["dead", "cancelled", "cancelled"]
    assert reason_of(store, "b") == "job a died"
    assert reason_of(store, "c") == "job b was cancelled"
    assert states(store, "clean", "alarm") == ["pending", "pending"]
    assert jobs.find(store, "b").finished_at is not None
    assert all(check.ok for check in audit.audit(store))


def test_a_failure_that_will_be_retried_ends_nothing(store: Store, hire: Hire) -> None:
    add(store, id="a", max_retries=1)
    add(store, id="b", after=["a"])

    end(hire(), "a", Ending.FAILED)

    assert states(store, "a", "b") == ["failed", "blocked"]


@pytest.mark.parametrize("way", ["retry", "dlq retry"])
def test_dependents_come_back_when_the_needed_job_is_retried(
    store: Store, hire: Hire, way: str
) -> None:
    actor = hire()
    add(store, id="a", max_retries=0)
    for job_id, needed in (("b", "a"), ("c", "b"), ("mine", "a")):
        add(store, id=job_id, after=[needed])
    cancel(store, "mine")
    end(actor, "a", Ending.FAILED)

    if way == "retry":
        retry(store, "a")
    else:
        dead_letters.requeue(store, ["a"])

    assert states(store, "a", "b", "c", "mine") == ["pending", "blocked", "blocked", "cancelled"]
    job = jobs.find(store, "b")
    assert (job.cancel_reason, job.finished_at) == (None, None)
    for job_id in ("a", "b", "c"):
        end(actor, job_id)
    assert reason_of(store, "mine") == "by hand"


def test_a_job_comes_back_only_if_nothing_else_keeps_it(store: Store, hire: Hire) -> None:
    add(store, id="a", max_retries=0)
    add(store, id="b", max_retries=0)
    add(store, id="c", after=["a", "b"])
    actor = hire()
    for claim in actor.claim(2):
        actor.settle(claim, Ending.FAILED)

    assert reason_of(store, "c") == "job a died"
    retry(store, "a")
    assert (state_of(store, "c"), reason_of(store, "c")) == ("cancelled", "job b died")
    retry(store, "b")
    assert state_of(store, "c") == "blocked"


def test_a_job_for_failures_is_cancelled_when_all_succeed_and_comes_back(
    store: Store, hire: Hire
) -> None:
    add(store, id="a", max_retries=0)
    add(store, id="b")
    add(store, id="alarm", after_failure=["a", "b"])
    actor = hire()
    for claim in actor.claim(2):
        actor.settle(claim)

    assert reason_of(store, "alarm") == "jobs a, b completed"
    retry(store, "a")
    assert state_of(store, "alarm") == "blocked"
    end(actor, "a", Ending.FAILED)
    assert state_of(store, "alarm") == "pending"


def test_a_job_that_comes_back_gives_way_to_another_of_its_unique_key(
    store: Store, hire: Hire
) -> None:
    add(store, id="a", max_retries=0)
    add(store, id="b", after=["a"], unique="key")
    end(hire(), "a", Ending.FAILED)
    add(store, id="b2", unique="key")

    retry(store, "a")

    assert states(store, "b", "b2") == ["cancelled", "pending"]


def test_ends_before_the_enqueueing_count_at_once(store: Store, hire: Hire) -> None:
    actor = hire()
    add(store, id="well")
    end(actor, "well")
    add(store, id="ill", max_retries=0)
    end(actor, "ill", Ending.FAILED)

    found = [
        add(store, after=["well"]),
        add(store, after=["well"], delay="1h"),
        add(store, after=["ill"], id="never"),
        add(store, after_any=["ill"]),
        add(store, after_failure=["ill"]),
        add(store, after_failure=["well"]),
        add(store, after=["never"]),
    ]

    wanted = ["pending", "scheduled", "cancelled", "pending", "pending", "cancelled", "cancelled"]
    assert [job.state for job in found] == wanted
    assert found[2].cancel_reason == "job ill died"
    retry(store, "ill")
    assert state_of(store, "never") == "blocked"


def test_a_dependent_that_is_retried_itself_runs_unless_it_can_wait(
    store: Store, hire: Hire
) -> None:
    add(store, id="a", max_retries=0)
    add(store, id="b", after=["a"])
    end(hire(), "a", Ending.FAILED)

    retry(store, "b")
    assert state_of(store, "b") == "pending"
    cancel(store, "b")
    retry(store, "a", "b")
    assert states(store, "a", "b") == ["pending", "blocked"]


def test_a_held_job_is_judged_when_it_is_released(store: Store, hire: Hire) -> None:
    add(store, id="well")
    add(store, id="ill", max_retries=0)
    add(store, id="open")
    for name in ("well", "ill", "open"):
        add(store, id=f"after-{name}", after=[name], hold=True)
    add(store, id="end", after=["after-ill"])
    actor = hire()
    well, ill, _ = actor.claim(3)
    actor.settle(well)
    actor.settle(ill, Ending.FAILED)
    held = ["after-well", "after-ill", "after-open"]
    assert states(store, *held) == ["held"] * 3

    release(store, *held)

    assert states(store, *held, "end") == ["pending", "cancelled", "blocked", "cancelled"]


def test_jobs_of_one_file_may_need_those_before_them(store: Store) -> None:
    fields: list[dict[str, object]] = [
        {"id": "one"},
        {"id": "two", "after": ["one"]},
        {"after": ["last"]},
        {"after": ["tw"], "after_any": ["one"]},
    ]
    requests = [validate_request({"command": "true", **each}) for each in fields]

    ids = jobs.enqueue(store, requests, cwd="/").ids

    assert states(store, *ids) == ["pending", "blocked", "blocked", "blocked"]
    above = tree.tree(store, ids[2]).above
    assert [(edge.job_id, edge.need.id) for edge in above] == [(ids[2], "two"), ("two", "one")]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ([{"after": ["x"]}], NotFound),
        ([{"after": ["last"]}], NotFound),
        ([{"id": "a", "after": ["a"]}], InvalidInput),
        ([{"id": "a", "after": ["b"]}, {"id": "b"}], NotFound),
        ([{"id": "a1"}, {"id": "a2"}, {"after": ["a"]}], Conflict),
        ([{"id": "a"}, {"after": ["a"], "after_any": ["a"]}], InvalidInput),
    ],
)
def test_what_cannot_be_needed_stores_nothing(
    store: Store, fields: list[dict[str, object]], error: type[Exception]
) -> None:
    requests = [validate_request({"command": "true", **each}) for each in fields]

    with pytest.raises(error):
        jobs.enqueue(store, requests, cwd="/")

    assert jobs.list_jobs(store) == []


def test_a_reference_that_is_no_id_is_refused() -> None:
    with pytest.raises(InvalidJob, match="after"):
        validate_request({"command": "true", "after": ["no id!"]})


def test_many_jobs_may_need_one_and_one_many(store: Store, hire: Hire) -> None:
    actor = hire()
    add(store, id="first")
    requests = [validate_request({"command": "true", "after": ["first"]}) for _ in range(1200)]
    ids = jobs.enqueue(store, requests, cwd="/").ids
    add(store, id="join", after=ids[:1000], queue="joined")

    end(actor, "first")

    assert counts.read_status(store).states[State.PENDING] == 1200
    found: list[str] = []
    while held := actor.claim(400):
        actor.turn(*(ended(claim) for claim in held))
        found += [claim.id for claim in held]
    assert found[-1] == "join"
    assert len(found) == 1201


# Every end


def test_a_job_that_is_cancelled_while_it_runs_passes_its_end_on(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="b", after=["a"])
    actor = hire()
    claim = actor.claim_one()
    cancel(store, "a")

    actor.settle(claim, Ending.FAILED)  # too late to be told: it would be tried again

    assert states(store, "a", "b") == ["cancelled", "cancelled"]


def test_a_claim_that_is_given_back_cancelled_passes_its_end_on(store: Store, hire: Hire) -> None:
    add(store, id="a")
    actor = hire()
    claim = actor.claim_one()
    add(store, id="b", after=["a"])
    cancel(store, "a")

    claims.take_turn(actor.store, actor.claimant, [], free=0, idle=True, unstarted=[claim])

    assert states(store, "a", "b") == ["cancelled", "cancelled"]


def test_a_job_that_dies_with_its_worker_passes_its_end_on(store: Store, hire: Hire) -> None:
    config.set_option(store, "max-crashes", 0)
    add(store, id="a")
    hire("w2").claim_one()
    add(store, id="b", after=["a"])
    add(store, id="c", after_failure=["a"])

    rescues.rescue(store, ["w2"])

    assert states(store, "a", "b", "c") == ["dead", "cancelled", "pending"]


def test_a_queue_that_is_purged_leaves_nobody_waiting(store: Store) -> None:
    add(store, id="a", queue="gone")
    add(store, id="inner", queue="gone", after=["a"])
    add(store, id="b", after=["a"])
    add(store, id="c", after_any=["inner"])

    queues.purge(store, queues.find_waiting(store, "gone"))

    assert states(store, "b", "c") == ["cancelled", "pending"]
    assert reason_of(store, "b") == "job a was deleted"


def test_a_needed_job_may_be_pruned_when_it_has_ended(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="b")
    add(store, id="c", after=["a", "b"])
    actor = hire()
    a, b = actor.claim(2)
    actor.settle(a)
    choice = pruning.choose(store, [State.COMPLETED], older_than_seconds=0)
    pruning.prune(store, choice, pruning.find_some(store, choice, State.COMPLETED))

    actor.settle(b)

    assert state_of(store, "c") == "pending"
    [gone, there] = jobs.history(store, "c").needs
    assert (gone.need.id, gone.need.outcome, gone.job) == ("a", "completed", None)
    assert there.job is not None


def test_a_dependent_that_was_added_while_the_job_ran_is_let_go(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="other")
    actor = hire()
    a, other = actor.claim(2)
    add(store, id="b", after=["a"])

    turn = actor.turn(ended(a), ended(other))

    assert turn.lost == []
    assert states(store, "a", "other", "b") == ["completed", "completed", "pending"]


def test_an_idle_worker_hears_of_what_was_let_go(store: Store, hire: Hire) -> None:
    add(store, id="a", queue="x")
    add(store, id="b", queue="y", after=["a"])
    idle, busy = hire("w1", queues=["y"]), hire("w2", queues=["x"])
    claim = busy.claim_one()

    with idle.store.doorbell(hushed=False) as bell:
        claims.look(idle.store, idle.claimant)
        busy.settle(claim)

        assert bell.wait(10)


def test_what_is_imported_waits_for_the_jobs_of_this_store(store: Store, hire: Hire) -> None:
    for name in ("there", "missing"):
        add(store, id=name)
    add(store, id="waits", after=["there"], queue="moved")
    add(store, id="lost", after=["missing"], queue="moved")
    lines: list[str] = []
    exporting.export(store, lines.append, exporting.Part(Selection(queues=("moved",))))
    cancel(store, "missing")
    for queue in ("moved", "default"):
        queues.purge(store, queues.find_waiting(store, queue))
    choice = pruning.choose(store, [State.CANCELLED], older_than_seconds=0)
    pruning.prune(store, choice, pruning.find_some(store, choice, State.CANCELLED))
    add(store, id="there")

    importing.import_(store, lambda: lines, "FILE")

    assert states(store, "there", "waits", "lost") == ["pending", "blocked", "cancelled"]
    assert reason_of(store, "lost") == "job missing was deleted"
    actor = hire()
    end(actor, "there")
    end(actor, "waits")


# Told


def test_an_explanation_names_what_a_job_waits_for(store: Store, hire: Hire) -> None:
    add(store, id="a")
    add(store, id="b", hold=True)
    add(store, id="c", after=["a"], after_any=["b"])

    blocked = explanation.explain(store, "c").reasons[:2]
    assert [reason.name for reason in blocked] == ["blocked", "blocked"]
    assert "job a to complete; that one is pending and can still" in blocked[0].text
    assert blocked[1].hint == "queuectl release b"

    hire().claim_one()
    cancel(store, "a")
    [first, *_] = explanation.explain(store, "c").reasons
    assert "cannot complete any more" in first.text


def test_a_job_names_both_directions(store: Store) -> None:
    add(store, id="a")
    add(store, id="b", after=["a"])
    add(store, id="c", after_failure=["b"])

    history = jobs.history(store, "b")

    assert [needed.need.id for needed in history.needs] == ["a"]
    assert [(job.id, condition) for job, condition in history.dependents] == [("c", "failure")]


# Races

ROUNDS = 60


def at_once(*works: Callable[[], object]) -> None:
    """Do all of it in threads that begin together; what one raises is raised here."""
    ready = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        ready.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_dependent_that_meets_the_end_of_what_it_needs_is_never_left(
    store: Store, hire: Hire
) -> None:
    actor = hire()
    late = 0
    with closing(Store(store.location)) as client:
        for number in range(ROUNDS):
            add(store, id=f"a{number}")
            claim = actor.claim_one()
            at_once(
                lambda claim=claim: actor.settle(claim),  # type: ignore[misc]
                lambda n=number: add(client, id=f"b{n}", after=[f"a{n}"]),  # type: ignore[misc]
            )
            assert states(store, f"a{number}", f"b{number}") == ["completed", "pending"]
            found = actor.claim_one()
            late += found.run
            actor.settle(found)
    assert late == ROUNDS


def test_of_two_needed_jobs_that_end_at_once_one_lets_the_dependent_go(
    store: Store, hire: Hire
) -> None:
    first, second = hire("w1"), hire("w2")
    for number in range(ROUNDS):
        add(store, id=f"a{number}", queue="a")
        add(store, id=f"b{number}", queue="b", max_retries=0)
        add(store, id=f"c{number}", queue="c", after=[f"a{number}"], after_any=[f"b{number}"])
        a, b = first.claim_one(), second.claim_one()
        at_once(
            lambda a=a: first.settle(a),  # type: ignore[misc]
            lambda b=b: second.settle(b, Ending.FAILED),  # type: ignore[misc]
        )
        [claim] = first.claim(5)
        assert claim.id == f"c{number}"
        first.settle(claim)


def test_a_dependent_that_is_retried_while_its_needed_job_ends_is_never_left(
    store: Store, hire: Hire
) -> None:
    actor = hire()
    with closing(Store(store.location)) as client:
        for number in range(ROUNDS):
            add(store, id=f"a{number}")
            add(store, id=f"b{number}", after=[f"a{number}"])
            claim = actor.claim_one()
            cancel(store, f"b{number}")
            at_once(
                lambda claim=claim: actor.settle(claim),  # type: ignore[misc]
                lambda n=number: retry(client, f"b{n}"),  # type: ignore[misc]
            )
            end(actor, f"b{number}")


def test_a_needed_job_that_is_purged_while_it_is_named_leaves_nobody_waiting(store: Store) -> None:
    def name_it(client: Store, number: int) -> None:
        try:
            add(client, id=f"b{number}", after=[f"a{number}"])
        except NotFound:
            return

    with closing(Store(store.location)) as client:
        for number in range(ROUNDS):
            add(store, id=f"a{number}", queue="gone")
            waiting = queues.find_waiting(store, "gone")
            at_once(
                lambda w=waiting: queues.purge(store, w),  # type: ignore[misc]
                lambda n=number: name_it(client, n),  # type: ignore[misc]
            )
    assert counts.read_status(store).states[State.BLOCKED] == 0


def test_nothing_runs_before_what_it_needs_has_ended(store: Store, hire: Hire) -> None:
    """Clients add chains while workers run them; each job must start when all before it ended."""
    config.set_option(store, "max-retries", 0)
    done = threading.Event()

    def add_chains(client: Store, name: str) -> None:
        with closing(client):
            previous: list[str] = []
            for number in range(ROUNDS):
                job_id = f"{name}{number}"
                add(client, id=job_id, after_any=previous[-3:])
                previous.append(job_id)

    def work(actor: Actor) -> None:
        while not done.is_set() or counts.read_status(actor.store).states[State.PENDING]:
            for claim in actor.claim(3):
                ending = Ending.FAILED if claim.seq % 5 == 0 else Ending.COMPLETED
                actor.settle(claim, ending)

    def add_all() -> None:
        try:
            at_once(*(lambda n=n: add_chains(Store(store.location), n) for n in "xy"))
        finally:
            done.set()

    actors = [hire("w1"), hire("w2")]
    at_once(add_all, *(lambda a=a: work(a) for a in actors))

    seen = counts.read_status(store).states
    assert seen[State.COMPLETED] + seen[State.DEAD] == 2 * ROUNDS
    ends = {name: jobs.history(store, name).attempts[-1] for name in _names()}
    for name, number in _numbered():
        for before in range(max(0, number - 3), number):
            assert ends[f"{name}{before}"].finished_at <= ends[f"{name}{number}"].started_at
    assert all(check.ok for check in audit.audit(store))
    assert min(attempt.started_at for attempt in ends.values()) < datetime.now(UTC)


def _numbered() -> list[tuple[str, int]]:
    return [(name, number) for name in "xy" for number in range(ROUNDS)]


def _names() -> list[str]:
    return [f"{name}{number}" for name, number in _numbered()]
