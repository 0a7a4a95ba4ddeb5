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
#: What it may seem to gain besides, as a part of the lease; and how long an answer may be on its
#: way that tells the time. With all three, a lease ends 0.15 of it too early at most, and a worker
#: that is cut off has ended its jobs when a sixth is left.
_TOLERANCE = 1 / 32


class LeapWatch:
    """What one rescuer knows of the clock. Its own instants are in seconds."""

    def __init__(self) -> None:
        #: How far the clock is ahead of the own one.
        self._lead: float | None = None
        self._read_at = -inf
        self._is_vague = False
        self._distrusted_until = -inf

    def read(
        self, clock: datetime, *, asked_at: float, answered_at: float, lease_seconds: float
    ) -> float:
        """Take in what the clock said between two own instants.

        Returns by how many seconds it has leapt ahead since it was read last; 0 if it has not.
        """
        tolerated = lease_seconds * _TOLERANCE
        took = answered_at - asked_at
        waited = answered_at - self._read_at
        # Where all answers are slow, they are better than none.
        self._is_vague = self._lead is not None and took > tolerated and waited <= lease_seconds
        if self._is_vague:
            return 0.0
        lead = clock.timestamp() - (asked_at + answered_at) / 2
        known, self._lead, self._read_at = self._lead, lead, answered_at
        if known is None:
            return 0.0
        gained = known + min(waited, lease_seconds) * _GAIN
        if lead > gained + max(tolerated, took):
            self._distrusted_until = answered_at + lease_seconds
            return lead - known
        self._lead = min(lead, gained)  # or many small leaps would go unseen
        return 0.0

    def trusts(self, now: float) -> bool:
        """Whether a lease that is over by the clock, as it was read last, is over."""
        return not self._is_vague and now >= self._distrusted_until
