"""Real system calls that fail, or kill, one after the other: strace injects them (C1, S4)."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl.db.engine import Store
from queuectl.service import jobs
from tests.cli.conftest import PROGRAM, Program
from tests.injection import failing
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until

_SYNCS = "fsync,fdatasync"
#: More of these calls than one ``enqueue`` makes.
_MOST = 60


def strike(queuectl: Program, job_id: str, calls: str, fault: str) -> tuple[int, str, bool]:
    """Run ``enqueue`` under a fault; return its exit code, what it said, and whether it struck."""
    trace = queuectl.folder / "trace"
    store = queuectl.location.path
    files = ["-P", str(store), "-P", f"{store}-wal", "-P", f"{store}-journal"]
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"]
    done = subprocess.run(
        ["strace", "-qq", "-o", trace, *files, *inject, PROGRAM, "enqueue", "--id", job_id, "true"],
        capture_output=True,
        text=True,
        env=queuectl.environment,
        timeout=60,
        check=False,
    )
    struck = "INJECTED" in trace.read_text() or done.returncode == -signal.SIGKILL
    return done.returncode, done.stderr, struck


def sweep(queuectl: Program, store: Store, calls: str, fault: str) -> Iterator[tuple[int, str]]:
    """Strike each of the calls in turn, until one ``enqueue`` ends untouched.

    Yields exit codes and words, after looking whether what was told of the job is true.
    """
    for number in range(1, _MOST):
        job_id = f"job-{number}"
        code, told, struck = strike(queuectl, job_id, calls, f"{fault}:when={number}")
        there = [job.id for job in jobs.list_jobs(store) if job.id == job_id]
        if code == 0:
            assert there == [job_id]
        if not struck:
            assert (code, number > 1) == (0, True)
            return
        yield code, told
        queuectl("enqueue", "--id", job_id, "true")
        assert [job.id for job in jobs.list_jobs(store) if job.id == job_id] == [job_id]
    raise AssertionError(f"no end of {calls} after {_MOST}")


def test_a_client_killed_at_any_write_leaves_the_store_whole(
    queuectl: Program, store: Store
) -> None:
    """C1: the job is absent, or there once; the same call then succeeds."""
    ends = list(sweep(queuectl, store, "pwrite64", "signal=KILL"))

    assert {code for code, _ in ends} == {-signal.SIGKILL}
    assert len(ends) >= 3
    queuectl("audit")


@pytest.mark.parametrize("calls", ["pwrite64", _SYNCS])
def test_a_client_whose_write_or_sync_fails_says_so_or_has_stored_the_job(
    queuectl: Program, store: Store, calls: str
) -> None:
    """S4: a failed sync is never taken for a success; nothing acknowledged is lost."""
    ends = list(sweep(queuectl, store, calls, "error=EIO"))

    failed = [told for code, told in ends if code != 0]
    assert {code for code, _ in ends} <= {0, 5}
    assert failed
    assert all(told.startswith("error: the disk failed to read or write") for told in failed)
    assert all("hint: " in told for told in failed)
    queuectl("audit")


def test_a_worker_whose_syncs_fail_claims_nothing_and_keeps_its_result(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """S4: the worker says so; when the disk is well again it settles what it kept."""
    go, ended = tmp_path / "go", tmp_path / "ended"
    add(store, f"{until(go)}; echo done; touch {ended}", id="a")
    supervisor = supervisors.start()
    supervisor.wait_for("job-started")
    add(store, "true", id="b")

    with failing(supervisor.worker_pids()[0], _SYNCS, "EIO"):
        go.touch()
        wait_until(ended.exists)
        [away, *_] = supervisor.wait_for("store-away")
        assert "the disk failed" in away["message"]
        assert (state_of(store, "a"), state_of(store, "b")) == ("processing", "pending")
        assert len(supervisor.events("job-started")) == 1

    wait_until(lambda: state_of(store, "a") == state_of(store, "b") == "completed")
    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["completed"]
    assert attempts_of(store, "a")[0].output_tail == b"done\n"
