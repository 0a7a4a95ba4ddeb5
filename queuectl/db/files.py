"""Private files and folders: nobody but their owner can read them, whatever the umask."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from queuectl.errors import StoreError
from queuectl.settings import StoreLocation

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def open_private(path: Path, flags: int) -> int:
    """Open a file of mode 0600, whatever the umask; return its descriptor, closed at an exec.

    A link in its place is not followed. Raises OSError.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
    status = os.fstat(descriptor)
    if stat.S_IMODE(status.st_mode) != PRIVATE_FILE and status.st_uid == os.geteuid():
        os.fchmod(descriptor, PRIVATE_FILE)
    return descriptor


def create_private_file(path: Path) -> None:
    """Create an empty file of mode 0600, whatever the umask, unless it is there."""
    os.close(open_private(path, os.O_RDWR | os.O_CREAT))


def create_private_folder(path: Path) -> None:
    """Create a folder of mode 0700, or refuse one that a stranger could write to.

    Raises StoreError.
    """
    with suppress(FileExistsError):
        path.mkdir(PRIVATE_FOLDER)
        path.chmod(PRIVATE_FOLDER)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise StoreError(
            f"{path} is not a folder of yours, and queuectl keeps private files there",
            hint="move it away, or name another store with --db PATH",
        )


def prepare_side_files(location: StoreLocation) -> None:
    """Create the folders that stand beside a store on this machine; raises StoreError."""
    try:
        if not location.folder.is_dir():
            missing = [folder for folder in location.folder.parents if not folder.exists()]
            for folder in [*reversed(missing), location.folder]:
                create_private_folder(folder)
        create_private_folder(location.logs)
        create_private_folder(location.workers)
    except OSError as error:
        raise StoreError(
            f"{location} cannot be created: {error.strerror}: {error.filename}",
            hint="check the owner, mode and free space of that folder, or name another store"
            " with --db PATH",
        ) from error


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
