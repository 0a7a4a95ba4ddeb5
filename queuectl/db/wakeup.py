"""The bell: sleep until another process has committed something to an SQLite store.

A writer touches ``<store>.bell`` after its COMMIT; sleepers watch that one file with inotify
(0.7 ms from touch to awake). Watching the store's own files would fire before the commit can be
seen. Where there is no inotify, a sleeper polls the bell's timestamp every 20 ms. A bell can be
missed, so every sleeper also looks by itself now and then.
"""

from __future__ import annotations

import select
import time
from contextlib import suppress
from typing import Any, Protocol, Self

from queuectl.settings import StoreLocation

try:
    from inotify_simple import INotify, flags
except ImportError:  # not Linux
    INotify = None

#: How often a sleeper without inotify looks at the bell, in seconds.
POLL_SECONDS = 0.02


class Bell(Protocol):
    """What a sleeper hears others' commits with, whatever kind of store it is."""

    #: Why it hears nothing; whoever sleeps looks by himself more often then.
    deafness: str | None

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    @property
    def fileno(self) -> int | None: ...
    @property
    def must_be_asked(self) -> bool: ...
    def heard(self) -> bool: ...
    def wait(self, seconds: float) -> bool: ...
    def attend(self, connection: Any) -> None: ...


class Doorbell:
    """One sleeper's ear; close it, or use it in a ``with``."""

    deafness: str | None = None

    def __init__(self, location: StoreLocation, *, hushed: bool = True) -> None:
        """``hushed``: it also hears what is to wake no worker; without inotify every ear does."""
        self._path = location.bell
        self._inotify = self._watch(hushed=hushed)
        self._heard = self._stamp()

    def _watch(self, *, hushed: bool) -> INotify | None:
        if INotify is None:
            return None
        with suppress(OSError):  # out of watches, or no bell: polling serves
            inotify = INotify(nonblocking=True)
            try:
                inotify.add_watch(self._path, flags.ATTRIB | (flags.MODIFY if hushed else 0))
            except OSError:
                inotify.close()
                raise
            return inotify
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    @property
    def fileno(self) -> int | None:
        """A descriptor that becomes readable when the bell rings; None where it must be polled."""
        return None if self._inotify is None else self._inotify.fileno()

    @property
    def must_be_asked(self) -> bool:
        """Whether it can have rung without its descriptor saying so."""
        return self._inotify is None

    def attend(self, connection: Any) -> None:
        """Do nothing: this ear needs no connection."""

    def heard(self) -> bool:
        """Whether it rang since the last call. Never blocks."""
        if self._inotify is not None:
            return bool(self._inotify.read(timeout=0))
        stamp = self._stamp()
        rang, self._heard = stamp != self._heard, stamp
        return rang

    def wait(self, seconds: float) -> bool:
        """Sleep until it rings or the time is over; return whether it rang."""
        if self._inotify is not None:
            select.select([self._inotify.fileno()], [], [], seconds)
            return self.heard()
        deadline = time.monotonic() + seconds
        while not (rang := self.heard()) and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))
        return rang

    def _stamp(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0
