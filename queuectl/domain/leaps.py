"""Whether the clock that leases go by has leapt ahead: then every worker elsewhere looks dead.

A rescuer compares that clock with one of its own that nobody sets. If it has gained more than a
clock may, whoever was alive has a lease by the old time. Each of them has either renewed it one
lease later, or has ended what it ran; until then, silence tells nothing.
"""

from __future__ import annotations

from datetime import datetime
from math import inf

#: What a clock may gain, as a part of the time: chrony slews one by a twelfth at most
#: (``maxslewrate``), and nothing else is as quick.
_GAIN = 1 / 12
#: What it may seem to gain besides, as a part of the lease. With it a lease ends an eighth too
#: early at most, and a worker that is cut off has ended its jobs when a sixth of it is left.
_TOLERANCE = 1 / 24


class LeapWatch:
    """What one rescuer knows of the clock. Its own instants are in seconds."""

    def __init__(self) -> None:
        #: How far the clock is ahead of the own one, as far as is known.
        self._lead: float | None = None
        self._read_at = -inf
        self._distrusted_until = -inf

    def read(
        self, clock: datetime, *, asked_at: float, answered_at: float, lease_seconds: float
    ) -> float:
        """Take in what the clock said between two own instants.

        Returns by how many seconds it has leapt ahead since it was read last; 0 if it has not. A
        slow answer may look like a leap, never a leap like a slow answer.
        """
        most, least = clock.timestamp() - asked_at, clock.timestamp() - answered_at
        known, self._lead = self._lead, least
        waited, self._read_at = answered_at - self._read_at, answered_at
        if known is None:
            return 0.0
        gained = known + min(waited, lease_seconds) * _GAIN
        if most > gained + lease_seconds * _TOLERANCE:
            self._distrusted_until = answered_at + lease_seconds
            return most - known
        self._lead = min(least, gained)  # or many small leaps would go unseen
        return 0.0

    def trusts(self, now: float) -> bool:
        """Whether a lease that is over by the clock is over."""
        return now >= self._distrusted_until
