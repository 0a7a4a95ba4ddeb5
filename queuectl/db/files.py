"""Private files and folders: nobody but their owner can read them, whatever the umask."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from queuectl.errors import Conflict, StoreError, StoreUnavailable
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
    URL may come to lead to another database, whose jobs have the same numbers. Costs ten system
    calls once it is done. Raises StoreError.
    """
    if not _ID.fullmatch(store_id):
        raise StoreError(f"{location} has an id that is none: {store_id[:40]!r}")
    link = location.folder
    folder = link.with_name(f"postgresql-{store_id}")
    try:
        with suppress(OSError):  # it is no link yet
            if link.readlink() == Path(folder.name) and folder.is_dir():
                # Whoever put the link there may not have come further, or been killed.
                prepare_side_files(location)
                return
        _create_folders(link.parent)
        with _only_one(link.parent):
            _move_into(link, folder)
            create_private_folder(folder)
            if link.is_symlink() or not link.exists():
                _put_link(link, folder.name)
        forget_siblings()
        prepare_side_files(location)
    except OSError as error:
        raise _cannot_create(location, error) from error


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Let others wait who change the links there: a first script may start many at once."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
    # Of nobody else: whoever was killed here may have left one, and had the same process number.
    draft = link.with_name(f"{link.name}.{os.urandom(4).hex()}.new")
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


@contextmanager
def whole_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield the name under which to write a private file that gets its own when it is whole.

    ``<path>.part`` is there, empty and 0600, when the block begins; at its end it is written to the
    disk and renamed, and it is removed if the block raises. What a killed one left is written over.
    Raises Conflict if there is such a file, unless ``force``, or if another is writing it; and
    StoreUnavailable when the disk does not take it.
    """
    part = path.with_name(path.name + ".part")
    try:
        _refuse_taken(path, force=force)
        descriptor = _lock_part(path, part)
        try:
            yield part
            os.fsync(descriptor)
            _refuse_taken(path, force=force)
            part.rename(path)
            sync_folder(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be written: {error.strerror or error}",
            hint="check the folder, its mode and its free space, or name another file",
        ) from error


def _refuse_taken(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise Conflict(f"{path} is a folder", hint="name a file in it")
    if not force and (path.exists() or path.is_symlink()):
        raise Conflict(f"{path} is there already", hint="name another file, or add --force")


def _lock_part(path: Path, part: Path) -> int:
    """Make the file that only one at a time writes; return its descriptor, which is the lock."""
    while True:
        descriptor = open_private(part, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another may have removed it, or given it its name, between the open and the lock.
            if part.stat().st_ino == os.fstat(descriptor).st_ino:
                os.ftruncate(descriptor, 0)
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise Conflict(
                f"{path} is being written by another queuectl", hint="let that one end"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
