"""Marks and trees: who belongs to a worker, and how all of it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from queuectl.worker import processes
from tests.scripts import run_script
from tests.supervision import end_marked, marked_environment
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    yield
    end_marked(tmp_path)


def start(folder: Path, command: str, **marks: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", command],
        cwd=folder,
        env=marked_environment(folder) | marks,
        start_new_session=True,
    )


def test_a_process_is_known_by_the_mark_in_its_environment(tmp_path: Path) -> None:
    marked = start(tmp_path, "sleep 300", QUEUECTL_WORKER_ID="w1", QUEUECTL_CLAIM="7-2")
    half = start(tmp_path, "sleep 300", QUEUECTL_WORKER_ID="w1")

    wait_until(lambda: processes.read_mark(marked.pid))

    assert processes.read_mark(marked.pid) == ("w1", "7-2")
    assert processes.read_mark(half.pid) is None
    for process in (marked, half):
        process.kill()
        process.wait()


def test_a_process_that_is_gone_bears_no_mark(tmp_path: Path) -> None:
    process = start(tmp_path, "true", QUEUECTL_WORKER_ID="w1", QUEUECTL_CLAIM="7-2")
    process.wait()

    assert processes.read_mark(process.pid) is None


def test_all_that_bears_a_workers_mark_is_ended_with_its_descendants(tmp_path: Path) -> None:
    tree = "env -i setsid sh -c 'echo $$ > unmarked; exec sleep 300' & setsid sleep 300 & wait"
    marked = start(tmp_path, tree, QUEUECTL_WORKER_ID="w1", QUEUECTL_CLAIM="7-2")
    other = start(tmp_path, "sleep 300", QUEUECTL_WORKER_ID="w2", QUEUECTL_CLAIM="8-2")
    unmarked = tmp_path / "unmarked"
    wait_until(lambda: unmarked.exists() and unmarked.read_text())

    assert processes.end_marked("w1")

    assert not is_running(marked.pid)
    assert not is_running(int(unmarked.read_text()))
    marked.wait()
    assert other.poll() is None
    other.kill()
    other.wait()


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_where_nothing_bears_the_mark_nothing_is_ended() -> None:
    assert processes.end_marked("nobody at all")


def test_own_children_are_ended_with_what_turns_up_behind_them(tmp_path: Path) -> None:
    code = """
import subprocess
from queuectl.worker import processes
processes.become_subreaper()
spared = subprocess.Popen(["sleep", "300"])
tree = "(env -i setsid sh -c 'echo $$ > unmarked; exec sleep 300' &); echo ready; sleep 300"
doomed = subprocess.Popen(["sh", "-c", tree], stdout=subprocess.PIPE, start_new_session=True)
doomed.stdout.readline()
while not os.path.exists("unmarked") or not open("unmarked").read():
    time.sleep(0.01)
gone = processes.end_children(lambda pid: pid == spared.pid)
left = os.path.exists("/proc/" + open("unmarked").read().strip())
print(gone, processes.children() == [spared.pid], left)
spared.kill()
"""
    under = ["env", "-C", str(tmp_path)]

    told = run_script(tmp_path, tmp_path / "none", code, under=under)

    assert told.split() == ["True", "True", "False"]


def test_a_signal_to_a_group_that_is_gone_is_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, "true")
    process.wait()

    processes.signal_group(process.pid, signal.SIGTERM)

    assert process.returncode == 0


def test_the_kernels_boot_has_one_name() -> None:
    assert processes.boot_id() == processes.boot_id()
    assert len(processes.boot_id()) == 36


def test_the_marks_are_what_the_documents_say() -> None:
    assert processes.MARKS == (
        "QUEUECTL_JOB_ID",
        "QUEUECTL_ATTEMPT",
        "QUEUECTL_CLAIM",
        "QUEUECTL_WORKER_ID",
    )
    assert os.getpid() not in processes.children()
