"""``queuectl queue``, through the program."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Program
from tests.jobs import until
from tests.waiting import wait_until

JOBS = """
{"id": "a", "command": "true"}
{"id": "b", "command": "true", "queue": "slow"}
{"id": "later", "command": "true", "queue": "slow", "delay": "1h"}
"""


@pytest.fixture
def filled(queuectl: Program) -> Program:
    """The program, on a store with jobs in two queues."""
    queuectl("enqueue", "--file", "-", given=JOBS)
    return queuectl


@pytest.fixture
def busy(queuectl: Program) -> Program:
    """The program, with a worker that runs a job of the queue ``slow`` until there is ``go``."""
    queuectl("enqueue", "--queue", "slow", "--id", "running", until(queuectl.folder / "go"))
    queuectl("worker", "start", "--detach")
    wait_until(lambda: queuectl("list", "--state", "processing", "-q").lines)
    return queuectl


def end(busy: Program) -> None:
    (busy.folder / "go").touch()
    busy("worker", "stop")


def test_the_queues_are_listed_with_what_is_in_them(filled: Program) -> None:
    filled("queue", "limit", "slow", "2")
    filled("queue", "pause", "default")

    filled("queue", "rate", "slow", "10/min")
    default, slow = filled("queue", "list", "--json").json
    header, first, second = filled("queue", "list").lines

    assert re.fullmatch(r"[\d-]+T[\d:.]+Z", default.pop("paused_at"))
    waiting = {"held": 0, "blocked": 0, "pending": 1, "scheduled": 0, "failed": 0}
    counts = {**waiting, "processing": 0, "dead": 0}
    terms = {"limit": None, "rate": None, "opens_at": None}
    assert default == {"name": "default", "paused": True, **terms, **counts, "workers": []}
    assert (slow["rate"], slow["opens_at"]) == ("10/m", None)
    assert (slow["paused_at"], slow["limit"], slow["scheduled"]) == (None, 2, 1)
    assert header.split() == [
        *("NAME", "PAUSED", "LIMIT", "RATE", "PENDING", "SCHEDULED", "RUNNING"),
        *("FAILED", "DEAD", "WORKERS"),
    ]
    assert first.split()[2:] == ["-", "-", "1", "0", "0", "0", "0", "0"]
    assert second.split() == ["slow", "-", "2", "10/m", "1", "1", "0", "0", "0", "0"]
    assert filled("queue", "list", "-q").lines == ["default", "slow"]


def test_an_empty_store_has_no_queue_and_says_so(queuectl: Program) -> None:
    result = queuectl("queue", "list")

    assert result.out == ""
    assert "no queue yet" in result.err
    assert queuectl("queue", "list", "--json").json == []


def test_who_serves_a_queue_is_listed(busy: Program) -> None:
    [slow] = busy("queue", "list", "--json").json

    assert slow["processing"] == 1
    assert slow["workers"] == busy("worker", "list", "-q").lines
    end(busy)


def test_a_paused_queue_is_drained_after_it_is_resumed(filled: Program) -> None:
    paused = filled("queue", "pause", "slow")
    filled.drain()
    assert paused.out == "slow\n"
    assert paused.err == "note: 1 queue paused\n"
    assert filled("list", "--state", "pending", "-q").lines == ["b"]

    resumed = filled("queue", "resume", "slow")
    filled.drain()

    assert (resumed.out, resumed.err) == ("slow\n", "note: 1 queue resumed\n")
    assert filled("list", "--state", "pending", "-q").lines == []


def test_pausing_or_resuming_twice_says_so_and_is_no_error(filled: Program) -> None:
    filled("queue", "pause", "slow")

    again = filled("queue", "pause", "slow", "default")

    assert again.lines == ["default"]
    assert "1 queue paused" in again.err
    assert re.search(r"slow was paused before, \d+s ago", again.err)
    filled("queue", "resume", "slow")
    twice = filled("queue", "resume", "slow")
    assert twice.out == ""
    assert "slow was not paused" in twice.err


def test_all_are_paused_and_resumed(filled: Program) -> None:
    assert filled("queue", "pause", "--all", "--dry-run").lines == ["default", "slow"]
    assert filled("queue", "list", "--json").json[0]["paused"] is False
    assert filled("queue", "pause", "--all").lines == ["default", "slow"]
    told = filled("queue", "resume", "--all", "--json").json
    assert [(queue["name"], queue["paused"], queue["changed"]) for queue in told] == [
        ("default", False, True),
        ("slow", False, True),
    ]


def test_a_queue_without_jobs_can_be_paused_and_limited(queuectl: Program) -> None:
    queuectl("queue", "pause", "new")
    assert queuectl("queue", "limit", "newer", "1").out == "1\n"

    assert [
        (queue["name"], queue["paused"], queue["limit"])
        for queue in queuectl("queue", "list", "--json").json
    ] == [("new", True, None), ("newer", False, 1)]


def test_what_runs_in_a_queue_goes_on_and_is_told(busy: Program) -> None:
    assert "1 job that runs goes on" in busy("queue", "pause", "slow").err
    busy("enqueue", "--queue", "slow", "true")
    purged = busy("queue", "purge", "slow")
    assert purged.out == "1 job deleted\n"
    assert "1 job that runs goes on" in purged.err

    end(busy)

    assert busy("show", "running", "--json").json["state"] == "completed"


def test_a_limit_is_set_seen_and_lifted(filled: Program) -> None:
    assert filled("queue", "limit", "slow", "2").out == "2\n"
    again = filled("queue", "limit", "slow", "2")
    lifted = filled("queue", "limit", "slow", "none", "--json").json

    assert "that was the limit of slow before" in again.err
    assert (lifted["limit"], lifted["changed"]) == (None, True)
    assert filled("queue", "limit", "slow", "none").out == "none\n"


def test_a_rate_is_set_kept_seen_and_lifted(filled: Program) -> None:
    filled("enqueue", "--queue", "slow", "--id", "c", "--", "true")
    assert filled("queue", "rate", "slow", "1/h").out == "1/h\n"
    again = filled("queue", "rate", "slow", "1/hour")
    filled.drain()

    explained = filled("explain", "c", "--json").json
    [_, slow] = filled("queue", "list", "--json").json
    lifted = filled("queue", "rate", "slow", "none", "--json").json
    filled.drain()

    assert "that was the rate of slow before" in again.err
    [reason] = [each for each in explained["reasons"] if each["reason"] == "rate-reached"]
    assert f"at most 1/h; next start at {slow['opens_at'][:10]}" in reason["text"]
    assert "queuectl queue rate slow" in reason["hint"]
    assert (slow["rate"], slow["pending"]) == ("1/h", 1)
    assert (lifted["rate"], lifted["changed"]) == (None, True)
    assert filled("show", "c", "--json").json["state"] == "completed"
    assert filled("queue", "rate", "slow", "none").out == "none\n"


def test_a_limit_below_what_runs_says_what_becomes_of_it(queuectl: Program) -> None:
    go = queuectl.folder / "go"
    for name in ("x", "y"):
        queuectl("enqueue", "--id", name, until(go))
    queuectl("worker", "start", "--detach", "--concurrency", "2")
    wait_until(lambda: len(queuectl("list", "--state", "processing", "-q").lines) == 2)

    told = queuectl("queue", "limit", "default", "1").err

    assert told == "note: 2 jobs that run go on; none starts until fewer than 1 run\n"
    end(queuectl)


def test_purge_deletes_what_waits_with_history_and_output(filled: Program) -> None:
    filled("enqueue", "--id", "fails", "--queue", "slow", "echo output; exit 1")
    filled.drain("--queue", "slow")
    output = filled.location.logs / "4-1.log"
    assert output.exists()

    dry = filled("queue", "purge", "slow", "--dry-run", "--json").json
    numbers = {"jobs": 2, "held": 0, "processing": 0, "dependents": []}
    assert dry == {"queue": "slow", **numbers, "dry_run": True}
    assert filled("queue", "purge", "slow", "-n").out == "2 jobs would be deleted\n"
    assert filled("queue", "purge", "slow").out == "2 jobs deleted\n"

    assert not output.exists()
    filled("show", "fails", code=3)
    filled("show", "later", code=3)
    assert sorted(filled("list", "-q").lines) == ["a", "b"]  # of another queue, and completed
    assert filled("queue", "purge", "slow").out == "0 jobs deleted\n"


def test_purge_tells_which_jobs_of_other_queues_go_with_those_they_need(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--queue", "slow", "true")
    queuectl("enqueue", "--id", "b", "--queue", "slow", "--after", "a", "true")
    queuectl("enqueue", "--id", "c", "--after", "b", "true")
    queuectl("enqueue", "--id", "d", "--after", "c", "true")
    queuectl("enqueue", "--id", "any", "--after-any", "a", "true")

    dry = queuectl("queue", "purge", "slow", "-n")
    assert dry.out == "2 jobs would be deleted\n"
    assert dry.err == "note: 2 jobs that need one of them would be cancelled\n"
    asked = queuectl.on_terminal("queue", "purge", "slow", columns=200)
    asked.expect_exact("history and output, and cancel 2 jobs that need one of them? [y/N] ")
    asked.sendline("n")
    asked.wait()
    done = queuectl("queue", "purge", "slow", "--json").json

    assert (done["jobs"], done["dependents"]) == (2, ["c", "d"])
    left = {job["id"]: job["state"] for job in queuectl("list", "--json").json}
    assert left == {"c": "cancelled", "d": "cancelled", "any": "pending"}


def test_held_jobs_wait_and_are_purged(filled: Program) -> None:
    filled("enqueue", "--id", "held", "--queue", "slow", "--hold", "true")
    count = len(filled("list", "--queue", "slow", "-q").lines)

    assert filled("queue", "purge", "slow", "-n").out.endswith(
        "would be deleted (1 of them held)\n"
    )
    asked = filled.on_terminal("queue", "purge", "slow")
    asked.expect_exact(f"delete {count} waiting jobs of slow (1 of them held) with their history")
    asked.sendline("y")
    asked.expect_exact(f"{count} jobs deleted")
    asked.wait()

    filled("show", "held", code=3)


def test_purge_asks_on_a_terminal(filled: Program) -> None:
    refused = filled.on_terminal("queue", "purge", "slow")
    refused.expect_exact("delete 2 waiting jobs of slow with their history and output? [y/N] ")
    refused.sendline("")
    refused.expect_exact("nothing was deleted")
    refused.wait()
    assert refused.exitstatus == 1

    sure = filled.on_terminal("queue", "purge", "slow", "--yes")
    sure.expect_exact("2 jobs deleted")
    sure.wait()
    assert sure.exitstatus == 0


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_what_is_meant_must_be_said(filled: Program, command: str) -> None:
    assert "--all" in filled("queue", command, code=2).err
    assert "not both" in filled("queue", command, "slow", "--all", code=2).err


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["pause", "a b"], 2, "'a b' must begin"),
        (["pause", "slow", ""], 2, "'' must begin"),
        (["limit", "a b", "2"], 2, "'a b' must begin"),
        (["limit", "slow", "0"], 2, "'0' is no limit: it must be a number from 1 to 1000000"),
        (["limit", "slow", "-1"], 2, "'-1' is no limit"),
        (["limit", "slow", "two"], 2, "'two' is no limit"),
        (["limit", "slow", "9999999"], 2, "'9999999' is no limit"),
        (["rate", "a b", "2/m"], 2, "'a b' must begin"),
        (["rate", "slow", "2"], 2, "'2' is no rate: write 10/m, 2/s, 500/h, 1000/d"),
        (["rate", "slow", "-1/m"], 2, "'-1/m' is no rate"),
        (["rate", "slow", "0/m"], 2, "'0/m' must allow 1 to 1000000 starts"),
        (["rate", "slow", "1/99d"], 2, "'1/99d' must be of whole seconds, up to 30d"),
        (["resume", "nope"], 3, "there is no queue 'nope'"),
        (["resume", "slow", "nope"], 3, "there is no queue 'nope'"),
        (["purge", "nope"], 3, "there is no queue 'nope'"),
        (["purge", "n\u00f6", "--yes"], 3, "there is no queue 'nö'"),
    ],
)
def test_a_wrong_name_or_number_is_refused_and_changes_nothing(
    filled: Program, words: list[str], code: int, named: str
) -> None:
    before = filled("queue", "list", "--json").json

    done = filled("queue", *words, code=code)

    error, hint = done.err.splitlines()
    assert named in error
    assert hint.startswith("hint: ")
    assert done.out == ""
    assert filled("queue", "list", "--json").json == before
