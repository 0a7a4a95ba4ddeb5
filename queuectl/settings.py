"""Where the store is: the flag, else the environment, else ``~/.queuectl/queue.db``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from queuectl.errors import InvalidInput

URL_VARIABLE = "QUEUECTL_DATABASE_URL"
PATH_VARIABLE = "QUEUECTL_DB_PATH"
DEFAULT_PATH = "~/.queuectl/queue.db"


@lru_cache(maxsize=256)  # asked for at every turn and every output file; a lookup takes 40 us
def _sibling(path: Path, suffix: str) -> Path:
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + suffix)


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """An SQLite file and its siblings, which bear its name: two stores may share a folder."""

    path: Path
    #: Who named it: ``--db``, a variable's name, or ``default``.
    source: str

    @property
    def real_path(self) -> Path:
        """The file itself: whoever comes through a link must find the same locks beside it."""
        return Path(os.path.realpath(self.path))

    def _sibling(self, suffix: str) -> Path:
        return _sibling(self.path, suffix)

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def lock(self) -> Path:
        """The file whose ``flock`` queues the writers."""
        return self._sibling(".lock")

    @property
    def bell(self) -> Path:
        """The file that is touched after each commit that changed something."""
        return self._sibling(".bell")

    @property
    def logs(self) -> Path:
        """The folder of the jobs' output files."""
        return self._sibling(".logs")

    @property
    def workers(self) -> Path:
        """The folder of the workers' lock files."""
        return self._sibling(".workers")

    @property
    def worker_log(self) -> Path:
        """Where a detached ``worker start`` writes its events."""
        return self._sibling(".worker.log")

    def __str__(self) -> str:
        return str(self.path)


def locate_store(flag: str | None, environ: Mapping[str, str] = os.environ) -> StoreLocation:
    """Return the store that this call is about.

    Raises InvalidInput for a URL of a database that this version cannot use.
    """
    if flag:
        return _parse(flag, "--db")
    if url := environ.get(URL_VARIABLE):
        return _parse(url, URL_VARIABLE)
    if path := environ.get(PATH_VARIABLE):
        return _from_path(path, PATH_VARIABLE)
    return _from_path(DEFAULT_PATH, "default")


def _parse(text: str, source: str) -> StoreLocation:
    if "://" not in text:
        return _from_path(text, source)
    scheme = urlsplit(text).scheme
    if scheme != "sqlite":
        raise InvalidInput(
            f"{source} names a {scheme!r} database, which this version cannot use",
            hint="give the path of an SQLite file, or sqlite:////absolute/path.db",
        )
    path = unquote(text.split("://", 1)[1].split("?", 1)[0].removeprefix("/"))
    if not path:
        raise InvalidInput(
            f"{source} names no file: {text!r}", hint="write sqlite:////absolute/path.db"
        )
    return _from_path(path, source)


def _from_path(text: str, source: str) -> StoreLocation:
    if "\0" in text:
        raise InvalidInput(f"{source} holds a NUL character, which no path can")
    try:
        expanded = Path(text).expanduser()
    except RuntimeError as error:
        raise InvalidInput(
            f"{source}: no home folder is known for {text!r}",
            hint="set HOME, or name the store with --db PATH",
        ) from error
    try:
        # abspath, not resolve: a symbolic link that the user put there stays the store's name.
        absolute = os.path.abspath(expanded)  # noqa: PTH100  # see above
    except OSError as error:
        raise InvalidInput(
            f"{source} is a relative path, and the current folder is gone: {text!r}",
            hint="go to one that exists, or give the whole path",
        ) from error
    return StoreLocation(Path(absolute), source)
