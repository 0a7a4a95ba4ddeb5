"""Who lives: a worker holds the ``flock`` on its file beside the store for as long as it runs.

The kernel lets go of the lock the moment the process dies, whatever any clock says; a stopped
process keeps it; and it holds across containers that share the store's folder and have process
numbers of their own. The file is opened close-on-exec, so no command can hold it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from queuectl.db.files import open_private
from queuectl.settings import ServerLocation, StoreLocation

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_IDLE = "idle"
#: What stands before a worker's name while its file is being made.
_DRAFT = "."


class Presence:
    """The lock on one worker's file, held until ``release`` or the end of this process."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        #: Where the next mark is written; None: nothing is known until all are noted anew.
        self._end: int | None = None

    def note(self, marks: Iterable[str]) -> None:
        """Write down which claims have been started; it survives this process."""
        self._end = self._write("".join(f"{mark} " for mark in marks), 0)

    def note_more(self, mark: str) -> None:
        """Add a claim that is about to be started (2 microseconds)."""
        if self._end is not None:
            self._end = self._write(f"{mark} ", self._end)

    def _write(self, marks: str, start: int) -> int | None:
        """Write over the newline that is the end, and a new one; return where that stands."""
        line = marks.encode() + b"\n"
        with suppress(OSError):
            if os.pwrite(self._descriptor, line, start) == len(line):
                return start + len(line) - 1
        # The disk is full. That nothing is known is better than something wrong.
        os.ftruncate(self._descriptor, 0)
        return None

    def noted(self) -> frozenset[str] | None:
        """Return the claims that a dead worker had started and not settled; None if not known."""
        text, end, _ = os.pread(self._descriptor, 1 << 20, 0).partition(b"\n")
        return frozenset(text.decode().split()) if end else None

    def release(self, *, remove: bool) -> None:
        """Let go of the lock; with ``remove``, the worker is over and its file goes too."""
        if remove:
            with suppress(FileNotFoundError):
                self._path.unlink()
        os.close(self._descriptor)


def boot_id() -> str:
    """Return the kernel's random name of this boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil  # where there is no such file

        return str(psutil.boot_time())


def neighbourhood(location: StoreLocation, boot: str | None = None) -> str:
    """Return where a worker's lock can be tried, as its row says it.

    For a store on a server that is this very folder, of this boot of this machine: another user or
    container of the same machine has other files, and a lock that is missing there tells nothing.
    """
    boot = boot or boot_id()
    if not isinstance(location, ServerLocation):
        return boot
    status = location.workers.stat()
    return f"{boot}/{status.st_dev:x}.{status.st_ino:x}"


class Neighbours:
    """Tells which workers live: those of this machine by their locks, others by their leases."""

    def __init__(self, location: StoreLocation, now: datetime) -> None:
        self._location = location
        self._now = now
        shared = isinstance(location, ServerLocation)
        self._here = neighbourhood(location) if shared else None

    def is_near(self, place: str) -> bool:
        """Whether the lock of a worker of that place can be tried from here."""
        return self._here is None or place == self._here

    def lives(self, worker_id: str, place: str, lease_expires_at: datetime) -> bool:
        """Whether a worker that its row calls alive is that."""
        if self.is_near(place):
            return is_held(self._location, worker_id)
        return lease_expires_at > self._now


def find_loose(location: StoreLocation) -> Iterator[str]:
    """Yield the workers whose file is there and held by nobody: they have died."""
    with suppress(FileNotFoundError):  # no worker has ever been here
        for entry in os.scandir(location.workers):
            if entry.name == _IDLE or entry.name.startswith(_DRAFT):
                continue
            if not is_held(location, entry.name):
                yield entry.name


def has_loose(location: StoreLocation) -> bool:
    """Whether a worker has died that nobody has taken its jobs from."""
    return any(True for _ in find_loose(location))


def take(location: StoreLocation, worker_id: str, *, create: bool) -> Presence | None:
    """Take the lock on a worker's file; None if its worker holds it.

    A worker creates its own; a rescuer takes that of a dead one, and a missing file, which nobody
    can hold any more, is made anew so that only one of two rescuers gets it.
    """
    path = location.workers / worker_id
    if create:
        return _create(path)
    while True:
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        # Another rescuer may have removed the file between the open and the lock.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return Presence(descriptor, path)
        os.close(descriptor)


def _create(path: Path) -> Presence:
    """Make a worker's file so that nobody ever sees it without its lock.

    Raises FileExistsError where it is there.
    """
    draft = path.with_name(f"{_DRAFT}{path.name}")
    descriptor = open_private(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.hardlink_to(draft)
    except OSError:
        os.close(descriptor)
        raise
    finally:
        draft.unlink()
    return Presence(descriptor, path)


def is_held(location: StoreLocation, worker_id: str) -> bool:
    """Whether the worker lives, without disturbing anybody who asks at the same moment."""
    try:
        descriptor = os.open(location.workers / worker_id, _FLAGS)
    except FileNotFoundError:
        return False
    try:
        # A shared lock: two who ask do not take each other for the worker.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class IdleSign:
    """A sign at the door that says "I have nothing to do", on a file that the workers share.

    An idle worker holds a shared lock on it. A worker that has claimed more than it can start looks
    at it, and gives the rest back while somebody idle could take it. Looking costs 2 microseconds.
    """

    def __init__(self, location: StoreLocation) -> None:
        self._descriptor = open_private(location.workers / _IDLE, os.O_RDWR | os.O_CREAT)
        self._hung_out = False

    def hang_out(self, idle: bool) -> None:
        """Say whether this worker is idle."""
        if idle != self._hung_out:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH if idle else fcntl.LOCK_UN)
            self._hung_out = idle

    def is_anybody_idle(self) -> bool:
        """Whether another worker is idle; two who look at once may take each other for it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Take the sign in."""
        os.close(self._descriptor)
