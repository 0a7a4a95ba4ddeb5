"""What a command starts ends with it, wherever it went; timeouts (R1, R2, R4)."""

from __future__ import annotations

from pathlib import Path

import psutil

from queuectl.db.engine import Store
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until

#: Puts a process out of the job's group, and out of its family; its number goes to a file.
_DOUBLE_FORK = "(setsid sh -c 'echo $$ > {0}; exec sleep 300' &)"
#: The same, and nothing in its environment tells where it came from.
_UNMARKED = "(env -i setsid sh -c 'echo $$ > {0}; exec sleep 300' &)"
_AWAIT = "until [ -s {0} ]; do sleep 0.02; done"


def is_alive(file: Path) -> bool:
    """Whether the process whose number stands in the file runs."""
    pid = int(file.read_text())
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_job_ends_with_its_shell_whoever_keeps_its_output_open(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """R2: it is settled when the shell has ended, and what kept its output open is ended too."""
    add(store, f"sleep 300 & echo $! > {tmp_path}/background; echo started", id="a")

    supervisors.run_drained()

    [attempt] = attempts_of(store, "a")
    assert (attempt.outcome, attempt.output_tail) == ("completed", b"started\n")
    assert not is_alive(tmp_path / "background")


def test_what_left_its_group_ends_with_the_job(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """R1: neither setsid, nor a second fork, nor a cleared environment saves a process."""
    files = [tmp_path / "forked", tmp_path / "unmarked"]
    starts = [_DOUBLE_FORK.format(files[0]), _UNMARKED.format(files[1])]
    waits = [_AWAIT.format(file) for file in files]
    add(store, "; ".join(starts + waits), id="a")

    supervisor = supervisors.start()
    supervisor.wait_for("job-completed")

    assert state_of(store, "a") == "completed"
    assert [is_alive(file) for file in files] == [False, False]


def test_a_stray_of_one_job_goes_and_the_daemon_of_another_stays(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """R1: a job's end is the end of its own processes alone."""
    daemon, stray, unmarked = (tmp_path / name for name in ("daemon", "stray", "unmarked"))
    go = tmp_path / "go"
    add(store, f"{_DOUBLE_FORK.format(daemon)}; {until(go)}", id="long")
    supervisor = supervisors.start(concurrency=2)
    wait_until(lambda: daemon.exists() and daemon.read_text())

    starts = f"{_DOUBLE_FORK.format(stray)}; {_UNMARKED.format(unmarked)}"
    add(store, f"{starts}; {_AWAIT.format(stray)}; {_AWAIT.format(unmarked)}", id="short")
    supervisor.wait_for("job-completed")

    assert [is_alive(file) for file in (daemon, stray)] == [True, False]
    assert state_of(store, "long") == "processing"

    go.touch()
    supervisor.wait_for("job-completed", 2)

    assert [is_alive(file) for file in (daemon, unmarked)] == [False, False]


def test_a_job_that_outruns_its_timeout_is_ended_with_all_it_started(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """R1: no survivor of a timeout."""
    files = [tmp_path / name for name in ("group", "forked", "unmarked")]
    starts = [
        f"(setsid sleep 300 & echo $! > {files[0]})",
        _DOUBLE_FORK.format(files[1]),
        _UNMARKED.format(files[2]),
    ]
    add(store, "; ".join([*starts, "echo at 7 %", "sleep 300"]), id="a", timeout=2, max_retries=0)

    supervisors.run_drained()

    [attempt] = attempts_of(store, "a")
    assert (state_of(store, "a"), attempt.outcome, attempt.signal) == ("dead", "timed out", 15)
    assert attempt.error == "timed out after 2s: at 7 %"
    assert [is_alive(file) for file in files] == [False] * 3


def test_a_job_that_ignores_term_is_killed_after_the_grace(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """R4: deaf to TERM or stopped, it is ended; who tidies up within the grace may."""
    add(
        store,
        f"trap 'echo heard > {tmp_path}/term' TERM; while :; do sleep 300; done",
        id="deaf",
        timeout=1,
        max_retries=0,
    )
    add(
        store,
        "trap 'echo saved; exit 0' TERM; sleep 300 & wait",
        id="polite",
        timeout=1,
        max_retries=0,
    )
    add(store, "kill -STOP $$; echo never", id="stopped", timeout=1, max_retries=0)

    supervisor = supervisors.start(concurrency=3)
    supervisor.wait_for("job-timed-out", 3)

    [deaf], [polite], [stopped] = (attempts_of(store, i) for i in ("deaf", "polite", "stopped"))
    assert (tmp_path / "term").read_text() == "heard\n"
    assert (deaf.outcome, deaf.signal) == ("timed out", 9)
    assert deaf.error is not None
    assert deaf.error.startswith("timed out after 1s")  # the shell may say what became of its sleep
    assert (polite.outcome, polite.exit_code) == ("timed out", 0)
    assert polite.error == "timed out after 1s: saved"
    assert state_of(store, "polite") == "dead"
    assert (stopped.outcome, stopped.signal) == ("timed out", 15)


def test_a_job_within_its_timeout_is_left_alone(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    add(store, "sleep 0.1", id="a", timeout="1h")

    supervisors.run_drained()

    assert state_of(store, "a") == "completed"
