"""One attempt: what a command gets, and how its end is recorded (R4, R7)."""

from __future__ import annotations

import os
import stat
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from queuectl.db.engine import Store
from queuectl.domain.request import JobRequest
from queuectl.service import config, dead_letters, jobs, logs
from tests.jobs import add, attempts_of, output_of, state_of
from tests.supervision import Supervisors


def test_a_job_that_succeeds_is_completed_with_its_output_and_cost(
    store: Store, supervisors: Supervisors
) -> None:
    add(store, "echo out; echo err >&2; printf more", id="a")

    supervisors.run_drained()

    [attempt] = attempts_of(store, "a")
    assert state_of(store, "a") == attempt.outcome == "completed"
    assert (attempt.exit_code, attempt.signal, attempt.error) == (0, None, None)
    assert output_of(store, "a") == "out\nerr\nmore"
    assert (attempt.output_tail, attempt.output_bytes) == (b"out\nerr\nmore", 12)
    assert attempt.cpu_user_seconds is not None
    assert attempt.cpu_system_seconds is not None
    assert attempt.finished_at - attempt.started_at > timedelta()


def test_the_memory_that_a_job_took_is_recorded(store: Store, supervisors: Supervisors) -> None:
    add(store, f"exec {sys.executable} -c 'hog = bytes(range(250)) * 400_000'", id="a")

    supervisors.run_drained()

    [attempt] = attempts_of(store, "a")
    assert attempt.max_rss_bytes is not None
    assert 100_000_000 < attempt.max_rss_bytes < 200_000_000


def test_a_job_that_fails_is_tried_again_until_it_succeeds(
    store: Store, supervisors: Supervisors
) -> None:
    config.set_option(store, "backoff-max", 0)
    add(store, 'echo "try $QUEUECTL_ATTEMPT"; [ "$QUEUECTL_ATTEMPT" = 3 ]', id="a")

    supervisors.run_drained()

    assert [(attempt.outcome, attempt.exit_code) for attempt in attempts_of(store, "a")] == [
        ("failed", 1),
        ("failed", 1),
        ("completed", 0),
    ]
    assert [output_of(store, "a", run) for run in (1, 2, 3)] == ["try 1\n", "try 2\n", "try 3\n"]
    job = jobs.find(store, "a")
    assert (job.state, job.attempts, job.runs) == ("completed", 2, 3)


def test_a_job_that_always_fails_is_dead_after_its_retries(
    store: Store, supervisors: Supervisors
) -> None:
    config.set_option(store, "backoff-max", 0)
    add(store, "echo no such film; exit 7", id="a", max_retries=2)

    supervisors.run_drained()

    [letter] = dead_letters.list_dead(store)
    assert (letter.job.id, letter.reason) == ("a", "retries exhausted")
    assert letter.last_error == "exit code 7: no such film"
    assert [attempt.run for attempt in attempts_of(store, "a")] == [1, 2, 3]


def test_a_requeued_job_runs_again(store: Store, supervisors: Supervisors, tmp_path: Path) -> None:
    add(store, f"[ -e {tmp_path}/repaired ]", id="a", max_retries=0)
    supervisors.run_drained()
    assert state_of(store, "a") == "dead"

    (tmp_path / "repaired").touch()
    dead_letters.requeue(store, ["a"])
    supervisors.run_drained()

    assert state_of(store, "a") == "completed"
    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["failed", "completed"]


def test_each_way_to_fail_is_told_by_its_reason(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """R4: not found (127), not executable (126), a folder that is gone."""
    script = tmp_path / "script"
    script.write_text("echo never")
    gone = tmp_path / "gone"
    for job_id, command, cwd in (
        ("missing", "/no/such/program", "/"),
        ("unknown", "nosuchprogram --help", "/"),
        ("plain", str(script), "/"),
        ("killed", "kill -KILL $$", "/"),
        ("syntax", "if then", "/"),
        ("gone", "true", str(gone)),
        ("file", "true", str(script)),
        ("binary", "printf '\\377\\000\\033[31m'; exit 1", "/"),
    ):
        add(store, command, id=job_id, cwd=cwd, max_retries=0)

    supervisors.run_drained(concurrency=3)

    ends = {
        letter.job.id: (attempts_of(store, letter.job.id)[0].exit_code, letter.last_error or "")
        for letter in dead_letters.list_dead(store)
    }
    assert ends["missing"][0] == ends["unknown"][0] == 127
    assert ends["missing"][1].startswith("exit code 127 (the command was not found): ")
    assert ends["plain"][0] == 126
    assert ends["plain"][1].startswith("exit code 126 (the command cannot be executed): ")
    assert ends["killed"] == (None, "killed by SIGKILL")
    assert attempts_of(store, "killed")[0].signal == 9
    assert ends["syntax"][0] == 2
    assert ends["gone"] == (None, f"could not be started in {gone}: No such file or directory")
    assert ends["file"] == (None, f"could not be started in {script}: Not a directory")
    assert ends["binary"] == (1, "exit code 1: \ufffd\x1b[31m")


def test_a_command_gets_what_it_was_promised(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """R7: a command that reads its input meets the end of the file at once."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    job = add(store, "pwd", id="cwd", cwd=str(folder))
    add(store, 'printf %s "$GREETING $INHERITED"', id="env", env={"GREETING": "hi 'there'"})
    add(store, "cat; echo end of file", id="stdin")
    add(store, "env | grep ^QUEUECTL_ | sort", id="marks")
    add(store, "ls /proc/self/fd", id="files")
    add(store, 'cut -d" " -f5,6 /proc/$$/stat; echo $$', id="session")

    supervisor = supervisors.start(drain=True, environment={"INHERITED": "all"})
    supervisor.wait()

    assert output_of(store, "cwd") == f"{folder}\n"
    assert output_of(store, "env") == "hi 'there' all"
    assert output_of(store, "stdin") == "end of file\n"
    assert output_of(store, "files").split() == ["0", "1", "2", "3"]
    group_and_session, pid = output_of(store, "session").splitlines()
    assert group_and_session == f"{pid} {pid}"
    marks = dict(line.split("=", 1) for line in output_of(store, "marks").splitlines())
    [attempt] = attempts_of(store, "marks")
    assert marks == {
        "QUEUECTL_JOB_ID": "marks",
        "QUEUECTL_ATTEMPT": "1",
        "QUEUECTL_CLAIM": f"{job.seq + 3}-2",
        "QUEUECTL_WORKER_ID": attempt.worker_id,
    }


def test_a_command_begins_with_no_signal_ignored_or_blocked(
    store: Store, supervisors: Supervisors
) -> None:
    add(store, "grep -E 'Sig(Ign|Blk)' /proc/self/status", id="a")
    ignoring = ["sh", "-c", "trap '' HUP INT QUIT TERM PIPE USR1; exec \"$@\"", "sh"]

    supervisors.start(drain=True, under=ignoring).wait()

    masks = [int(line.split()[1], 16) for line in output_of(store, "a").splitlines()]
    # The C library of some systems leaves two signals of its own (32 and 33) ignored.
    assert [mask & (1 << 31) - 1 for mask in masks] == [0, 0]


def test_a_link_in_place_of_the_output_is_not_followed(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """X1: the link was put there before the run."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    job = add(store, "echo hello", id="a")
    logs.output_path(store.location, job.seq, 1).symlink_to(victim)

    supervisors.run_drained()

    assert victim.read_text() == "untouched"
    assert output_of(store, "a") == "hello\n"


@pytest.mark.parametrize("command", ["yes", "cat /dev/zero", "cat /dev/urandom"])
def test_fifty_megabytes_of_output_cost_no_memory(
    store: Store, supervisors: Supervisors, command: str
) -> None:
    config.set_option(store, "output-limit", "64KiB")
    supervisor = supervisors.start()
    [worker] = supervisor.worker_pids()
    before = peak_memory_bytes(worker)

    add(store, f"{command} | head -c 50000000", id="a")
    [settled] = supervisor.wait_for("job-completed")

    assert settled["job"] == "a"
    [attempt] = attempts_of(store, "a")
    assert attempt.output_bytes == 50_000_000
    kept = sum(path.stat().st_size for path in store.location.logs.iterdir())
    assert 64 * 1024 < kept < 64 * 1024 + 100
    assert peak_memory_bytes(worker) - before < 16 * 1024 * 1024


def peak_memory_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [peak] = [line for line in lines if line.startswith("VmHWM:")]
    return int(peak.split()[1]) * 1024


def test_many_workers_run_no_job_twice(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    requests = [
        JobRequest(command=f"echo $QUEUECTL_JOB_ID >> {ran}", id=f"job-{number}")
        for number in range(300)
    ]
    jobs.enqueue(store, requests, cwd=None)

    supervisors.run_drained(count=3, concurrency=4)

    assert sorted(ran.read_text().split()) == sorted(request.id or "" for request in requests)
    assert {len(attempts_of(store, f"job-{number}")) for number in range(300)} == {1}


@pytest.mark.sqlite
def test_files_are_private_and_usable_under_the_strictest_umask(
    store: Store, supervisors: Supervisors
) -> None:
    """Without the powers of root, a file of mode 000 could not be opened again."""
    add(store, "echo printed", id="a")
    powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    under = powerless if os.geteuid() == 0 else []

    for _ in range(2):  # the second finds the files of the first
        supervisors.start(
            under=[*under, "sh", "-c", 'umask 0777; exec "$@"', "sh"], drain=True
        ).wait()

    assert output_of(store, "a") == "printed\n"
    files = [path for path in store.location.folder.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
