"""Real system calls that fail, or kill, one after the other: strace injects them (C1, S4)."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from queuectl.db.engine import Store
from queuectl.service import jobs
from tests.cli.conftest import PROGRAM, Program
from tests.injection import failing
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("strace")

_SYNCS = "fsync,fdatasync"
_STRACE = ["strace", "-qq", "-f", "-y"]
#: Stops the program at the calls that are asked for alone, which saves a third of a strike's time.
#: Never beside an injected signal that kills.
_SPARING = "--seccomp-bpf"
#: More of these calls than one ``enqueue`` makes.
_MOST = 60


@dataclass(frozen=True, slots=True)
class End:
    """How an ``enqueue`` under a fault ended, and its writes and syncs of the store's files."""

    code: int
    told: str
    trace: list[str]

    @property
    def struck(self) -> bool:
        return "INJECTED" in "".join(self.trace) or self.code == -signal.SIGKILL

    @property
    def is_unsynced(self) -> bool:
        """Whether the sync that failed was that of something new in the log: of a commit.

        When the log is copied into the store afterwards it is synced once more, with nothing new.
        """
        new = False
        for line in self.trace:
            if "-wal>" in line:
                if "INJECTED" in line:
                    return new
                new = "pwrite64(" in line
        return False


def strike(queuectl: Program, job_id: str, calls: str, fault: str) -> End:
    """Run ``enqueue`` under a fault."""
    trace = queuectl.folder / "trace"
    store = queuectl.location.path
    files = ["-P", str(store), "-P", f"{store}-wal", "-P", f"{store}-journal"]
    inject = ["-e", f"trace=pwrite64,{_SYNCS}", "-e", f"inject={calls}:{fault}"]
    command = [PROGRAM, "enqueue", "--id", job_id, "true"]
    sparing = [_SPARING] if fault.startswith("error=") else []
    done = subprocess.run(
        [*_STRACE, *sparing, "-o", trace, *files, *inject, *command],
        capture_output=True,
        text=True,
        env=queuectl.environment,
        timeout=60,
        check=False,
    )
    return End(done.returncode, done.stderr, trace.read_text().splitlines())


def sweep(queuectl: Program, store: Store, calls: str, fault: str) -> Iterator[End]:
    """Strike each of the calls in turn, until one ``enqueue`` ends untouched.

    Yields how they ended, after looking whether what was told of the job is true.
    """
    for number in range(1, _MOST):
        job_id = f"job-{number}"
        assert not is_there(store, job_id)
        end = strike(queuectl, job_id, calls, f"{fault}:when={number}")
        if end.code == 0:
            assert is_there(store, job_id)
        if not end.struck:
            assert (end.code, number > 1) == (0, True)
            return
        yield end
        queuectl("enqueue", "--id", job_id, "true")
        assert is_there(store, job_id)
    raise AssertionError(f"no end of {calls} after {_MOST}")


def is_there(store: Store, job_id: str) -> bool:
    """Whether the job is there, once; nobody has the store open afterwards.

    So each client is the first to open it and the last to close it, and makes the same calls.
    """
    found = [job.id for job in jobs.list_jobs(store) if job.id == job_id]
    store.close()
    assert len(found) <= 1
    return found == [job_id]


def test_a_client_killed_at_any_write_leaves_the_store_whole(
    queuectl: Program, store: Store
) -> None:
    """C1: the job is absent, or there once; the same call then succeeds."""
    ends = list(sweep(queuectl, store, "pwrite64", "signal=KILL"))

    assert {end.code for end in ends} == {-signal.SIGKILL}
    assert len(ends) >= 3
    queuectl("audit")


@pytest.mark.parametrize("calls", ["pwrite64", _SYNCS])
def test_a_client_whose_write_or_sync_fails_says_so_or_has_stored_the_job(
    queuectl: Program, store: Store, calls: str
) -> None:
    """S4: a failed sync is never taken for a success; nothing acknowledged is lost."""
    ends = list(sweep(queuectl, store, calls, "error=EIO"))

    failed = [end.told for end in ends if end.code != 0]
    assert {end.code for end in ends} <= {0, 5}
    assert failed
    assert all(told.startswith("error: the disk failed to read or write") for told in failed)
    assert all("hint: " in told for told in failed)
    if calls == _SYNCS:
        # The log's own head, and the commit.
        assert [end.code for end in ends if end.is_unsynced] == [5, 5]
    queuectl("audit")


@pytest.mark.parametrize("calls", ["pwrite64", _SYNCS])
def test_a_worker_whose_writes_or_syncs_fail_claims_nothing_and_keeps_its_result(
    store: Store, supervisors: Supervisors, tmp_path: Path, calls: str
) -> None:
    """S4: the worker says so; when the disk is well again it settles what it kept."""
    go, ended = tmp_path / "go", tmp_path / "ended"
    add(store, f"{until(go)}; echo done; touch {ended}", id="a")
    supervisor = supervisors.start()
    supervisor.wait_for("job-started")
    add(store, "true", id="b")

    with failing(supervisor.worker_pids()[0], calls, "EIO"):
        go.touch()
        wait_until(ended.exists)
        [away, *_] = supervisor.wait_for("store-away")
        assert "the disk failed" in away["message"]
        assert (state_of(store, "a"), state_of(store, "b")) == ("processing", "pending")
        assert len(supervisor.events("job-started")) == 1

    wait_until(lambda: state_of(store, "a") == state_of(store, "b") == "completed")
    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["completed"]
    assert attempts_of(store, "a")[0].output_tail == b"done\n"
