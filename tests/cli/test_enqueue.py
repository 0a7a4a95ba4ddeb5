"""``queuectl enqueue``, through the program."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Program

JOB_KEYS = {
    "id",
    "command",
    "state",
    "attempts",
    "max_retries",
    "created_at",
    "updated_at",
    "queue",
    "priority",
    "run_at",
}


def test_options_after_the_command_belong_to_the_command(queuectl: Program) -> None:
    queuectl("enqueue", "make", "--json")

    assert queuectl("show", "last", "--json").json["command"] == "make --json"


def test_one_word_is_a_shell_line_as_it_stands(queuectl: Program) -> None:
    job = queuectl("enqueue", "--json", "echo $HOME && ls | wc -l").json

    assert job["command"] == "echo $HOME && ls | wc -l"
    assert job.keys() >= JOB_KEYS
    assert job["cwd"] == str(queuectl.folder)


@pytest.mark.parametrize("dashes", [[], ["--"]])
def test_several_words_are_quoted_as_the_shell_needs(queuectl: Program, dashes: list[str]) -> None:
    job_id = queuectl("enqueue", *dashes, "ls", "-la", "a file", "$x").lines[0]

    assert queuectl("show", job_id, "--json").json["command"] == "ls -la 'a file' '$x'"


def test_it_prints_the_id_and_a_note_that_no_worker_runs(queuectl: Program) -> None:
    result = queuectl("enqueue", "true")

    assert re.fullmatch(r"[a-z2-7]{10}\n", result.out)
    assert "queuectl worker start" in result.err


def test_a_job_in_json(queuectl: Program) -> None:
    given = {
        "id": "job1",
        "command": "sleep 2",
        "queue": "q",
        "priority": 3,
        "max_retries": 1,
        "timeout": "1m30s",
        "run_at": "2100-01-01T00:00:00+01:00",
        "backoff_base": 3,
        "cwd": "/tmp",  # noqa: S108  # only named
        "env": {"SECRET": "value"},
    }

    result = queuectl("enqueue", "--json", json.dumps(given))

    assert result.json == result.json | {
        "id": "job1",
        "state": "scheduled",
        "queue": "q",
        "priority": 3,
        "max_retries": 1,
        "timeout_seconds": 90,
        "run_at": "2099-12-31T23:00:00.000Z",
        "backoff_base": 3,
        "cwd": "/tmp",  # noqa: S108  # only named
        "env": ["SECRET"],
    }
    assert "value" not in result.out


def test_every_field_is_an_option_too(queuectl: Program) -> None:
    (queuectl.folder / "sub").mkdir()
    options = {
        "id": "j",
        "queue": "q",
        "priority": "-5",
        "max-retries": "0",
        "timeout": "5m",
        "delay": "1h",
        "backoff-base": "1.5",
        "cwd": "sub/../sub",
        "env": "A=1",
    }

    job = queuectl(
        "enqueue",
        *(f"--{name}={value}" for name, value in options.items()),
        *("-e", "B=x=y", "--json", "true"),
    ).json

    assert job == job | {
        "id": "j",
        "state": "scheduled",
        "queue": "q",
        "priority": -5,
        "max_retries": 0,
        "timeout_seconds": 300,
        "backoff_base": 1.5,
        "cwd": str(queuectl.folder / "sub"),
        "env": ["A", "B"],
    }


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--max-retries=-1", "true"], "--max-retries: -1"),
        (["--backoff-base=0.5", "true"], "--backoff-base: 0.5"),
        (["--backoff-base=nan", "true"], "--backoff-base"),
        (["--priority=x", "true"], "--priority"),
        (["--priority=99999999999999999999", "true"], "--priority"),
        (["--timeout=0", "true"], "--timeout"),
        (["--timeout=soon", "true"], "'soon'"),
        (["--run-at=banana", "true"], "--run-at: 'banana'"),
        (["--delay=1s", "--run-at=2100-01-01T00:00:00Z", "true"], "exclude each other"),
        (["--id=last", "true"], "--id: 'last'"),
        (["--id=a/b", "true"], "--id: 'a/b'"),
        (["--queue=", "true"], "--queue"),
        (["--env=A", "true"], "--env 'A'"),
        (["--env=QUEUECTL_X=1", "true"], "--env"),
        ([], "no command"),
        ([""], "command: must not be empty"),
        ([" \t"], "command: must not be empty"),
        (['{"command": '], "not valid JSON"),
        (['{"command": "a", "command": "b"}'], "'command' appears twice"),
        (['{"command": "a", "comand": "b"}'], "comand: unknown field"),
        (['{"command": 5}'], "command: 5"),
        (['{"command": "a", "priority": 1e400}'], "priority"),
        (['{"command": "a", "priority": NaN}'], "NaN"),
        (['{"command": "a\\u0000"}'], "NUL"),
        (['{"command": "\\ud800"}'], "surrogate"),
        (['{"command":' + "[" * 100_000], "too deeply"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_reason(
    queuectl: Program, words: list[str], named: str
) -> None:
    """N1, N2, N3: texts, numbers and JSON that cannot be."""
    result = queuectl("enqueue", *words, code=2)

    assert result.err.startswith("error: ")
    assert named in result.err.splitlines()[0]
    assert result.out == ""


def test_an_option_with_json_is_refused_and_told_where_it_goes(queuectl: Program) -> None:
    result = queuectl("enqueue", "--max-retries", "1", '{"command": "true"}', code=2)

    assert "--max-retries" in result.err
    assert 'put "max_retries" into the JSON' in result.err
    assert queuectl("enqueue", "--file", "x", "--queue", "q", code=2).err.startswith("error: --que")
    assert "not both" in queuectl("enqueue", "--file", "x", "true", code=2).err


def test_a_variable_may_stand_beside_json(queuectl: Program) -> None:
    variables = {"QUEUECTL_ENQUEUE_QUEUE": "slow"}

    queuectl("enqueue", '{"command": "true"}', variables=variables)
    queuectl("enqueue", "true", variables=variables)

    queues = [job["queue"] for job in queuectl("list", "--json").json]
    assert queues == ["slow", "default"]


def test_a_command_that_is_not_utf8_is_refused(queuectl: Program) -> None:
    """N1: as a shell may hand it over."""
    result = queuectl("enqueue", os.fsdecode(b"echo \xff"), code=2)

    assert "command: must be valid Unicode" in result.err


def test_a_folder_that_is_gone_is_refused(queuectl: Program) -> None:
    folder = queuectl.folder / "gone"
    folder.mkdir()
    program = f"cd {folder} && rmdir {folder} && queuectl enqueue true"

    done = subprocess.run(
        ["sh", "-c", program], env=queuectl.environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "folder is gone" in done.stderr


def test_the_same_request_again_is_a_success_that_changes_nothing(queuectl: Program) -> None:
    job = '{"id": "job1", "command": "true"}'
    before = queuectl("enqueue", "--json", job).json

    again = queuectl("enqueue", "--json", job)

    assert again.json == before
    assert "job1 was there already" in again.err
    conflict = queuectl("enqueue", '{"id": "job1", "command": "false"}', code=4)
    assert "'job1'" in conflict.err


@pytest.mark.parametrize(
    "text",
    [
        '{"id": "a", "command": "true"}\n{"id": "b", "command": "true"}',
        '[{"id": "a", "command": "true"},\n {"id": "b", "command": "true"}]',
    ],
)
def test_a_file_of_jobs(queuectl: Program, text: str) -> None:
    path = queuectl.folder / "jobs.json"
    path.write_text(text)

    assert queuectl("enqueue", "--file", "jobs.json").lines == ["a", "b"]
    piped = queuectl("enqueue", "--file", "-", "--json", given=text)

    assert [job["id"] for job in piped.json] == ["a", "b"]
    assert "2 of the jobs were there already" in piped.err


def test_nothing_of_a_file_is_stored_when_a_line_is_wrong(queuectl: Program) -> None:
    """N3: the line is named, and none of the jobs before it is there."""
    text = '{"command": "true"}\n' * 3000 + '{"command": "true", "priority": "high"}\n'

    result = queuectl("enqueue", "--file", "-", given=text, code=2)

    assert result.err.startswith("error: stdin: line 3001: priority: 'high'")
    assert result.out == ""
    assert queuectl("list", "--json").json == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"", "no jobs"),
        (b"\n \n", "no jobs"),
        (b"[]", "no jobs"),
        (b'{"command": "true"}\n[1]\n', "line 2: must be a JSON object"),
        (b'{"command": "true"}\n{"command": "\xff"}\n', "line 2: is not UTF-8"),
        (b'[{"command": "true"}] x', "line 1: more follows"),
        (b'{"command": "' + b"x" * 3_000_000 + b'"}', "line 1: a job's JSON is at most"),
        (b"[" * 200_000, "too deeply"),
        (b'{"command": "' + b"x" * 131_072 + b'"}', "line 1: command: must be at most 131071"),
    ],
)
def test_a_bad_file_is_refused_by_line(queuectl: Program, text: bytes, named: str) -> None:
    """N1, N3, N4: and nothing of it is stored."""
    result = queuectl("enqueue", "--file", "-", given=text, code=2)

    assert named in result.err
    assert queuectl("list", "--json").json == []


def test_a_file_that_cannot_be_read(queuectl: Program) -> None:
    assert "No such file" in queuectl("enqueue", "-f", "nowhere", code=2).err
    assert "directory" in queuectl("enqueue", "-f", str(queuectl.folder), code=2).err


def test_control_characters_never_reach_the_terminal(queuectl: Program) -> None:
    """N3: a key is named as it can be shown."""
    result = queuectl("enqueue", '{"command": "a", "\x1b[31m": 1}', code=2)

    assert "\x1b" not in result.err


def test_many_jobs_are_read_back_as_one_array(queuectl: Program) -> None:
    text = '{"command": "true"}\n' * 2500

    jobs = queuectl("enqueue", "--file", "-", "--json", given=text).json

    assert len({job["id"] for job in jobs}) == 2500


def test_a_relative_folder_is_meant_from_here(queuectl: Program, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()

    queuectl("enqueue", "--cwd", "..", "true", folder=here)

    assert queuectl("show", "last", "--json").json["cwd"] == str(tmp_path)
