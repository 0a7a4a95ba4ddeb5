"""A worker's part in the schedules: it makes the jobs of ticks when the next one has come.

A turn and a look tell when that is. All workers wake for it, and the quickest makes the jobs. Who
comes too late waits a little before it tries again, and so does one whose clock is ahead of the
store's.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from queuectl.db.engine import Store
from queuectl.errors import StoreError, StoreUnavailable
from queuectl.service import ticks
from queuectl.worker.events import EventLog
from queuectl.worker.reports import boottime

#: The pause after a try that found no tick; doubled by each, up to the longest.
_VAIN_SECONDS = 0.05
_LONGEST_SECONDS = 2.0
#: A clock that goes back by more was set; by less, it is only corrected.
_SET_BACK_SECONDS = 1.0


class Ticker:
    """Knows when the next tick is, and makes its jobs."""

    def __init__(self, store: Store, log: EventLog) -> None:
        self._store, self._log = store, log
        self._next_at: datetime | None = None
        self._pause = _VAIN_SECONDS
        #: By the clock that nobody sets.
        self._not_before = 0.0
        self._may = True
        #: By how much the wall clock is ahead of the other one; None: next ticks are to be looked
        #: through, as the clock may have been set back while no worker ran, or has been.
        self._ahead: float | None = None

    def told(self, next_at: datetime | None) -> None:
        """The store says when the next tick is."""
        self._next_at = next_at

    def wakes_at(self) -> datetime | None:
        """Return when there is something to do, by the wall clock."""
        if self._next_at is None or not self._may:
            return None
        held_off = timedelta(seconds=max(0.0, self._not_before - boottime()))
        return max(self._next_at, datetime.now(UTC) + held_off) if held_off else self._next_at

    def is_due(self) -> bool:
        """Whether to make jobs now."""
        wakes_at = self.wakes_at()
        return wakes_at is not None and wakes_at <= datetime.now(UTC)

    def step(self) -> bool:
        """Make the jobs of the due ticks; tell whether there is one. Raises StoreUnavailable."""
        if self._ahead is not None:  # what it shows now counts, though it be set back at once
            self._ahead = max(self._ahead, time.time() - boottime())
        try:
            done = ticks.enqueue_due(self._store)
        except StoreUnavailable:
            raise
        except StoreError as error:
            # Its role may not: nothing that a second try would mend.
            self._may = False
            self._log.emit("schedules-refused", f"serves no schedule: {error.message}")
            return False
        self._next_at = None  # the next look tells
        self._pause = _VAIN_SECONDS if done.found else min(self._pause * 2, _LONGEST_SECONDS)
        self._not_before = 0.0 if done.found else boottime() + self._pause
        for name, reason in done.broken.items():
            self._log.emit(
                "schedule-broken",
                f"schedule {name} cannot be read, and is paused: {reason}",
                schedule=name,
            )
        return bool(done.ids)

    def watch_clock(self) -> None:
        """Bring next ticks nearer if the clock was set back. Raises StoreUnavailable."""
        ahead = time.time() - boottime()
        if self._ahead is not None and ahead > self._ahead - _SET_BACK_SECONDS:
            self._ahead = max(self._ahead, ahead)
            return
        try:
            moved = ticks.realign(self._store)
        except StoreUnavailable:
            raise
        except StoreError as error:
            self._may = False
            self._log.emit("schedules-refused", f"serves no schedule: {error.message}")
            moved = []
        self._ahead = ahead
        for name in moved:
            self._log.emit(
                "schedule-moved",
                f"the clock was set back: schedule {name} is due earlier",
                schedule=name,
            )
