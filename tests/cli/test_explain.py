"""``queuectl explain``, through the program."""

from __future__ import annotations

from tests.cli.conftest import Program
from tests.jobs import until
from tests.waiting import wait_until


def test_what_keeps_a_job_is_told_with_what_to_do(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "--queue", "q", "true")
    queuectl("queue", "pause", "q")

    lines = queuectl("explain", "j").lines

    assert lines[0] == "job j is pending, in queue q"
    assert lines[1].startswith("- its queue q is paused since 2")
    assert lines[2:] == ["  queuectl queue resume q", "- no worker runs", "  queuectl worker start"]


def test_a_program_gets_names_of_reasons(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "done", "true")
    queuectl.drain()
    queuectl("enqueue", "--id", "later", "--delay", "1h", "true")

    done, later = (queuectl("explain", name, "--json").json for name in ("done", "last"))

    assert (done["id"], done["state"], done["queue"]) == ("done", "completed", "default")
    [reason] = done["reasons"]
    assert (reason["reason"], reason["hint"]) == ("completed", None)
    assert [reason["reason"] for reason in later["reasons"]] == ["scheduled", "no-worker"]


def test_a_job_that_runs_and_one_that_waits_for_its_place(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "runs", until(queuectl.folder / "go"))
    queuectl("queue", "limit", "default", "1")
    queuectl("worker", "start", "--detach", "--concurrency", "2")
    wait_until(lambda: queuectl("list", "--state", "processing", "-q").lines)
    queuectl("enqueue", "--id", "waits", "true")

    runs, waits = (queuectl("explain", name).lines for name in ("runs", "waits"))

    assert runs[0] == "job runs is processing, in queue default"
    assert runs[1].startswith("- it runs, attempt 1 of 4, since ")
    assert waits[1] == "- its queue default runs at most 1 at once: runs"
    (queuectl.folder / "go").touch()
    queuectl("worker", "stop")


def test_what_a_job_said_is_escaped(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "--max-retries", "0", "printf '\\033[31mred'; exit 1")
    queuectl.drain()

    told = queuectl("explain", "j")

    assert "\\x1b[31mred" in told.out
    assert "\x1b" not in told.out


def test_a_job_that_is_not_there_is_refused(queuectl: Program) -> None:
    assert "there is no job 'nope'" in queuectl("explain", "nope", code=3).err


def test_a_job_of_a_schedule_names_it(queuectl: Program) -> None:
    queuectl("schedule", "add", "nightly", "--cron", "30 2 * * *", "--", "true")
    queuectl("schedule", "run-now", "nightly")
    queuectl("schedule", "pause", "nightly")

    told = queuectl("explain", "last")

    assert told.lines[-2].startswith("- schedule nightly made it, for 2")
    assert "resumed now, it would be due at " in told.lines[-2]
    assert told.lines[-1] == "  queuectl schedule show nightly"
    assert queuectl("explain", "last", "--json").json["reasons"][-1]["reason"] == "made-by-schedule"
