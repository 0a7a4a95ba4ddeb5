"""Private files and folders: nobody but their owner can read them, whatever the umask."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from queuectl.errors import StoreError
from queuectl.settings import StoreLocation, forget_siblings

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
#: What becomes the name of a folder.
_ID = re.compile(r"[0-9a-z]{8,32}")


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
            _create_folders(location.folder)
        create_private_folder(location.logs)
        create_private_folder(location.workers)
    except OSError as error:
        raise _cannot_create(location, error) from error


def adopt_folder(location: StoreLocation, store_id: str) -> None:
    """Make the folder that a server's URL names a link to the one of its database.

    Several URLs may lead to one database, and their workers must find each other's locks; and a
    URL may come to lead to another database, whose jobs have the same numbers. Costs two system
    calls once it is done. Raises StoreError.
    """
    if not _ID.fullmatch(store_id):
        raise StoreError(f"{location} has an id that is none: {store_id[:40]!r}")
    link = location.folder
    folder = link.with_name(f"postgresql-{store_id}")
    try:
        with suppress(OSError):  # it is no link yet
            if link.readlink() == Path(folder.name) and folder.is_dir():
                return
        _create_folders(link.parent)
        _move_into(link, folder)
        create_private_folder(folder)
        if link.is_symlink() or not link.exists():
            _put_link(link, folder.name)
        forget_siblings()
        prepare_side_files(location)
    except OSError as error:
        raise _cannot_create(location, error) from error


def _move_into(link: Path, folder: Path) -> None:
    """Take over what stands in the link's place: earlier versions had a folder for each URL.

    Where both have something, the second URL keeps its own: its locks and outputs stay there.
    """
    if link.is_symlink() or not link.is_dir():
        return
    with suppress(OSError):
        if not folder.exists():
            link.rename(folder)
            return
        for inner in link.iterdir():
            inner.rmdir()
        link.rmdir()


def _put_link(link: Path, target: str) -> None:
    """Let the link point there, at once and whatever it was."""
    draft = link.with_name(f"{link.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.rename(link)


def _create_folders(folder: Path) -> None:
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        create_private_folder(parent)


def _cannot_create(location: StoreLocation, error: OSError) -> StoreError:
    return StoreError(
        f"{location} cannot be created: {error.strerror}: {error.filename}",
        hint="check the owner, mode and free space of that folder, or name another store"
        " with --db PATH",
    )


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
