"""``queuectl schedule``, through the program."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

import pytest

from tests.cli.conftest import Program
from tests.jobs import until
from tests.waiting import wait_until


@pytest.fixture
def nightly(queuectl: Program) -> Program:
    """The program, on a store with a schedule that is not due for a while."""
    queuectl(
        *("schedule", "add", "nightly", "--cron", "30 2 29 2 *", "--timezone", "Europe/Berlin"),
        *("--queue", "slow", "--env", "SECRET=s3cret", "--timeout", "5m", "--", "make", "all"),
    )
    return queuectl


def test_a_schedule_is_added_shown_and_listed(nightly: Program) -> None:
    shown = nightly("schedule", "show", "nightly").out
    found = nightly("schedule", "show", "nightly", "--json").json
    [listed] = nightly("schedule", "list", "--json").json
    header, row = nightly("schedule", "list").lines

    assert "30 2 29 2 * in Europe/Berlin" in shown
    times = re.findall(r"\d{4}-02-29 02:30:00 CET", shown)
    assert len(set(times)) == 5
    assert len(found["next"]) == 5
    assert found["next"][0] == found["next_at"] == listed["next_at"]
    assert found["next_at"].endswith("-02-29T01:30:00.000Z")
    assert (found["catch_up"], found["overlap"], found["paused"]) == ("last", "queue", False)
    assert found["job"] == {
        "command": "make all",
        "queue": "slow",
        "timeout": 300.0,
        "env": ["SECRET"],
        "cwd": str(nightly.folder),
    }
    assert "s3cret" not in shown + json.dumps(found) + json.dumps(listed)
    assert header.split()[:3] == ["NAME", "WHEN", "NEXT"]
    assert row.startswith("nightly")
    assert nightly("schedule", "list", "-q").lines == ["nightly"]


def test_without_schedules_the_list_is_empty_and_says_so(queuectl: Program) -> None:
    assert queuectl("schedule", "list", "--json").json == []
    told = queuectl("schedule", "list")
    assert (told.out, "no schedule yet" in told.err) == ("", True)


def test_adding_says_when_it_is_due_and_the_same_again_changes_nothing(queuectl: Program) -> None:
    words = ("schedule", "add", "poll", "--every", "1h", "--overlap", "skip", "true")

    first = queuectl(*words)
    second = queuectl(*words)

    assert first.out == second.out == "poll\n"
    assert "every 1h; next " in first.err
    assert "no worker is running" in first.err
    assert "already, with the same definition" in second.err
    other = ("schedule", "add", "poll", "--every", "2h", "true")
    assert "with another definition" in queuectl(*other, code=4).err
    replaced = queuectl(*other, "--json", code=4)
    assert "--replace" in replaced.err
    changed = queuectl(*other[:3], "--replace", "--json", *other[3:]).json
    assert (changed["every_seconds"], changed["overlap"]) == (7200, "queue")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--cron", "61 * * * *", "true"], "--cron '61 * * * *' has a wrong minute"),
        (["--cron", "0 0 30 2 *", "true"], "--cron '0 0 30 2 *' has a wrong day-of-month"),
        (["--cron", "daily", "true"], "--cron 'daily' has 1 field;"),
        (["--cron", "@noon", "true"], "--cron '@noon' is no time"),
        (["--every", "soon", "true"], "--every 'soon' is not a duration"),
        (["--every", "0.5s", "true"], "--every '0.5s' must be at least 1 second"),
        (["--cron", "@daily", "--timezone", "Mars", "true"], "--timezone 'Mars' is no time zone"),
        (["--every", "1h", "--timezone", "UTC", "true"], "--timezone is for --cron"),
        (["--cron", "@daily", "--every", "1h", "true"], "either --cron or --every"),
        (
            ["--every", "1h", "--unique", "k", "--overlap", "cancel-old", "true"],
            "--unique and --overlap cancel-old exclude each other",
        ),
        (["--every", "1h", "--unique", "", "true"], "--unique: '' must be printable"),
        (["true"], "when is it due?"),
        (["--every", "1h"], "there is no command to schedule"),
        (["--every", "1h", "--env", "A", "true"], "--env 'A' has no value"),
        (["--every", "1h", "--priority", "9999999999", "true"], "--priority: 9999999999 must"),
        (["--every", "1h", "--catch-up", "some", "true"], "--catch-up: 'some' is not one of"),
        (["--every", "1h", "--overlap", "never", "true"], "--overlap: 'never' is not one of"),
        (["--every", "1h", "--deadline", "18:00", "true"], "--deadline '18:00' is not a duration"),
        (["--every", "1h", "--deadline", "0", "true"], "--deadline '0' must be more than 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(queuectl: Program, words: list[str], named: str) -> None:
    done = queuectl("schedule", "add", "s", *words, code=2)

    error, hint = done.err.splitlines()
    assert named in error
    assert hint.startswith("hint: ")
    assert done.out == ""
    assert queuectl("schedule", "list", "--json").json == []


def test_a_name_that_is_none_is_refused(queuectl: Program) -> None:
    done = queuectl("schedule", "add", "a b", "--every", "1h", "true", code=2)

    assert "schedule 'a b' must begin with a letter" in done.err


@pytest.mark.parametrize("act", ["show", "pause", "resume", "run-now", "remove"])
def test_a_schedule_that_is_not_there_is_refused(nightly: Program, act: str) -> None:
    several = [] if act == "show" else ["nightly"]

    done = nightly("schedule", act, *several, "nosuch", code=3)

    assert "there is no schedule 'nosuch'" in done.err
    assert "queuectl schedule list" in done.err
    assert nightly("list", "--json").json == []
    assert not nightly("schedule", "show", "nightly", "--json").json["paused"]


def test_pause_and_resume(nightly: Program) -> None:
    assert nightly("schedule", "pause", "-n", "nightly").out == "nightly\n"
    paused = nightly("schedule", "pause", "nightly")
    again = nightly("schedule", "pause", "nightly", "--json")

    assert (paused.out, paused.err) == ("nightly\n", "note: 1 schedule paused\n")
    assert "was paused before" in again.err
    assert (again.json[0]["changed"], again.json[0]["paused"]) == (False, True)
    assert "if resumed" in nightly("schedule", "show", "nightly").out
    [resumed] = nightly("schedule", "resume", "nightly", "--json").json
    assert (resumed["changed"], resumed["paused"]) == (True, False)
    assert "was not paused" in nightly("schedule", "resume", "nightly").err


def test_run_now_makes_a_job_that_says_where_it_came_from(nightly: Program) -> None:
    [job_id] = nightly("schedule", "run-now", "nightly").lines
    [job] = nightly("schedule", "run-now", "nightly", "--json").json

    shown = nightly("show", job_id, "--json").json
    assert (shown["schedule"], shown["queue"]) == ("nightly", "slow")
    assert shown["scheduled_for"].endswith("Z")
    assert "schedule    nightly, its tick of 20" in nightly("show", job_id).out
    assert nightly("schedule", "show", "nightly", "--json").json["last_job"]["id"] == job["id"]
    assert nightly("schedule", "show", "nightly", "--json").json["live"] == 2
    assert "1 schedule would be run" in nightly("schedule", "run-now", "nightly", "-n").err


def test_its_jobs_have_the_key_and_the_input_that_it_keeps(queuectl: Program) -> None:
    add = ("schedule", "add", "report", "--every", "1h", "--unique", "k", "--stdin", "--", "cat")
    queuectl(*add, given="hunter2\n")

    shown = queuectl("schedule", "show", "report").out
    assert "unique      k\nstdin       8 bytes\n" in shown
    told = queuectl("schedule", "show", "report", "--json")
    assert (told.json["job"]["unique"], told.json["job"]["stdin_bytes"]) == ("k", 8)
    assert "hunter2" not in shown + told.out
    assert "with the same definition" in queuectl(*add, given="hunter2\n").err
    assert "with another definition" in queuectl(*add, given="hunter3\n", code=4).err
    [job_id] = queuectl("schedule", "run-now", "report").lines
    again = queuectl("schedule", "run-now", "report")
    assert again.lines == [job_id]
    assert f"job {job_id} has that unique key and has not ended; nothing was added" in again.err
    queuectl.drain()
    assert queuectl("logs", job_id).out == "hunter2\n"
    queuectl("schedule", "run-now", "report")
    queuectl.drain()
    assert queuectl("logs", "last").out == "hunter2\n"


def test_an_input_that_a_schedule_cannot_keep_is_refused(queuectl: Program) -> None:
    add = ("schedule", "add", "report", "--every", "1h", "--stdin", "--", "cat")

    assert "stdin is not UTF-8" in queuectl(*add, given=b"\xff", code=2).err
    assert "stdin is longer than 65536 bytes" in queuectl(*add, given=b"x" * 65537, code=2).err
    assert queuectl("schedule", "list", "--json").json == []


def test_a_removed_schedule_leaves_its_running_job_alone(queuectl: Program) -> None:
    go = queuectl.folder / "go"
    queuectl("schedule", "add", "s", "--every", "1h", "--", until(go))
    [job_id] = queuectl("schedule", "run-now", "s").lines
    queuectl("worker", "start", "--detach")
    wait_until(lambda: queuectl("list", "--state", "processing", "-q").lines)

    assert queuectl("schedule", "remove", "s", "--dry-run").out == "s\n"
    done = queuectl("schedule", "remove", "s")

    assert (done.out, "1 job of theirs goes on" in done.err) == ("s\n", True)
    assert queuectl("schedule", "list", "-q").out == ""
    go.touch()
    queuectl("wait", job_id)
    assert queuectl("show", job_id, "--json").json["state"] == "completed"
    queuectl("worker", "stop")


def test_removing_asks_on_a_terminal(nightly: Program) -> None:
    terminal = nightly.on_terminal("schedule", "remove", "nightly")
    terminal.expect("delete 1 schedule?")
    terminal.sendline("n")
    terminal.wait()

    assert nightly("schedule", "list", "-q").lines == ["nightly"]


def test_names_and_time_zones_are_completed(nightly: Program) -> None:
    def completed(line: str) -> list[str]:
        return nightly(line, "9", ":=", variables={"_QUEUECTL_COMPLETE": "bash"}).lines

    assert completed("queuectl schedule pause ni") == ["nightly"]
    assert completed("queuectl schedule add x --timezone Europe/Berl") == ["Europe/Berlin"]
    assert completed("queuectl schedule add x --overlap can") == ["cancel-old"]


def test_a_worker_runs_what_is_due_and_tells_the_job_its_tick(queuectl: Program) -> None:
    queuectl("schedule", "add", "s", "--every", "1s", 'echo "at $QUEUECTL_SCHEDULED_FOR"')
    queuectl("worker", "start", "--detach")
    wait_until(lambda: queuectl("list", "--state", "completed", "-q").lines)
    queuectl("schedule", "pause", "s")
    queuectl("worker", "stop")

    [*_, job] = queuectl("list", "--state", "completed", "--json").json
    tick = job["scheduled_for"].replace(".000Z", "Z")
    assert queuectl("logs", job["id"]).out == f"at {tick}\n"
    assert job["schedule"] == "s"


def test_a_dry_run_tells_the_next_times_and_stores_nothing(nightly: Program) -> None:
    cron = ("--cron", "30 2 29 2 *", "--timezone", "Europe/Berlin")
    fresh = nightly.folder / "fresh" / "queue.db"

    shown = nightly("schedule", "add", "-n", "leap", *cron, "--deadline", "15m", "make").out
    new = nightly("--db", str(fresh), "schedule", "add", "-n", "--json", "x", *cron, "make")
    other = ("schedule", "add", "-n", "nightly", "--every", "1h")
    refused = nightly(*other, "make", code=4)
    replaced = nightly(*other, "--replace", "--json", "make")

    assert "deadline    15m after the tick" in shown
    assert len(re.findall(r"\d{4}-02-29 02:30:00 CET", shown)) == 5
    assert len(new.json["next"]) == 5
    assert new.err == "note: schedule x would be added; nothing was stored\n"
    assert not fresh.parent.exists()
    assert "with another definition" in refused.err
    assert (replaced.json["every_seconds"], replaced.json["cron"]) == (3600, None)
    assert "nightly would be replaced" in replaced.err
    [left] = nightly("schedule", "list", "--json").json
    assert (left["name"], left["cron"]) == ("nightly", "30 2 29 2 *")


def test_a_deadline_counts_from_the_tick(queuectl: Program) -> None:
    queuectl("schedule", "add", "s", "--every", "1h", "--deadline", "15m", "true")

    [job_id] = queuectl("schedule", "run-now", "s").lines

    job = queuectl("show", job_id, "--json").json
    until_then = datetime.fromisoformat(job["deadline"]) - datetime.fromisoformat(
        job["scheduled_for"]
    )
    assert until_then == timedelta(minutes=15)


def test_schedules_are_exported_imported_and_copied(nightly: Program) -> None:
    nightly("export", "all.jsonl")
    other = ("--db", str(nightly.folder / "other.db"))
    third = nightly.folder / "third.db"

    nightly(*other, "import", "all.jsonl")
    nightly("db", "copy", "--to", str(third))

    expected = nightly("schedule", "list", "--json").json
    assert nightly(*other, "schedule", "list", "--json").json == expected
    assert nightly("--db", str(third), "schedule", "list", "--json").json == expected
