"""``queuectl run``: here and now, through the program, in a terminal where that matters."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.waiting import wait_until


def newest(queuectl: Program) -> dict[str, object]:
    shown: dict[str, object] = queuectl("show", "last", "--json").json
    return shown


def test_it_prints_what_the_command_prints_and_leaves_with_its_code(queuectl: Program) -> None:
    done = queuectl("run", "--", "printf", "one\\ntwo\\n")

    assert (done.out, done.err) == ("one\ntwo\n", "")
    assert newest(queuectl)["state"] == "completed"
    assert queuectl("worker", "list", "-q").out == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["exit 7"], 7),
        (["kill -TERM $$"], 143),
        (["--timeout", "200ms", "sleep 300"], 124),
        (["no-such-command-here"], 127),
    ],
)
def test_the_exit_code_is_what_a_shell_would_have_given(
    queuectl: Program, words: list[str], code: int
) -> None:
    done = queuectl("run", "--max-retries", "0", *words, code=code)

    assert "is dead after 1 of 1 attempts" in done.err
    assert "hint: queue it again with: queuectl retry" in done.err


def test_it_is_retried_and_recorded_like_any_other(queuectl: Program) -> None:
    command = 'echo try $QUEUECTL_ATTEMPT; test "$QUEUECTL_ATTEMPT" = 3'

    done = queuectl("run", "--backoff-base", "1", "--name", "flaky", "--tag", "t", command)

    assert done.out == "try 1\ntry 2\ntry 3\n"
    assert "attempt 1 failed (exit code 1: try 1); attempt 2 is due" in done.err
    shown = newest(queuectl)
    assert [a["outcome"] for a in shown["history"]] == ["failed", "failed", "completed"]  # type: ignore[attr-defined]  # JSON
    assert (shown["name"], shown["tags"]) == ("flaky", ["t"])


def test_it_is_given_what_stands_on_stdin_at_each_attempt(queuectl: Program) -> None:
    command = 'cat; test "$QUEUECTL_ATTEMPT" = 2'

    done = queuectl(
        *("run", "--stdin", "--priority", "7", "--backoff-base", "1", command), given="abc\n"
    )

    assert done.out == "abc\nabc\n"
    shown = newest(queuectl)
    assert (shown["priority"], shown["stdin_bytes"]) == (7, 4)
    big = queuectl("run", "--stdin", "--", "cat", given=b"x" * (1024 * 1024 + 1), code=2)
    assert "stdin is longer than 1048576 bytes" in big.err
    assert len(queuectl("list", "-q").lines) == 1


def test_no_other_worker_takes_its_first_attempt(queuectl: Program) -> None:
    other = queuectl.start("worker", "start", "--log-format", "json")
    wait_until(lambda: queuectl("worker", "list", "-q").out)

    queuectl("run", "--", "true")
    other.send_signal(signal.SIGINT)
    told, _ = other.communicate()

    events = [json.loads(line)["event"] for line in told.splitlines()]
    assert "job-started" not in events


def test_ctrl_c_in_a_terminal_cancels_the_job(queuectl: Program, tmp_path: Path) -> None:
    terminal = queuectl.on_terminal("run", "--", "sh", "-c", "touch ready; exec sleep 300")
    wait_until((tmp_path / "ready").exists)

    terminal.sendintr()
    terminal.expect("cancels job")
    terminal.wait()

    assert terminal.exitstatus == 130
    shown = newest(queuectl)
    assert (shown["state"], shown["cancel_reason"]) == ("cancelled", "Ctrl-C")


def test_a_run_that_is_killed_leaves_the_job_to_end_its_attempt(
    queuectl: Program, tmp_path: Path
) -> None:
    run = queuectl.start("run", "touch ready; until [ -e go ]; do sleep 0.02; done")
    wait_until((tmp_path / "ready").exists)

    run.kill()
    run.communicate()
    (tmp_path / "go").touch()

    wait_until(lambda: newest(queuectl)["state"] == "completed")
    wait_until(lambda: queuectl("worker", "list", "-q").out == "")


def test_a_job_whose_worker_is_killed_runs_once_more(queuectl: Program, tmp_path: Path) -> None:
    crash = "until [ -e go ]; do sleep 0.02; done; kill -9 $PPID"
    run = queuectl.start(
        "run", f"echo $QUEUECTL_ATTEMPT; [ $QUEUECTL_ATTEMPT = 2 ] || {{ {crash}; }}"
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "1\n"
    (tmp_path / "go").touch()

    out, _ = run.communicate(timeout=60)

    assert (run.returncode, out) == (0, "2\n")


def test_a_job_with_the_same_unique_key_is_followed_instead(
    queuectl: Program, tmp_path: Path
) -> None:
    first = queuectl.start(
        *("run", "--unique", "k", "--max-retries", "0"),
        "echo of the first; touch ready; until [ -e go ]; do sleep 0.02; done; exit 7",
    )
    wait_until((tmp_path / "ready").exists)
    second = queuectl.start("run", "--unique", "k", "--json", "--", "echo", "of the second")
    assert second.stderr is not None
    job_id = newest(queuectl)["id"]
    told = f"note: job {job_id} has that unique key and has not ended; follows that one\n"
    assert second.stderr.readline() == told
    assert second.stderr.readline() == "of the first\n"

    (tmp_path / "go").touch()
    out, err = second.communicate(timeout=60)

    assert (second.returncode, err) == (7, f"note: job {job_id} is dead\n")
    assert (json.loads(out)["id"], json.loads(out)["state"]) == (job_id, "dead")
    first.communicate(timeout=60)
    assert first.returncode == 7
    assert queuectl("list", "-q").lines == [job_id]
    assert queuectl("run", "--unique", "k", "--", "echo", "anew").out == "anew\n"


def test_ctrl_c_leaves_the_job_of_somebody_else_be(queuectl: Program) -> None:
    queuectl("enqueue", "--hold", "--id", "other", "--unique", "k", "true")
    terminal = queuectl.on_terminal("run", "--unique", "k", "--", "true")
    terminal.expect("no worker is running")
    terminal.expect("or for: queuectl release other")

    terminal.sendintr()
    terminal.expect("job other goes on; end it with: queuectl cancel other")
    terminal.wait()

    assert terminal.exitstatus == 130
    assert newest(queuectl)["state"] == "held"


def test_with_json_the_ended_job_is_the_result_and_its_output_is_beside(queuectl: Program) -> None:
    done = queuectl("run", "--json", "--max-retries", "0", r"printf 'a\033[31m\n'; exit 3", code=3)

    assert (done.json["state"], done.json["runs"]) == ("dead", 1)
    assert done.err.startswith("a\\x1b[31m\n")
    raw = queuectl("run", "--json", "--raw", "--", "printf", r"a\033[31m\n")
    assert (raw.json["state"], raw.err) == ("completed", "a\x1b[31m\n")


def test_a_deadline_is_told_and_what_is_not_started_by_then_is_dead(queuectl: Program) -> None:
    late = queuectl("run", "--deadline", "1ms", "--", "true", code=1)
    assert "is dead after 0 of 4 attempts: expired" in late.err

    done = queuectl("run", "--deadline", "1h", "--", "echo", "in time")
    assert done.out == "in time\n"
    assert done.err.startswith("note: deadline ")
    over = queuectl("run", "--deadline", "2020-01-01T00:00:00Z", "--", "true", code=2)
    assert "--deadline: '2020-01-01T00:00:00Z' is over" in over.err


def test_its_next_try_is_held_until_somebody_releases_it(queuectl: Program) -> None:
    command = 'test "$QUEUECTL_ATTEMPT" = 2'
    run = queuectl.start("run", "--id", "a", "--backoff-base", "600", command)
    assert run.stderr is not None
    assert "attempt 2 is due" in run.stderr.readline()

    queuectl("hold", "a")
    assert "job a is held; waiting for a worker, or for" in run.stderr.readline()
    queuectl("set", "a", "delay=0")
    assert newest(queuectl)["state"] == "held"
    queuectl("release", "a")

    run.communicate(timeout=60)
    assert run.returncode == 0


def test_wrong_input_is_refused_and_nothing_is_stored(queuectl: Program) -> None:
    assert "no command to run" in queuectl("run", code=2).err
    assert "--timeout: 'soon'" in queuectl("run", "--timeout", "soon", "true", code=2).err
    queuectl("run", "--id", "mine", "--", "true")
    assert "was there already" in queuectl("run", "--id", "mine", "--", "true", code=2).err
    assert "different request" in queuectl("run", "--id", "mine", "--", "false", code=4).err
    assert queuectl("list", "-q").lines == ["mine"]
