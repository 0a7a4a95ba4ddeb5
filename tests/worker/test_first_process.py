"""A supervisor as process 1 of a container: signals work, and nothing stays a zombie (R6)."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from queuectl.db.engine import Store
from tests.faults.test_identity import CONTAINER
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisor, Supervisors
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="row R6 was not run: only root can make process 1 of a container"
)


def process_one(supervisor: Supervisor) -> psutil.Process:
    """Return the supervisor itself, which ``unshare`` has started."""
    [first] = psutil.Process(supervisor.pid).children()
    return first


def zombies(process: psutil.Process) -> list[int]:
    return [
        child.pid
        for child in process.children(recursive=True)
        if child.status() == psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it(
    store: Store, supervisors: Supervisors, tmp_path: Path, number: int
) -> None:
    """R6: process 1 has no default action for a signal; it must handle each itself."""
    go = tmp_path / "go"
    add(store, f"touch {tmp_path}/started; {until(go)}", id="running")
    supervisor = supervisors.start(under=CONTAINER)
    wait_until((tmp_path / "started").exists)

    process_one(supervisor).send_signal(number)
    supervisor.wait_for("stopping", 2)
    go.touch()

    assert supervisor.wait() == 0
    assert state_of(store, "running") == "completed"


def test_it_reaps_what_jobs_leave_and_the_orphans_of_strangers(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """R6: a stranger who came in by ``docker exec`` leaves orphans; the living one is spared."""
    supervisor = supervisors.start(under=CONTAINER)
    first = process_one(supervisor)
    inside = ["nsenter", "-t", str(first.pid), "--pid", "--mount", "sh", "-c"]
    pid_file = tmp_path / "pid"
    orphans = f"(sleep 0.01 &); (sh -c 'echo $(readlink /proc/self) > {pid_file}; sleep 300' &)"
    subprocess.run([*inside, orphans], check=True)
    wait_until(lambda: pid_file.exists() and len(first.children()) >= 2)
    living = [c for c in first.children() if "sleep 300" in " ".join(c.cmdline())]
    assert len(living) == 1

    add(store, "(setsid sleep 300 &); (sleep 0.01 &); true", id="a")
    wait_until(lambda: state_of(store, "a") == "completed")
    add(store, "kill -KILL $PPID; sleep 300", id="crasher", max_retries=0)
    supervisor.wait_for("worker-died")
    wait_until(lambda: attempts_of(store, "crasher") != [])

    wait_until(lambda: zombies(first) == [])
    assert living[0].is_running()
    living[0].kill()
    wait_until(lambda: zombies(first) == [])
