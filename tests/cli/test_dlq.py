"""``queuectl dlq``, through the program."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Program

JOBS = """
{"id": "a", "command": "echo a; exit 1", "max_retries": 0}
{"id": "b", "command": "echo b; exit 1", "max_retries": 0, "queue": "other"}
{"id": "ok", "command": "true"}
"""


@pytest.fixture
def dead(queuectl: Program) -> Program:
    """The program, on a store with two dead jobs."""
    queuectl("enqueue", "--file", "-", given=JOBS)
    queuectl.drain()
    return queuectl


def test_list_and_show(dead: Program) -> None:
    assert sorted(dead("dlq", "list", "-q").lines) == ["a", "b"]
    assert dead("dlq", "list", "--queue", "other", "-q").lines == ["b"]
    assert len(dead("dlq", "list", "--limit", "1", "-q").lines) == 1
    [letter] = dead("dlq", "list", "--queue", "other", "--json").json
    assert letter["id"] == "b"
    assert letter["dead_reason"] == "retries exhausted"
    assert "retries exhausted" in dead("dlq", "list").out
    assert "died" in dead("dlq", "show", "a").out
    assert dead("dlq", "show", "a", "--json").json["history"][0]["exit_code"] == 1
    assert "not dead" in dead("dlq", "show", "ok", code=4).err


def test_retry_by_id_keeps_the_history(dead: Program) -> None:
    result = dead("dlq", "retry", "a")

    assert result.out == "a\n"
    assert "1 job queued again" in result.err
    job = dead("show", "a", "--json").json
    assert (job["state"], job["attempts"], len(job["history"])) == ("pending", 0, 1)
    dead.drain()
    assert [attempt["attempt"] for attempt in dead("show", "a", "--json").json["history"]] == [1, 2]


def test_retry_of_all_or_of_a_queue(dead: Program) -> None:
    assert dead("dlq", "retry", "--all", "--queue", "other", "--json").json[0]["state"] == "pending"
    assert dead("dlq", "retry", "--all", "-n").lines == ["a"]
    assert dead("dlq", "list", "-q").lines == ["a"]
    assert dead("dlq", "retry", "--all").lines == ["a"]
    assert dead("dlq", "retry", "--all").lines == []


def test_purge_removes_the_jobs_and_their_output(dead: Program) -> None:
    assert sorted(dead("dlq", "purge", "--all", "--dry-run").lines) == ["a", "b"]
    output = dead.location.logs / "1-1.log"
    assert output.exists()

    assert dead("dlq", "purge", "a").lines == ["a"]

    assert not output.exists()
    dead("show", "a", code=3)
    assert dead("dlq", "purge", "--all", "--json").json[0]["id"] == "b"


@pytest.mark.parametrize("command", ["retry", "purge"])
def test_what_is_meant_must_be_said(dead: Program, command: str) -> None:
    assert "--all" in dead("dlq", command, code=2).err
    assert "--all" in dead("dlq", command, "--queue", "other", code=2).err
    assert "not both" in dead("dlq", command, "a", "--all", code=2).err
    assert "--queue" in dead("dlq", command, "a", "--queue", "other", code=2).err
    assert "'ok'" in dead("dlq", command, "a", "ok", code=4).err
    assert "'nope'" in dead("dlq", command, "a", "nope", code=3).err
    assert sorted(dead("dlq", "list", "-q").lines) == ["a", "b"]


def test_purge_asks_on_a_terminal(dead: Program) -> None:
    refused = dead.on_terminal("dlq", "purge", "--all")
    refused.expect_exact("delete 2 jobs with their history and output? [y/N] ")
    refused.sendline("")
    refused.expect_exact("nothing was deleted")
    refused.wait()
    assert refused.exitstatus == 1

    agreed = dead.on_terminal("dlq", "purge", "a")
    agreed.expect_exact("delete 1 job")
    agreed.sendline("y")
    agreed.expect_exact("1 job deleted")
    agreed.wait()

    sure = dead.on_terminal("dlq", "purge", "--all", "--yes")
    sure.expect_exact("1 job deleted")
    sure.wait()
    assert sure.exitstatus == 0
