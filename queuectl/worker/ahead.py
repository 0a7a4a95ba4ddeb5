"""Claiming ahead: while jobs are very short, a worker holds a few more than it has slots for.

A turn costs a commit, which is longer than ``true`` runs; so a worker whose recent jobs were short
claims what its slots will need in the next 40 milliseconds, and settles what has ended together.
It never keeps a job that another worker could start: what lies ahead is given back as soon as some
worker is idle, when a job turns out to be long, and on a stop. A claim that is given back counts as
never made.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from queuectl.db.presence import IdleSign
from queuectl.domain.job import Claim
from queuectl.settings import StoreLocation

#: Nothing is claimed ahead while jobs take longer than this on average, in seconds.
SHORT_SECONDS = 0.03
#: How much work is claimed ahead, in seconds.
HORIZON_SECONDS = 0.04
#: How long an ended attempt may wait for others to be settled with, in seconds.
SETTLE_SECONDS = 0.02
#: How long claims may wait while every slot is busy, in seconds.
PATIENCE_SECONDS = 0.05
MOST = 64


class Ahead:
    """The claims that wait for a slot of this worker, and what decides how many they may be."""

    def __init__(self, location: StoreLocation, slots: int) -> None:
        self.sign = IdleSign(location)
        self._slots = slots
        self._claims: deque[Claim] = deque()
        #: How long recent jobs took, a moving average in seconds; None before the first.
        self._pace: float | None = None
        #: Whether all of them are to be given back, because one is not to be run.
        self.withdrawn = False
        self._moved_at = 0.0
        self._first_end_at: float | None = None

    def __bool__(self) -> bool:
        return bool(self._claims)

    def withdraw(self, mark: str) -> bool:
        """If this claim waits here, give all of them back with the next turn; whether it does."""
        found = any(claim.mark == mark for claim in self._claims)
        self.withdrawn = self.withdrawn or found
        return found

    def take(self) -> Claim:
        """Return the claim to start next."""
        self._moved_at = time.monotonic()
        return self._claims.popleft()

    def measure(self, seconds: float) -> None:
        """Take the duration of an attempt that has just ended into account."""
        if self._first_end_at is None:
            self._first_end_at = time.monotonic()
        pace = self._pace
        self._pace = (
            seconds if pace is None or seconds > SHORT_SECONDS else (3 * pace + seconds) / 4
        )

    def room(self) -> int:
        """Return how many more jobs to claim than there are free slots."""
        if self._pace is None or self._pace > SHORT_SECONDS or self.sign.is_anybody_idle():
            return -len(self._claims)
        wanted = int(HORIZON_SECONDS * self._slots / max(self._pace, 0.0005))
        return min(wanted, MOST) - len(self._claims)

    def turn_by(self, *, ended: bool) -> float:
        """Return when the next turn is due while claims wait here, by the monotonic clock."""
        due = self._moved_at + PATIENCE_SECONDS
        if ended and self._first_end_at is not None:
            due = min(due, self._first_end_at + SETTLE_SECONDS)
        return due

    def is_awaited(self) -> bool:
        """Whether claims wait here that an idle worker could start, or that go back anyway."""
        return bool(self._claims) and (self.withdrawn or self.sign.is_anybody_idle())

    def surplus(self, *, stopping: bool) -> list[Claim]:
        """Return the claims to give back with the next turn."""
        waited = time.monotonic() - self._moved_at > PATIENCE_SECONDS
        if (self._claims and (stopping or waited or self.withdrawn)) or self.is_awaited():
            return list(self._claims)
        return []

    def settled(self, claimed: Sequence[Claim], given_back: Sequence[Claim]) -> None:
        """Take in what a turn did."""
        if given_back:
            self._claims.clear()
            self.withdrawn = False
        self._claims.extend(claimed)
        self._moved_at = time.monotonic()
        self._first_end_at = None

    def recall(self, held: Sequence[Claim]) -> None:
        """The reply to a turn was lost, and these are the claims that stand and do not run yet."""
        self._claims = deque(held)
        self._moved_at = time.monotonic()
