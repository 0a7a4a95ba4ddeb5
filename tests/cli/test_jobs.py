"""``queuectl status``, ``list``, ``show`` and ``logs``, through the program."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.cli.conftest import PROGRAM, Program

JOBS = """
{"id": "late", "command": "true", "delay": "1h"}
{"id": "low", "command": "true"}
{"id": "high", "command": "true", "priority": 5, "queue": "other"}
"""


def test_status_counts_states_and_queues_and_names_what_is_due(queuectl: Program) -> None:
    queuectl("enqueue", "--file", "-", given=JOBS)

    status = queuectl("status", "--json").json
    text = queuectl("status").out

    assert status["states"] == {
        "held": 0,
        "blocked": 0,
        "scheduled": 1,
        "pending": 2,
        "processing": 0,
        "completed": 0,
        "failed": 0,
        "dead": 0,
        "cancelled": 0,
    }
    assert status["queues"] == [
        {"name": "default", "pending": 1, "processing": 0, "waiting": 1, "paused": False},
        {"name": "other", "pending": 1, "processing": 0, "waiting": 0, "paused": False},
    ]
    assert (status["workers_alive"], status["stop_requested"]) == (0, False)
    assert status["oldest_due"]["id"] == "low"
    assert re.search(r"^pending +2$", text, re.MULTILINE)
    assert "workers     0 alive" in text
    assert "oldest due  low" in text
    assert "next due    in 59m" in text or "next due    in 1h" in text


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ([], ["high", "low", "late"]),
        (["--order", "next"], ["high", "low", "late"]),
        (["--order", "next", "--state", "scheduled"], ["late"]),
        (["--state", "pending"], ["high", "low"]),
        (["--state", "pending", "-s", "SCHEDULED"], ["high", "low", "late"]),
        (["--queue", "other"], ["high"]),
        (["--queue", "none"], []),
        (["--limit", "1"], ["high"]),
        (["--limit", "0"], ["high", "low", "late"]),
    ],
)
def test_list_selects_and_orders(queuectl: Program, words: list[str], ids: list[str]) -> None:
    queuectl("enqueue", "--file", "-", given=JOBS)

    assert [job["id"] for job in queuectl("list", *words, "--json").json] == ids
    assert queuectl("list", *words, "-q").lines == ids


def test_list_for_a_pipe_is_plain_columns(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "--", "printf", "\x1b[31m", "a\nb")

    header, row = queuectl("list").lines

    assert header.split() == ["ID", "STATE", "QUEUE", "TRIES", "CREATED", "DUE", "COMMAND"]
    assert row.split(maxsplit=6)[:4] == ["j", "pending", "default", "0/4"]
    assert row.endswith("printf '\\x1b[31m' 'a\\nb'")
    assert header.index("COMMAND") == row.index("printf")


def test_an_empty_list_says_so_on_stderr(queuectl: Program) -> None:
    result = queuectl("list")

    assert (result.out, result.err) == ("", "note: no jobs\n")
    assert queuectl("list", "--json").out == "[]\n"


def test_show_in_json_has_the_job_and_its_history(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "--max-retries", "0", "echo out; echo err >&2; exit 3")
    queuectl.drain()

    job = queuectl("show", "j", "--json").json

    assert (job["state"], job["attempts"], job["dead_reason"]) == ("dead", 1, "retries exhausted")
    [attempt] = job["history"]
    assert attempt == attempt | {"attempt": 1, "outcome": "failed", "exit_code": 3, "signal": None}
    assert attempt["output_bytes"] == 8
    assert job["output_path"].endswith("1-1.log")


def test_show_for_people(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "--max-retries", "1", "--env", "TOKEN=hidden", "exit 7")
    queuectl.drain()

    shown = queuectl("show", "j").out

    assert re.search(r"^state +failed, attempt 1 of 2, (next in \ds|due now)$", shown, re.MULTILINE)
    assert re.search(r"^ +1 +failed +7 ", shown, re.MULTILINE)
    assert "TOKEN" in shown
    assert "hidden" not in shown


def test_a_prefix_and_last_name_a_job(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "alpha", "true")
    queuectl("enqueue", "--id", "beta", "true")

    assert queuectl("show", "al", "--json").json["id"] == "alpha"
    assert queuectl("show", "last", "--json").json["id"] == "beta"


def test_logs_escape_control_sequences_unless_raw(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", r"printf 'a\tb\033[31mred\r\n\377 10%%\r20%%\n'")
    queuectl.drain()

    assert queuectl("logs", "j").out == "a\tb\\x1b[31mred\n\\xff 10%\\r20%\n"
    assert queuectl("logs", "j", "--json").json == {
        "id": "j",
        "attempt": 1,
        "state": "completed",
        "output": "a\tb\x1b[31mred\r\n\\xff 10%\r20%\n",
    }
    raw = queuectl.folder / "raw"
    with raw.open("wb") as file:
        subprocess.run(
            [PROGRAM, "logs", "j", "--raw"], env=queuectl.environment, stdout=file, check=True
        )
    assert raw.read_bytes() == b"a\tb\x1b[31mred\r\n\xff 10%\r20%\n"


def test_logs_of_an_attempt_and_the_last_lines(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "seq 1 100; exit $((2 - QUEUECTL_ATTEMPT))")
    queuectl.drain()

    assert queuectl("logs", "j", "-n", "2").lines == ["99", "100"]
    assert queuectl("logs", "j", "-n", "0").out == ""
    assert queuectl("logs", "j", "--attempt", "1").lines[0] == "1"
    missing = queuectl("logs", "j", "--attempt", "2", code=3)
    assert "no attempt 2" in missing.err


def test_logs_without_output_say_so_and_succeed(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "true")

    assert "has not run yet" in queuectl("logs", "j").err
    queuectl.drain()
    silent = queuectl("logs", "j")
    assert (silent.out, "printed nothing" in silent.err) == ("", True)


def test_logs_follow_over_attempts_until_the_job_is_settled(queuectl: Program) -> None:
    command = "echo begin $QUEUECTL_ATTEMPT; sleep 0.3; echo end; exit 1"
    queuectl("enqueue", "--id", "j", "--max-retries", "1", "--backoff-base", "1", command)
    with queuectl.start("logs", "-f", "j") as follower:
        assert follower.stderr is not None
        waiting = follower.stderr.readline()
        with queuectl.start("worker", "start") as worker:
            out, err = follower.communicate(timeout=30)
            queuectl("worker", "stop", "--now")
            worker.communicate(timeout=30)

    assert out == "begin 1\nend\nbegin 2\nend\n"
    assert "waiting for a worker" in waiting
    assert "attempt 2 is due in" in err
    assert err.endswith("note: job j is dead\n")
    assert follower.returncode == 0


def test_logs_follow_of_a_finished_job_prints_it_and_ends(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "seq 1 50")
    queuectl.drain()

    assert queuectl("logs", "-f", "j").lines == [str(number) for number in range(1, 51)]
    assert queuectl("logs", "-f", "-n", "3", "j").lines == ["48", "49", "50"]


def test_follow_excludes_what_names_one_output(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "true")

    assert "exclude each other" in queuectl("logs", "-f", "--json", "j", code=2).err
    assert "exclude each other" in queuectl("logs", "-f", "--attempt", "1", "j", code=2).err
