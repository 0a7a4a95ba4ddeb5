"""Copy this machine's output files of one store to another; what is there already is left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from queuectl.db.files import PRIVATE_FILE
from queuectl.errors import StoreUnavailable
from queuectl.service import logs
from queuectl.service.copying import Watch, watch_nothing
from queuectl.settings import StoreLocation

WRITING = "copying output"


def count_outputs(location: StoreLocation) -> int:
    """Return how many output files of a store are on this machine."""
    return sum(1 for _ in _outputs(location))


def _outputs(location: StoreLocation) -> Iterator[Path]:
    with suppress(FileNotFoundError), os.scandir(location.logs) as entries:
        for entry in entries:
            if logs.NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def copy_outputs(source: StoreLocation, target: StoreLocation, watch: Watch = watch_nothing) -> int:
    """Copy the files, each under its name when it is whole; return how many there are.

    Raises StoreUnavailable.
    """
    count = 0
    for path in _outputs(source):
        try:
            _copy(path, target.logs / path.name)
        except OSError as error:
            raise StoreUnavailable(
                f"the output {path} cannot be copied: {error.strerror}",
                hint="free some space or check the modes, and run it again: it goes on; or leave"
                " the files where they are with --without-output",
            ) from error
        count += 1
        watch(WRITING, 1)
    return count


def _copy(path: Path, to: Path) -> None:
    descriptor = logs.open_output(path)
    if descriptor is None:
        return  # purged meanwhile
    with os.fdopen(descriptor, "rb") as output:
        there = os.fstat(descriptor)
        with suppress(FileNotFoundError):
            status = to.lstat()
            if (status.st_size, status.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
                return
        part = to.with_name(to.name + ".part")
        part.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(part, flags, PRIVATE_FILE), "wb") as copy:
            shutil.copyfileobj(output, copy)
        os.utime(part, ns=(there.st_atime_ns, there.st_mtime_ns))
        part.rename(to)
