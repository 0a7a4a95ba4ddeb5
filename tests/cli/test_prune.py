"""``queuectl prune``, through the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from queuectl.db.engine import Store, open_store
from tests.aging import age
from tests.cli.conftest import Program

JOBS = """
{"id": "old", "command": "echo old"}
{"id": "older", "command": "echo older", "queue": "other"}
{"id": "dead", "command": "echo dead; exit 1", "max_retries": 0}
{"id": "young", "command": "echo young"}
"""


@pytest.fixture
def store(queuectl: Program) -> Iterator[Store]:
    with closing(open_store(queuectl.location)) as opened:
        yield opened


@pytest.fixture
def used(queuectl: Program, store: Store) -> Program:
    """The program, on a store with jobs that ended ten days ago, and one that did just now."""
    queuectl("enqueue", "--file", "-", given=JOBS)
    queuectl.drain()
    age(store, 10, "old", "older", "dead")
    return queuectl


def test_prune_deletes_old_jobs_with_their_output(used: Program) -> None:
    done = used("prune", "--older-than", "7d")

    assert done.out.split() == ["2", "completed", "0", "cancelled"]
    assert "note: 2 jobs deleted" in done.err
    assert used("list", "-q").lines == ["young", "dead"]
    assert {path.name for path in used.location.logs.iterdir()} == {"3-1.log", "4-1.log"}
    used("audit")
    assert "0 jobs deleted" in used("prune", "--older-than", "7d").err


def test_a_dry_run_tells_and_deletes_nothing(used: Program) -> None:
    told = used("prune", "--older-than", "7d", "--dry-run", "--json").json

    assert (told["dry_run"], told["jobs"], told["completed"], told["cancelled"]) == (True, 2, 2, 0)
    assert told["before"].endswith("Z")
    assert used("prune", "--older-than", "7d", "-n", "-q").lines == ["old", "older"]
    assert len(used("list", "-q").lines) == 4


def test_state_and_queue_choose(used: Program) -> None:
    assert used("prune", "--older-than", "7d", "--queue", "other", "-q").lines == ["older"]
    assert used("prune", "--older-than", "7d", "--state", "cancelled", "-q").lines == []
    assert used("prune", "--older-than", "7d", "--state", "dead", "-q").lines == ["dead"]
    assert used("dlq", "list", "-q").lines == []
    both = ("--state", "dead", "--state", "completed")
    assert used("prune", "--older-than", "0s", *both, "--json").json["completed"] == 2


def test_prune_removes_what_an_earlier_one_left(used: Program) -> None:
    (used.location.logs / "77-1.log").write_text("of a job that is gone")
    (used.location.logs / "77-1.4.log").write_text("of a job that is gone")

    done = used("prune", "--older-than", "30d")

    assert "2 output files of jobs that were gone" in done.err
    assert len(list(used.location.logs.iterdir())) == 4


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--older-than"),
        (["--older-than", "soon"], "--older-than: 'soon' is not a duration"),
        (["--older-than", "7d", "--state", "pending"], "pending has not ended"),
        (["--older-than", "7d", "--state", "gone"], "there is no state 'gone'"),
    ],
)
def test_what_cannot_be_meant_is_refused(used: Program, words: list[str], named: str) -> None:
    refused = used("prune", *words, code=2)

    assert named in refused.err
    assert "hint: " in refused.err
    assert len(used("list", "-q").lines) == 4


def test_prune_asks_on_a_terminal(used: Program) -> None:
    refused = used.on_terminal("prune", "--older-than", "7d")
    refused.expect_exact("delete 2 jobs with their history and output? [y/N] ")
    refused.sendline("")
    refused.expect_exact("nothing was deleted")
    refused.wait()
    assert refused.exitstatus == 1
    assert len(used("list", "-q").lines) == 4

    agreed = used.on_terminal("prune", "--older-than", "7d")
    agreed.expect_exact("delete 2 jobs")
    agreed.sendline("y")
    agreed.expect_exact("2 jobs deleted")
    agreed.wait()

    sure = used.on_terminal("prune", "--older-than", "0s", "--yes", "--state", "dead")
    sure.expect_exact("1 job deleted")
    sure.wait()
    assert sure.exitstatus == 0
