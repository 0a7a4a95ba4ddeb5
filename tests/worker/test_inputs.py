"""What is kept as a job's standard input reaches each of its attempts."""

from __future__ import annotations

import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import Ending
from queuectl.domain.request import LARGEST_STDIN_BYTES, JobRequest, validate_request
from queuectl.errors import InvalidJob
from queuectl.service import claims, config, jobs, recall
from tests.actors import Hire
from tests.jobs import add, output_of, state_of
from tests.supervision import Supervisors


def test_each_attempt_reads_all_of_it(store: Store, supervisors: Supervisors) -> None:
    config.set_option(store, "backoff-max", 0)
    command = 'cat; [ "$QUEUECTL_ATTEMPT" = 2 ]'
    jobs.enqueue(store, [JobRequest(command=command, id="a", stdin=b"in\0put\xff")], cwd="/")
    add(store, "cat; echo end", id="b")

    supervisors.run_drained()

    assert state_of(store, "a") == "completed"
    raw = [jobs.history(store, "a").attempts[run].output_tail for run in (0, 1)]
    assert raw == [b"in\0put\xff"] * 2
    assert output_of(store, "b") == "end\n"


def test_a_command_that_reads_nothing_holds_up_nobody(
    store: Store, supervisors: Supervisors
) -> None:
    most = "x" * LARGEST_STDIN_BYTES
    add(store, "true", id="deaf", stdin=most)
    add(store, "wc -c | tr -d ' '", id="counts", stdin=most)
    add(store, "test ! -t 0 && cat", id="empty", stdin="")

    supervisors.run_drained()

    assert [state_of(store, job_id) for job_id in ("deaf", "counts", "empty")] == ["completed"] * 3
    assert output_of(store, "counts") == f"{LARGEST_STDIN_BYTES}\n"


def test_a_claim_brings_the_input_along(store: Store, hire: Hire) -> None:
    add(store, id="a", stdin="in", max_retries=1)
    add(store, id="b")
    actor = hire()
    a, b = actor.claim(2)

    assert (a.stdin, b.stdin) == (b"in", None)
    assert {claim.stdin for claim in recall.recall(store, actor.id, []).held} == {b"in", None}
    actor.settle(a, Ending.STOPPED)
    assert actor.claim_one().stdin == b"in"


def test_the_input_is_part_of_the_request(store: Store) -> None:
    add(store, id="a", stdin="in")
    receipt = jobs.enqueue(
        store, [validate_request({"command": "true", "id": "a", "stdin": "in"})], cwd="/"
    )
    assert receipt.existing == ["a"]
    assert jobs.find(store, "a").stdin_bytes == 2


def test_many_jobs_with_much_input_are_stored(store: Store, hire: Hire) -> None:
    request = JobRequest(command="true", stdin=b"x" * LARGEST_STDIN_BYTES)
    jobs.enqueue(store, [request] * 20, cwd="/")

    turn = claims.take_turn(
        (actor := hire()).store, actor.claimant, [], free=20, idle=True, unstarted=[]
    )

    assert [len(claim.stdin or b"") for claim in turn.claims] == [LARGEST_STDIN_BYTES] * 20


@pytest.mark.parametrize("stdin", ["x" * (LARGEST_STDIN_BYTES + 1), 7, ["a"]])
def test_input_that_cannot_be_kept_is_refused(stdin: object) -> None:
    with pytest.raises(InvalidJob, match="stdin"):
        validate_request({"command": "true", "stdin": stdin})
