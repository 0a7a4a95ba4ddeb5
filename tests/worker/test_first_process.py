"""A supervisor as process 1 of a container: signals work, and nothing stays a zombie (R6)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
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
    return [pid for pid, status in family(process) if status == psutil.STATUS_ZOMBIE]


def living(process: psutil.Process, number: Path) -> list[int]:
    """Return which of its descendants has the number in the container that stands in the file."""
    return [
        pid
        for pid, status in family(process)
        if status != psutil.STATUS_ZOMBIE and inner_number(pid) == number.read_text().strip()
    ]


def family(process: psutil.Process) -> Iterator[tuple[int, str]]:
    """Yield its descendants and their states."""
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            yield child.pid, child.status()


def inner_number(pid: int) -> str | None:
    """Return the number of a process in the innermost of its namespaces; None if it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        [numbers] = [line for line in lines if line.startswith("NSpid:")]
        return numbers.split()[-1]
    return None


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
    stranger, stray = tmp_path / "stranger", tmp_path / "stray"
    note = "sh -c 'echo $$ > {0}.part; mv {0}.part {0}; exec sleep 300' &"
    orphans = f"(sleep 0.01 &); ({note.format(stranger)})"
    subprocess.run([*inside, orphans], check=True)
    wait_until(stranger.exists)
    [spared] = living(first, stranger)
    wait_until(lambda: spared in [child.pid for child in first.children()])

    leaves = f"(setsid {note.format(stray)}); (sleep 0.01 &); {until(stray)}"
    add(store, leaves, id="a", cwd=str(tmp_path))
    wait_until(lambda: state_of(store, "a") == "completed")
    assert living(first, stray) == []
    add(store, "kill -KILL $PPID; sleep 300", id="crasher", max_retries=0)
    supervisor.wait_for("worker-died")
    wait_until(lambda: attempts_of(store, "crasher") != [])

    wait_until(lambda: zombies(first) == [])
    assert living(first, stranger) == [spared]
    os.kill(spared, signal.SIGKILL)
    wait_until(lambda: zombies(first) == living(first, stranger) == [])
