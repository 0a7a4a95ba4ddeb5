"""Leftovers: output files of jobs that are gone, found by the numbers in their names.

A job may be deleted on one machine and have left its output on another, or its deleter may have
died before it came to the files. A file is only made for a job that is in the store, its number is
never given again, and the folder is read before the store is asked: so a file whose job the store
does not have then belongs to nothing any more. (An attempt that lost its job may still be writing;
it goes on into a file without a name, and its result is dropped.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from sqlalchemy import select

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.service import logs

#: Names that are looked up at a time; below SQLite's limit of parameters.
_BATCH_FILES = 500


class Sweep:
    """Goes through this machine's folder of outputs, a part at a time, round and round."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: Iterator[os.DirEntry[str]] | None = None

    def step(self, files: int = _BATCH_FILES) -> int | None:
        """Look at the next files; return how many were removed, None at the end of the folder.

        Raises StoreError.
        """
        if self._entries is None:
            self._entries = _entries(self._store)
        names = [entry.name for entry in islice(self._entries, files)]
        if not names:
            self.close()
            return None
        return _remove_left(self._store, names)

    def close(self) -> None:
        """Close the folder; the next step begins anew."""
        self._entries = None


def sweep(store: Store) -> int:
    """Remove every file of a job that is gone from this machine; return how many there were."""
    walk = Sweep(store)
    removed = 0
    while (step := walk.step()) is not None:
        removed += step
    return removed


def _entries(store: Store) -> Iterator[os.DirEntry[str]]:
    store.read(lambda connection: None)  # of a server's store it tells which folder is this one's
    with suppress(FileNotFoundError), os.scandir(store.location.logs) as entries:
        yield from entries


def _remove_left(store: Store, names: list[str]) -> int:
    files = {name: int(match[1]) for name in names if (match := logs.NAME.fullmatch(name))}
    if not files:
        return 0
    query = select(JobRow.seq).where(JobRow.seq.in_(sorted(set(files.values()))))
    there = store.read(lambda connection: set(connection.execute(query).scalars()))
    left = [name for name, seq in files.items() if seq not in there]
    for name in left:
        with suppress(FileNotFoundError):  # another one sweeps as well
            (store.location.logs / name).unlink()
    return len(left)
