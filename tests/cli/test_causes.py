"""Backoff and causes of failure, through the program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Program

#: Each of the options, and how a job shows it in JSON.
_OPTIONS = {
    "--backoff": "linear",
    "--backoff-base": "1m30s",
    "--jitter": "20%",
    "--retry-on": "75,124",
    "--expect": "^done",
    "--fail-if": "ERROR",
    "--expect-file": "out/film.webm",
    "--stall": "10m",
}
_SHOWN = {
    "backoff": "linear",
    "backoff_base": 90.0,
    "jitter": 0.2,
    "retry_on": [75, 124],
    "no_retry_on": [],
    "expect": "^done",
    "fail_if": "ERROR",
    "expect_file": "out/film.webm",
    "stall_seconds": 600.0,
}
_WORDS = [word for pair in _OPTIONS.items() for word in pair]


def shown(job: dict[str, object]) -> dict[str, object]:
    return {name: job[name] for name in _SHOWN}


def test_a_job_shows_its_terms(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", *_WORDS, "true")
    queuectl("enqueue", "--id", "plain", "true")

    assert shown(queuectl("show", "a", "--json").json) == _SHOWN
    plain, listed = queuectl("list", "--json").json
    assert shown(listed) == _SHOWN
    assert shown(plain) == {
        **dict.fromkeys(_SHOWN),
        "backoff": "exponential",
        "jitter": 0,
        "retry_on": [],
        "no_retry_on": [],
    }
    lines = queuectl("show", "a").lines
    for line in (
        "backoff     linear, base 90, give or take 20%",
        "retried on  exit codes 75, 124",
        "expects     a line that matches /^done/, and the file out/film.webm",
        "fails if    a line matches /ERROR/",
        "stalled     when silent for 10m",
    ):
        assert line in lines
    told = queuectl("show", "plain").out
    assert not any(title in told for title in ("backoff", "retried", "expects", "fails", "stalled"))


def test_a_rehearsal_tells_the_pauses_of_each_backoff(queuectl: Program) -> None:
    linear = queuectl("enqueue", "-n", *_WORDS, "true")
    fixed = queuectl("enqueue", "-n", "--backoff", "fixed", "--backoff-base", "5m", "true")
    own = queuectl("enqueue", "-n", "--json", '{"command": "x", "backoff": "linear"}').json

    assert linear.lines[1].endswith(
        "retried on exit codes 75, 124, expects a line that matches /^done/, and the file"
        " out/film.webm, fails if a line matches /ERROR/, stalled when silent for 10m"
    )
    assert linear.lines[2] == (
        "    attempt 1 at once; after failure 1: +1m30s, 2: +3m, 3: +4m30s, give or take 20%;"
        " after failure 4: dead"
    )
    assert (
        fixed.lines[2] == "    attempt 1 at once; after failure 1 to 3: +5m; after failure 4: dead"
    )
    assert [pause["seconds"] for pause in own["pauses"]] == [2, 4, 6]
    assert own["backoff"] == "linear"


def test_run_leaves_with_1_if_more_was_expected_and_with_124_if_it_stalled(
    queuectl: Program,
) -> None:
    unmet = queuectl("run", "--max-retries", "0", "--expect", "done", "echo hi", code=1)
    assert unmet.out == "hi\n"
    assert "is dead after 1 of 1 attempts: exit code 0, but no line of its output" in unmet.err

    silent = queuectl("run", "--max-retries", "0", "--stall", "300ms", "sleep 300", code=124)
    assert "stalled: printed nothing for 0.3s" in silent.err

    queuectl("run", "--expect", "done", "--expect-file", "f", "touch f; echo done")


def test_a_code_that_is_not_retried_is_dead_at_once_and_says_why(queuectl: Program) -> None:
    queuectl("run", "--id", "a", "--no-retry-on", "2,3", "exit 3", code=3)

    reason = "exit code 3 is among those not retried (2,3)"
    assert reason in queuectl("explain", "a").out
    assert queuectl("show", "a", "--json").json["dead_reason"] == reason
    assert queuectl("dlq", "list", "--json").json[0]["dead_reason"] == reason
    assert "stalled" in queuectl("stats", "--json").json["outcomes"]
    assert queuectl("audit").code == 0


def test_a_line_gives_the_name_of_the_file_that_is_expected(queuectl: Program) -> None:
    queuectl(
        *("enqueue", "--each", "-", "--expect-file", "{.}.png", "touch {.}.png"), given="a.jpg\n"
    )

    assert queuectl("show", "last", "--json").json["expect_file"] == "a.png"
    queuectl.drain()
    assert queuectl("show", "last", "--json").json["state"] == "completed"


def test_jobs_of_a_schedule_have_its_terms(queuectl: Program) -> None:
    queuectl("schedule", "add", "s", "--every", "1h", *_WORDS, "--", "true")

    assert "retried on  exit codes 75, 124" in queuectl("schedule", "show", "s").lines
    assert queuectl("schedule", "show", "s", "--json").json["job"]["stall"] == 600.0
    [job_id] = queuectl("schedule", "run-now", "s").lines
    assert shown(queuectl("show", job_id, "--json").json) == _SHOWN


def test_they_leave_and_come_with_the_job(queuectl: Program, tmp_path: Path) -> None:
    queuectl("enqueue", "--id", "a", *_WORDS, "true")
    exported = queuectl("export").out

    other = ("--db", str(tmp_path / "other" / "queue.db"))
    queuectl(*other, "import", "-", given=exported)
    queuectl(*other, "import", "-", given=exported)
    assert shown(queuectl(*other, "show", "a", "--json").json) == _SHOWN

    copied = tmp_path / "copied" / "queue.db"
    queuectl("db", "copy", "--to", str(copied))
    assert shown(queuectl("--db", str(copied), "show", "a", "--json").json) == _SHOWN

    changed = exported.replace("^done", "^gone")
    assert (
        "'a' is there with another terms"
        in queuectl(*other, "import", "-", given=changed, code=4).err
    )
    for wrong, problem in (
        (exported.replace("^done", "(done"), "is no regular expression"),
        (exported.replace('"stall":', '"stalls":'), "has the unknown field 'stalls'"),
    ):
        assert wrong != exported
        assert problem in queuectl("import", "-", given=wrong, code=2).err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--expect", "a("], "--expect: 'a(' is no regular expression: missing ), unterminated"),
        (["--fail-if", ""], "--fail-if: '' is empty, and matches every line"),
        (["--retry-on", "x"], "--retry-on: 'x' is no list of exit codes: write them like 75,124"),
        (["--no-retry-on", "0"], "--no-retry-on: '0' has 0, and exit codes of failures are 1 to"),
        (["--retry-on", "1", "--no-retry-on", "2"], "retry_on and no_retry_on exclude each other"),
        (["--jitter", "2"], "--jitter: '2' must be a share from 0 to 1, or a text like 20%"),
        (["--stall", "0s"], "--stall: '0s' must be more than 0 seconds"),
        (["--expect-file", ""], "--expect-file: '' must name a file"),
        (["--backoff", "steep"], "'steep' is not one of 'exponential', 'linear', 'fixed'"),
        (["--backoff-base", "soon"], "'soon' is no number, and is not a duration"),
        (["--backoff-base", "0.5"], "--backoff-base: 0.5 must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_stored(
    queuectl: Program, words: list[str], problem: str
) -> None:
    assert problem in queuectl("enqueue", *words, "--", "true", code=2).err
    assert queuectl("list", "-q").lines == []


def test_run_and_schedules_refuse_the_same(queuectl: Program) -> None:
    for command in (["run"], ["schedule", "add", "s", "--every", "1h"]):
        refused = queuectl(*command, "--expect", "a(", "--", "true", code=2)
        assert "--expect: 'a(' is no regular expression" in refused.err

    assert queuectl("list", "-q").lines == queuectl("schedule", "list", "-q").lines == []


def test_a_job_in_json_brings_its_own(queuectl: Program) -> None:
    job = json.dumps({"command": "exit 3", "retry_on": "75", "id": "a"})

    assert "for a plain command" in queuectl("enqueue", "--stall", "1m", job, code=2).err
    wrong = job.replace("75", "900")
    refused = queuectl("enqueue", "--file", "-", given=f"{job}\n{wrong}\n", code=2)
    assert "line 2: retry_on: '900' has 900" in refused.err
    queuectl("enqueue", job)
    queuectl.drain()

    assert queuectl("show", "a", "--json").json["state"] == "dead"
