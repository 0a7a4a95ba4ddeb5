"""``enqueue --after``, ``--deadline`` and ``--stdin``, and ``tree``, through the program itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.cli.conftest import Program


def state(queuectl: Program, job_id: str) -> str:
    return str(queuectl("show", job_id, "--json").json["state"])


def drain(queuectl: Program) -> None:
    queuectl("worker", "start", "--drain")


def test_jobs_run_after_those_they_need(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "build", "--", "echo", "built")
    queuectl("enqueue", "--id", "test", "--after", "bui", "--", "false", "--max-retries")
    queuectl("enqueue", "--id", "check", "--max-retries", "0", "--after", "build", "--", "false")
    queuectl("enqueue", "--id", "ship", "--after", "check", "--", "echo", "shipped")
    queuectl("enqueue", "--id", "tell", "--after-failure", "check", "--", "echo", "told")
    queuectl("enqueue", "--id", "clean", "--after-any", "check", "--after", "last", "true")
    queuectl("cancel", "test", "--yes")

    assert state(queuectl, "ship") == "blocked"
    drain(queuectl)

    assert [state(queuectl, job_id) for job_id in ("build", "check", "ship", "tell", "clean")] == [
        "completed",
        "dead",
        "cancelled",
        "completed",
        "completed",
    ]
    shown = queuectl("show", "ship", "--json").json
    assert shown["cancel_reason"] == "job check died"
    assert shown["needs"] == [
        {"id": "check", "condition": "success", "outcome": "dead", "state": "dead"}
    ]
    assert "job check died" in queuectl("show", "ship").out
    assert "needs       check (dead)" in queuectl("show", "ship").out
    assert "job check died" in queuectl("explain", "ship").out

    queuectl("dlq", "retry", "check")
    assert state(queuectl, "ship") == "blocked"
    assert queuectl("status", "--json").json["states"]["blocked"] == 1
    assert queuectl("list", "--state", "blocked", "-q").lines == ["ship"]


def test_a_change_tells_what_changes_with_it(queuectl: Program) -> None:
    for job_id, *needs in (["a"], ["b", "a"], ["c", "b"], ["free"]):
        after = [word for need in needs for word in ("--after", need)]
        queuectl("enqueue", "--id", job_id, *after, "true")
    queuectl("enqueue", "--id", "any", "--after-any", "a", "true")

    dry = queuectl("cancel", "a", "free", "--dry-run")
    assert dry.lines == ["a", "free"]
    assert dry.err == "note: 2 jobs would be cancelled, and 2 that need them\n"
    told = queuectl("cancel", "a", "free", "--dry-run", "--json").json
    assert {job["id"]: job["dependents"] for job in told} == {"a": ["b", "c"], "free": []}
    assert [state(queuectl, job_id) for job_id in "abc"] == ["pending", "blocked", "blocked"]

    done = queuectl("cancel", "b")
    assert (done.out, done.err) == ("b\n", "note: 1 job cancelled, and 1 that needs it\n")
    [told] = queuectl("cancel", "a", "--json").json
    assert (told["id"], told["dependents"]) == ("a", [])

    queuectl("retry", "a")
    assert "1 job would be queued again, and 1 that needs it" in queuectl("retry", "b", "-n").err
    assert state(queuectl, "b") == "cancelled"
    [told] = queuectl("retry", "b", "--json").json
    assert (told["id"], told["dependents"]) == ("b", ["c"])
    assert state(queuectl, "c") == "blocked"
    both = queuectl("cancel", "--all", "--yes")
    assert both.err == "note: 5 jobs cancelled\n"


def test_a_dead_job_brings_back_what_it_took_along(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--max-retries", "0", "false")
    queuectl("enqueue", "--id", "b", "--after", "a", "true")
    drain(queuectl)

    [told] = queuectl("dlq", "retry", "a", "-n", "--json").json
    assert (told["id"], told["state"], told["dependents"]) == ("a", "dead", ["b"])
    assert "1 job queued again, and 1 that needs it" in queuectl("dlq", "retry", "--all").err
    assert state(queuectl, "b") == "blocked"


def test_a_tree_shows_both_directions(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--", "echo", "\x1b[31m")
    queuectl("enqueue", "--id", "b", "--after", "a", "true")
    queuectl("enqueue", "--id", "c", "--after-any", "a", "true")
    queuectl("enqueue", "--id", "d", "--after", "b", "--after", "c", "true")
    queuectl("enqueue", "--id", "e", "--after-failure", "d", "true")

    assert queuectl("tree", "d", variables={"PYTHONIOENCODING": "utf-8"}).lines == [
        "needs:",
        "├── b blocked  true",
        "│   └── a pending  echo '\\x1b[31m'",
        "└── any end: a pending".replace("any end: a pending", "c blocked  true"),
        "    └── any end: a pending  echo '\\x1b[31m'",
        "d blocked  true",
        "└── its failure: e blocked  true",
    ]
    ascii_only = queuectl("tree", "a", variables={"PYTHONIOENCODING": "ascii"}).lines
    assert ascii_only[1] == "|-- b blocked  true"
    assert ascii_only[-1] == "    `-- d blocked  true (drawn above)"
    told = queuectl("tree", "b", "--json").json
    assert told["id"] == "b"
    assert told["complete"] is True
    assert [job["id"] for job in told["jobs"]] == ["a", "b", "d", "e"]
    assert {"job": "e", "needs": "d", "condition": "failure", "outcome": None} in told["needs"]
    assert queuectl("tree", "e", "--json").json["jobs"][0]["id"] == "a"
    queuectl("tree", "nowhere", code=3)


def test_trees_are_drawn_of_what_was_selected(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--tag", "x", "true")
    queuectl("enqueue", "--id", "other", "true")
    queuectl("enqueue", "--id", "b", "--tag", "x", "--after", "a", "true")
    queuectl("enqueue", "--id", "c", "--tag", "x", "--after", "b", "--after", "other", "true")
    queuectl("enqueue", "--id", "free", "--tag", "x", "--queue", "q", "true")

    def drawn(*words: str) -> list[str]:
        return queuectl("tree", *words, variables={"PYTHONIOENCODING": "ascii"}).lines

    of_a = ["a pending  true", "`-- b blocked  true", "    `-- c blocked  true"]
    of_c = ["needs:", "|-- b blocked  true", "|   `-- a pending  true"]
    of_c += ["`-- other pending  true", "c blocked  true"]
    assert drawn("--tag", "x") == [*of_a, "", *of_c, "", "free pending  true"]
    assert drawn("--tag", "x", "--queue", "q") == ["free pending  true"]
    assert drawn("a", "a", "free") == [*of_a, "", "free pending  true"]
    assert drawn("--state", "blocked", "--since", "1h")[-1] == "c blocked  true"
    assert [each["id"] for each in queuectl("tree", "c", "a", "--json").json] == ["c", "a"]
    by_queue = queuectl("tree", "--queue", "q", "--json").json
    assert [(each["id"], each["complete"]) for each in by_queue] == [("free", True)]
    assert queuectl("tree", "--tag", "nobody").err == "note: no such jobs\n"
    assert queuectl("tree", "--tag", "nobody", "--json").json == []
    assert "no jobs were named" in queuectl("tree", code=2).err


def test_a_file_of_jobs_brings_its_dependencies(queuectl: Program) -> None:
    lines = '{"id": "x", "command": "true"}\n{"id": "y", "command": "true", "after": ["x"]}\n'
    queuectl("enqueue", "--file", "-", given=lines)

    drain(queuectl)

    assert state(queuectl, "y") == "completed"
    planned = queuectl("enqueue", "--dry-run", "--json", "--after", "x", "true").json
    assert planned["after"] == ["x"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--after", "nowhere", "true"], 3, "'nowhere'"),
        (["--after", "a", "--after-any", "a", "true"], 2, "in two ways"),
        (["--after", "no id", "true"], 2, "--after: 'no id'"),
        (["--id", "me", "--after", "me", "true"], 2, "itself"),
        (["--after", "a", '{"command": "true"}'], 2, '"after"'),
        (["--deadline", "2001-01-01T00:00:00Z", "true"], 2, "is over"),
        (["--deadline", "whenever", "true"], 2, "whenever"),
        (["--deadline", "1h", "--delay", "2h", "true"], 2, "later than the start"),
        (["--stdin", "--file", "jobs.json"], 2, "one job"),
        (["--stdin", "--each", "lines"], 2, "one job"),
        (["--stdin", '{"command": "true"}'], 2, '"stdin"'),
    ],
)
def test_what_cannot_be_is_refused(
    queuectl: Program, words: list[str], code: int, told: str
) -> None:
    queuectl("enqueue", "--id", "a", "true")

    refused = queuectl("enqueue", *words, code=code)

    assert told in refused.err
    assert "hint: " in refused.err
    assert queuectl("list", "-q").lines == ["a"]


def test_a_job_that_can_never_start_is_told(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "true")
    queuectl("cancel", "a", "--yes")

    added = queuectl("enqueue", "--id", "b", "--after", "a", "true")

    assert "job b cannot start: job a was cancelled" in added.err


def test_a_job_expires_that_no_worker_has_started(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--deadline", "1h", "true")
    with closing(sqlite3.connect(queuectl.location.path)) as connection, connection:
        connection.execute("UPDATE jobs SET deadline = '2001-01-01 00:00:00.000000'")

    assert "too late" in queuectl("show", "a").out
    assert queuectl("status", "--json").json["overdue"] == 1
    assert "overdue     1" in queuectl("status").out
    assert "a worker's next turn" in queuectl("explain", "a").out
    drain(queuectl)

    [dead] = queuectl("dlq", "list", "--json").json
    assert (dead["id"], dead["dead_reason"]) == ("a", "expired")


def test_standard_input_is_kept_for_the_job(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--stdin", "--", "cat", given=b"one\ntwo\n")
    queuectl("enqueue", '{"id": "b", "command": "cat", "stdin": "three"}')

    drain(queuectl)

    assert queuectl("logs", "a").out == "one\ntwo\n"
    assert queuectl("logs", "b").out.strip() == "three"
    assert queuectl("show", "a", "--json").json["stdin_bytes"] == 8


def test_standard_input_has_a_limit(queuectl: Program) -> None:
    queuectl("enqueue", "--stdin", "--", "wc", given=b"x" * (1 << 20))

    refused = queuectl("enqueue", "--stdin", "--", "wc", given=b"x" * (1 << 20) + b"y", code=2)

    assert "longer than 1048576 bytes" in refused.err
    assert len(queuectl("list", "-q").lines) == 1


def test_what_is_typed_is_not_kept(queuectl: Program) -> None:
    terminal = queuectl.on_terminal("enqueue", "--stdin", "--", "cat")

    terminal.expect("not for what is typed")
    terminal.wait()
    assert terminal.exitstatus == 2


def test_an_export_brings_dependencies_and_input_along(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "true")
    queuectl("enqueue", "--id", "b", "--after", "a", "--stdin", "--", "cat", given=b"in")
    exported = queuectl("export", "-").out

    other = Program(queuectl.folder, queuectl.folder / "other" / "queue.db")
    other("import", "-", given=exported)
    other("worker", "start", "--drain")

    assert other("show", "b", "--json").json["state"] == "completed"
    assert other("logs", "b").out.strip() == "in"
