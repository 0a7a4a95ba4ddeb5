"""Looking for dead workers: when, and whether the clock of a shared store tells who they are."""

from __future__ import annotations

import random
import time

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.domain.leaps import LeapWatch
from queuectl.service import rescues
from queuectl.service.rescues import Suspects
from queuectl.worker import rescue
from queuectl.worker.events import EventLog
from queuectl.worker.reports import boottime


class Patrol:
    """One worker's rounds."""

    def __init__(self, store: Store, log: EventLog) -> None:
        self._store = store
        self._log = log
        self._leaps = LeapWatch()
        #: When to look for those elsewhere, by the monotonic clock.
        self._far_look_at = 0.0

    def is_due(self, now: float) -> bool:
        """Whether to ask the store for dead workers: seldom, where their locks tell it sooner."""
        if not self._store.is_shared:
            return True
        return now >= self._far_look_at or presence.has_loose(self._store.location)

    def go(self, lease_seconds: float) -> list[str]:
        """Take the jobs of dead workers back; return their ids. Raises StoreError."""
        asked_at = boottime()
        suspects = rescues.suspects(self._store)
        pause = _pause(suspects.quiet_seconds, lease_seconds)
        self._far_look_at = time.monotonic() + pause
        return rescue.rescue_dead(self._store, self._judge(suspects, asked_at, lease_seconds))

    def _judge(self, suspects: Suspects, asked_at: float, lease_seconds: float) -> Suspects:
        """Believe that whoever is silent elsewhere is dead, unless the clock has leapt ahead."""
        if suspects.clock is None:
            return suspects
        now = boottime()
        leap = self._leaps.read(
            suspects.clock, asked_at=asked_at, answered_at=now, lease_seconds=lease_seconds
        )
        if leap:
            message = f"the server's clock has leapt ahead by {leap:.1f} s: believes every lease"
            self._log.emit("clock-leapt", f"{message} for {lease_seconds:.0f} s", seconds=leap)
        return suspects if self._leaps.trusts(now) else suspects.spared()


def _pause(quiet_seconds: float | None, lease_seconds: float) -> float:
    """Return in how many seconds a worker elsewhere may be dead.

    A lease is only renewed, or cut down to what a busy worker has from now on.
    """
    share = lease_seconds / 6
    quiet = min(quiet_seconds or 0.0, lease_seconds)
    return max(quiet, share * 0.8) + random.uniform(0, share * 0.4)  # noqa: S311  # no secret
