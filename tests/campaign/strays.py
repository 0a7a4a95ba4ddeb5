"""Find the processes of a campaign: by its variable, by the folder in which they work."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: In the environment of all that a campaign starts; its value is the campaign's folder.
MARK = "CAMPAIGN_FOLDER"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Process:
    """A live process of the campaign; ``born`` tells it from a later one of the same number."""

    pid: int
    born: str
    command: str
    marks: dict[str, str]

    @property
    def attempt(self) -> tuple[int, int] | None:
        """The (sequence number, run) that it bears, if it is part of a job."""
        claim, run = self.marks.get("QUEUECTL_CLAIM"), self.marks.get("QUEUECTL_ATTEMPT")
        return (int(claim.split("-")[0]), int(run)) if claim and run else None

    def is_alive(self) -> bool:
        return _birth(self.pid) == self.born


def die_with_parent(number: int) -> None:
    """Let the kernel send this process a signal when its parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def find(folder: Path) -> list[Process]:
    """Return every live process of the campaign of this folder but the caller itself."""
    own = os.getpid()
    return [
        process
        for pid in _all_pids()
        if pid != own and (process := _look_at(pid, folder)) is not None
    ]


def end(folder: Path) -> None:
    """Kill all of them, and those that they start meanwhile."""
    deadline = time.monotonic() + 30
    while (left := find(folder)) and time.monotonic() < deadline:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        reap()
        time.sleep(0.01)


def reap() -> list[tuple[int, int]]:
    """Take in the children that have ended: (process id, exit code or minus the signal)."""
    ended = []
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append((found[0], os.waitstatus_to_exitcode(found[1])))
    return ended


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    with suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split()]
    return []


def command_line(pid: int) -> bytes:
    """Return the arguments of a process, as the kernel keeps them; empty for one that is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  # faster


def _look_at(pid: int, folder: Path) -> Process | None:
    born = _birth(pid)
    if born is None:
        return None
    marks = _marks(pid)
    if marks.get(MARK) != str(folder) and not _works_in(pid, folder):
        return None
    command = command_line(pid).replace(b"\0", b" ").decode(errors="replace")
    return Process(pid, born, command[:200].strip(), marks)


def _birth(pid: int) -> str | None:
    """Return when a process was born, in the kernel's ticks; None if it is dead or a zombie."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    return None


def _marks(pid: int) -> dict[str, str]:
    with suppress(OSError):
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ours = [e.decode() for e in entries if e.startswith((b"CAMPAIGN_", b"QUEUECTL_"))]
        return dict(entry.split("=", 1) for entry in ours)
    return {}


def _works_in(pid: int, folder: Path) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    return False
