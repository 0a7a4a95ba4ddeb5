"""When a worker looks at the store: as the bell rings, when a job is due, and by itself at times.

A bell wakes every idle worker for one job, and the quickest takes it. The vain looks of the others
take the processor from those who work: eight workers beside eight clients ran 467 jobs a second so,
and 567 when whoever looked in vain lets others go first the next time (``python -m bench W8``, with
a bell that settlements do not ring).
"""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime

#: A worker without a free slot looks at a bell that rang after this long: only a stop can matter.
BUSY_LOOK_SECONDS = 0.05
#: How long a worker lets others go first after one vain look; doubled by each, up to the longest.
_COURTESY_SECONDS = 0.001
_MOST_VAIN = 5
#: A bell that was silent for this long rings for everybody alike again.
_QUIET_SECONDS = 0.2


class Lookout:
    """Decides when the next look is due. Instants are by the monotonic clock."""

    def __init__(self, poll_seconds: float) -> None:
        #: The poll behind the bell; jittered, so that many idle workers do not look at once.
        self.poll_seconds = poll_seconds
        self.at = 0.0
        #: Whether it got the last job that it went for. Such a worker claims at the next
        #: bell without a look before, which is 0.3 ms sooner; the others do not crowd it.
        self.is_lucky = False
        #: How many looks in a row found nothing, though the bell had rung.
        self._vain = 0
        self._rang = False
        self._rang_at = 0.0

    def rang(self, now: float, *, free: bool) -> None:
        """The bell rang; ``free`` says whether the worker has room for a job."""
        if now - self._rang_at > _QUIET_SECONDS:
            self._vain = 0
        self._rang, self._rang_at = True, now
        self.at = min(self.at, now + (self._courtesy() if free else BUSY_LOOK_SECONDS))

    def _courtesy(self) -> float:
        if not self._vain:
            return 0.0
        longest = math.ldexp(_COURTESY_SECONDS, min(self._vain, _MOST_VAIN))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret

    def soon(self) -> None:
        """Look as soon as there is time."""
        self.at = 0.0

    def looked(self, now: float, *, due: bool, next_due_at: datetime | None) -> None:
        """A look found something that is due, or when the next job will be."""
        if self._rang and not due:
            self._vain += 1
        self._rang = False
        self.at = now + self._pause(next_due_at)

    def claimed(self, count: int, *, settled: bool = False) -> None:
        """A turn has claimed so many jobs; ``settled``: it had something else to do as well.

        Such a turn that claims nothing was not in vain: nobody had said that there is a job.
        """
        self._rang = False
        if settled and not count:
            return
        self.is_lucky = count > 0
        self._vain = 0 if count else self._vain + 1

    def _pause(self, next_due_at: datetime | None) -> float:
        poll = self.poll_seconds * random.uniform(0.8, 1.2)  # noqa: S311  # jitter, no secret
        if next_due_at is None:
            return poll
        return min(poll, max(0.0, (next_due_at - datetime.now(UTC)).total_seconds()))
