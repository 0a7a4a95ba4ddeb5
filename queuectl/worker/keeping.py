"""Keeping house: the jobs past their retention, and the outputs of jobs that are gone.

It is done between turns, a few hundred jobs and files at a time: a turn has no statement more for
it. ``service/retention.py`` says to whom it falls.
"""

from __future__ import annotations

import random

from queuectl.db.engine import Store
from queuectl.errors import StoreError, StoreUnavailable
from queuectl.service import retention
from queuectl.service.leftovers import Sweep
from queuectl.worker.events import EventLog
from queuectl.worker.reports import boottime

#: The least time between two looks that find nothing to do; the most is half as much again.
LOOK_SECONDS = 60.0
#: When a worker first looks, at most: not all at once, and before a short life is over.
_FIRST_LOOK_SECONDS = 5.0
#: The pause while there is more to do.
_MORE_SECONDS = 1.0


class Housekeeper:
    """What one worker does for the store and its machine besides its jobs."""

    def __init__(self, store: Store, worker_id: str, log: EventLog) -> None:
        self._store, self._worker_id, self._log = store, worker_id, log
        self._newest = retention.newest_change(store)
        self._begun = boottime()
        self._walk = retention.Walk()
        self._sweep = Sweep(store)
        self._may_delete = True
        #: When there is something to do next, by the monotonic clock of a machine that may sleep.
        self.due_at = self._begun + random.uniform(0, _FIRST_LOOK_SECONDS)  # noqa: S311  # jitter

    def step(self) -> None:
        """Do a part of what falls to this worker. Raises StoreUnavailable."""
        now = boottime()
        pause = LOOK_SECONDS * random.uniform(1, 1.5)  # noqa: S311  # jitter
        self.due_at = now + pause
        duty = retention.duty(self._store, self._worker_id, self._newest, now - self._begun)
        worked = self._prune(duty) if duty.prunes and duty.horizons else False
        if duty.sweeps:
            worked = bool(self._sweep.step()) or worked
        if worked:
            self.due_at = now + _MORE_SECONDS

    def _prune(self, duty: retention.Duty) -> bool:
        if not self._may_delete:
            return False
        found = retention.expired(self._store, duty.horizons, self._walk)
        if not found:
            return False
        try:
            count = retention.prune_expired(self._store, duty.horizons, found)
        except StoreUnavailable:
            raise
        except StoreError as error:
            # Its role may not delete: nothing that a second try would mend.
            self._may_delete = False
            self._log.emit("retention-refused", f"deletes nothing: {error.message}")
            return False
        if count:
            jobs = "1 job" if count == 1 else f"{count} jobs"
            self._log.emit("pruned", f"deleted {jobs} past their retention", jobs=count)
        return count > 0
