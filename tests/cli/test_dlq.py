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


def test_the_dead_are_selected_by_what_they_have_in_common(queuectl: Program) -> None:
    enqueue = ("enqueue", "--max-retries", "0", "--queue", "q")
    queuectl(*enqueue, "--id", "a", "--tag", "x", "--tag", "y", "false")
    queuectl(*enqueue, "--id", "b", "--tag", "y", "--name", "nightly", "false")
    queuectl(*enqueue, "--id", "c", "--name", "other", "false")
    queuectl.drain()

    def meant(*words: str) -> list[str]:
        return queuectl("dlq", "retry", *words, "-n").lines

    assert meant("--tag", "x", "--tag", "y") == ["a", "b"]
    assert meant("--tag", "y", "--name", "nightly", "--since", "1h") == ["b"]
    assert meant("--queue", "q", "--queue", "r", "--since", "0s") == []
    assert queuectl("dlq", "purge", "--tag", "y", "-n").lines == ["a", "b"]
    assert sorted(queuectl("dlq", "list", "--tag", "y", "-q").lines) == ["a", "b"]
    assert len(queuectl("dlq", "list", "--group", "--tag", "y", "--json").json) == 1
    assert queuectl("dlq", "retry", "--tag", "x", "-q").lines == ["a"]
    assert queuectl("dlq", "purge", "--name", "other").lines == ["c"]
    assert queuectl("dlq", "list", "-q").lines == ["b"]


def test_retry_says_how_many_and_asks_on_a_terminal(dead: Program) -> None:
    refused = dead.on_terminal("dlq", "retry", "--all")
    refused.expect_exact("2 jobs will be queued again; go on? [y/N] ")
    refused.sendline("")
    refused.expect_exact("nothing was changed")
    refused.wait()
    assert refused.exitstatus == 1
    [kind] = dead("dlq", "list", "--group", "--queue", "other", "-q").lines

    agreed = dead.on_terminal("dlq", "retry", "--kind", kind, "--queue", "other")
    agreed.expect_exact("1 job will be queued again; go on?")
    agreed.sendline("y")
    agreed.expect_exact("1 job queued again")
    agreed.wait()

    sure = dead.on_terminal("dlq", "retry", "--all", "--yes")
    sure.expect_exact("1 job queued again")
    sure.wait()
    assert dead("dlq", "list", "-q").lines == []


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
    assert "--tag" in dead("dlq", command, "a", "--tag", "x", code=2).err
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


DEAD = """
{"id": "a", "command": "echo 1.jpg is bad; exit 1", "max_retries": 0}
{"id": "b", "command": "echo 2.jpg is bad; exit 1", "max_retries": 0, "queue": "other"}
{"id": "c", "command": "echo 3.jpg is bad; exit 1", "max_retries": 0}
{"id": "d", "command": "echo no room; exit 2", "max_retries": 0}
"""


@pytest.fixture
def grouped(queuectl: Program) -> tuple[Program, str, str]:
    """The program, on a store with dead jobs of two kinds; the kind of three, and that of one."""
    queuectl("enqueue", "--file", "-", given=DEAD)
    queuectl.drain()
    many, single = queuectl("dlq", "list", "--group", "-q").lines
    return queuectl, many, single


def test_the_dead_are_folded_into_kinds(grouped: tuple[Program, str, str]) -> None:
    queuectl, many, single = grouped

    done = queuectl("dlq", "list", "--group")
    told = queuectl("dlq", "list", "--group", "--json").json

    assert done.err == "note: 4 dead, 2 kinds\n"
    assert [line.split()[:3] for line in done.lines[1:]] == [
        [many, "3", "echo"],
        [single, "1", "echo"],
    ]
    assert [(kind["kind"], kind["count"]) for kind in told] == [(many, 3), (single, 1)]
    assert told[0]["error"] == "exit code 1: PATH is bad"
    assert told[0]["example"]["id"] in ("a", "b", "c")
    assert told[0]["first_died_at"] <= told[0]["last_died_at"]
    assert queuectl("dlq", "list", "--group", "-q", "--limit", "1").lines == [many]
    assert queuectl("dlq", "list", "--group", "-Q", "other", "--json").json[0]["count"] == 1
    assert queuectl("dlq", "list", "--group", "-Q", "none").err == "note: no dead jobs\n"


def test_a_kind_is_retried_or_purged_alone(grouped: tuple[Program, str, str]) -> None:
    queuectl, many, single = grouped

    assert queuectl("dlq", "retry", "--kind", many, "-n").lines == ["a", "b", "c"]
    assert queuectl("dlq", "retry", "--kind", many, "--queue", "other").lines == ["b"]
    assert queuectl("dlq", "purge", "--kind", single, "-n").lines == ["d"]
    assert queuectl("dlq", "purge", "--kind", single).lines == ["d"]
    queuectl("show", "d", code=3)
    assert queuectl("dlq", "retry", "--kind", many).lines == ["a", "c"]
    assert queuectl("dlq", "list", "-q").lines == []


@pytest.mark.parametrize("command", ["retry", "purge"])
def test_a_kind_that_cannot_be_meant_is_refused(
    grouped: tuple[Program, str, str], command: str
) -> None:
    queuectl, many, _ = grouped

    assert "of the kind 'zzzz'" in queuectl("dlq", command, "--kind", "zzzz", code=3).err
    assert "of the kind ''" in queuectl("dlq", command, "--kind", "", code=3).err
    assert "--kind" in queuectl("dlq", command, "--kind", many, "a", code=2).err
    assert "--kind" in queuectl("dlq", command, "--kind", many, "--all", code=2).err
    assert len(queuectl("dlq", "list", "-q").lines) == 4


def test_purging_a_kind_asks_on_a_terminal(grouped: tuple[Program, str, str]) -> None:
    queuectl, many, _ = grouped

    refused = queuectl.on_terminal("dlq", "purge", "--kind", many)
    refused.expect_exact("delete 3 jobs with their history and output? [y/N] ")
    refused.sendline("")
    refused.expect_exact("nothing was deleted")
    refused.wait()

    assert len(queuectl("dlq", "list", "-q").lines) == 4


def test_kinds_are_completed(grouped: tuple[Program, str, str]) -> None:
    queuectl, many, single = grouped
    asked = {"_QUEUECTL_COMPLETE": "fish"}

    told = queuectl("dlq", "retry", "--kind", "", variables=asked).lines

    assert [line.split("\t")[0] for line in told] == [many, single]
    assert told[0].split("\t")[1].startswith("3: exit code 1: ")
    longer = queuectl("dlq", "purge", "--kind", many, variables=asked).lines
    assert [line.split("\t")[0] for line in longer] == [many]
