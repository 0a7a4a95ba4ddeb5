"""Processes of Linux: subreapers, marks in environments, and how to end all that a job left.

A process that leaves its group (``setsid``, double fork) keeps the mark in its environment, and one
that clears its environment too still becomes a child of the nearest subreaper when its parent dies:
the worker, or the supervisor when the worker is gone. So whoever reaps a tree has all of it among
its own children, sooner or later.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import psutil

from queuectl.db.presence import boot_id as boot_id
from queuectl.errors import QueuectlError

#: The variables that a command's environment carries.
MARK_JOB = "QUEUECTL_JOB_ID"
MARK_ATTEMPT = "QUEUECTL_ATTEMPT"
MARK_CLAIM = "QUEUECTL_CLAIM"
MARK_WORKER = "QUEUECTL_WORKER_ID"
#: What a job of a schedule is told besides: the instant of its tick.
SCHEDULED_FOR = "QUEUECTL_SCHEDULED_FOR"
MARKS = (MARK_JOB, MARK_ATTEMPT, MARK_CLAIM, MARK_WORKER)

#: How long to wait for killed processes to be gone, in seconds.
BURIAL_SECONDS = 5.0
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Make orphans among this process's descendants its own children (prctl(2)).

    Raises QueuectlError where the kernel cannot.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl") or libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise QueuectlError(
            "this system cannot adopt orphaned processes, and workers need that",
            hint="run workers on Linux 5.3 or newer",
        )


def children() -> list[int]:
    """Return the direct children of this process, zombies included (4 microseconds).

    Asked at every job's end, so the kernel's list is opened once and stays open.
    """
    pid = os.getpid()
    try:
        file = _open_listing(pid)
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [child.pid for child in psutil.Process().children()]
    listed = b""
    while block := os.pread(file, 65536, len(listed)):
        listed += block
    return [int(child) for child in listed.split()]


@lru_cache(maxsize=1)  # a fork has another number
def _open_listing(pid: int) -> int:
    return os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)


def read_mark(pid: int) -> tuple[str, str] | None:
    """Return the (worker id, claim) that a process bears; None if it bears none or is gone."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    if MARK_WORKER.encode() not in environment:  # some hold thousands of variables
        return None
    entries = environment.split(b"\0")
    found = dict(entry.split(b"=", 1) for entry in entries if entry.startswith(b"QUEUECTL_"))
    worker, claim = found.get(MARK_WORKER.encode()), found.get(MARK_CLAIM.encode())
    return None if worker is None or claim is None else (worker.decode(), claim.decode())


def is_alive(pid: int) -> bool:
    """Whether a process's main thread lives.

    One that was killed may not be waited for while another of its threads is still ending, but what
    it left has been handed on by then.
    """
    try:
        return bool(psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False


def is_running(pid: int) -> bool:
    """Whether a child runs; a zombie does not, and can be reaped."""
    result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return result is None


def signal_group(leader: int, number: int) -> None:
    """Send a signal to a process group whose leader has not been reaped yet."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def signal_claim(leader: int, worker_id: str, mark: str, number: int) -> None:
    """Send a signal to a command's process group, and to whatever else bears its claim's mark."""
    signal_group(leader, number)
    for process in psutil.process_iter():
        if read_mark(process.pid) == (worker_id, mark):
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(process.pid) != leader:
                    os.kill(process.pid, number)


def end_children(spare: Callable[[int], bool]) -> bool:
    """Kill and reap all own children but the spared ones, and what turns up behind them.

    Returns False if some were still there after ``BURIAL_SECONDS``.
    """
    deadline = time.monotonic() + BURIAL_SECONDS
    pause = 0.0005
    while doomed := [pid for pid in children() if not spare(pid)]:
        reaped = [pid for pid in doomed if _reap(pid)]
        for pid in set(doomed).difference(reaped):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not reaped:
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 0.02)
    return True


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def reap_zombies(spare: Callable[[int], bool]) -> None:
    """Reap own children that have ended, but for those that somebody waits for."""
    for pid in children():
        if not spare(pid):
            _reap(pid)


def end_marked(worker_id: str) -> bool:
    """Kill every process on this machine that bears a worker's mark, with all its descendants.

    For a rescuer, which is nobody's parent. Returns False if some could not be ended.
    """
    deadline = time.monotonic() + BURIAL_SECONDS
    dying: list[psutil.Process] = []
    while doomed := _marked_trees(worker_id) + dying:
        for process in doomed:
            with suppress(psutil.Error):
                process.kill()  # psutil compares the start time first: a reused pid is spared
        # An unmarked one is found through its parent, who may be gone sooner: it is kept in mind.
        dying = [
            process for process in psutil.wait_procs(doomed, timeout=0.2)[1] if _lives(process)
        ]
        if time.monotonic() > deadline:
            return False
    return True


def find_marked() -> dict[str, list[int]]:
    """Return the processes on this machine that bear a worker's mark, by the worker's id."""
    found: dict[str, list[int]] = {}
    for process in psutil.process_iter():
        mark = read_mark(process.pid)
        with suppress(psutil.Error):
            if mark is not None and process.status() != psutil.STATUS_ZOMBIE:
                found.setdefault(mark[0], []).append(process.pid)
    return found


def _marked_trees(worker_id: str) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        mark = read_mark(process.pid)
        if mark is None or mark[0] != worker_id:
            continue
        with suppress(psutil.Error):
            if _lives(process):
                found[process.pid] = process
                found.update((child.pid, child) for child in process.children(recursive=True))
    return list(found.values())


def _lives(process: psutil.Process) -> bool:
    """Whether a process can still do something; a zombie only waits for its parent."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
