"""Reads the store again and again: nothing that is as before, and never for long."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from queuectl.cli.top.snapshot import Snapshot
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.service import counts, overview

#: The throughput is that of so long, in seconds.
SPAN_SECONDS = 60.0
#: Whether a worker lives is seen without a commit of anybody's: after so long, in seconds, all is
#: read anew.
_TRUSTED_SECONDS = 5.0
#: Counting takes longer the more jobs there are (a million that have ended: 30 ms); it is done so
#: seldom that it takes less than one part in so many of the time.
_COUNTING_SHARE = 50
_LONGEST_COUNTING_PAUSE_SECONDS = 10.0
#: The same for all that is read.
_READING_SHARE = 10
#: A look that took long may have waited for a server, which is back: so it is never put off longer.
_LONGEST_PAUSE_SECONDS = 3.0
#: Jobs that were seen running, and are still looked for when they have ended.
_MOST_SEEN = 200


class Watch:
    """Looks at one store; used by one thread."""

    def __init__(self, store: engine.Store, queues: Sequence[str] = ()) -> None:
        self._store = store
        self._queues = tuple(queues)
        self._tally: counts.Tally | None = None
        self._count_again_at = 0.0
        #: How long the last counting took.
        self._counting_seconds = 0.0
        #: Whether what is remembered was read with counts of a moment before.
        self._is_behind = False
        self._trusted_until = 0.0
        self._seen: dict[int, None] = {}
        self._throughput = Throughput()
        #: How long the last look took, in seconds.
        self.took_seconds = 0.0

    def look(self, limit: int) -> Snapshot:
        """Return the store as it stands, with at most so many jobs of a kind; raises StoreError."""
        begun = time.monotonic()
        if begun >= self._trusted_until:
            self._store.forget()
            self._trusted_until = begun + _TRUSTED_SECONDS
        elif self._is_behind and begun >= self._count_again_at:
            self._store.forget()
        seen = self._store.read(
            lambda connection: self._store.remember(
                connection, ("overview", limit), lambda c: partial(self._read, c, limit)
            )()
        )
        self._remember_running(seen)
        ended = self._throughput.take(begun, seen.tally)
        self.took_seconds = time.monotonic() - begun
        return Snapshot(seen, *ended)

    def look_anew(self) -> None:
        """Read everything the next time: somebody has changed it here."""
        self._count_again_at = self._trusted_until = 0.0

    def pause_seconds(self, interval_seconds: float) -> float:
        """Return how long to wait before the next look, so that looking costs little."""
        costly = min(self.took_seconds * _READING_SHARE, _LONGEST_PAUSE_SECONDS)
        return max(interval_seconds, costly)

    def _read(self, connection: Any, limit: int) -> overview.Overview:
        begun = time.monotonic()
        known = None if begun >= self._count_again_at else self._tally
        seen = overview.read_in(
            self._store,
            connection,
            limit=limit,
            queues=self._queues,
            seen=list(self._seen),
            tally=known,
        )
        self._is_behind = known is not None
        if known is None:
            self._tally = seen.tally
            self._put_off_counting(begun, time.monotonic())
        return seen

    def _put_off_counting(self, begun: float, now: float) -> None:
        """Count again after a share of what it costs: the less of twice, for the first time opens
        the store, and another may have waited for a server."""
        costs = min(now - begun, self._counting_seconds)
        self._counting_seconds = now - begun
        self._count_again_at = now + min(costs * _COUNTING_SHARE, _LONGEST_COUNTING_PAUSE_SECONDS)

    def _remember_running(self, seen: overview.Overview) -> None:
        """Keep those that ran lately in mind: they are shown when they have ended, old or new."""
        for job in seen.running:
            self._seen.pop(job.seq, None)
            self._seen[job.seq] = None
        while len(self._seen) > _MOST_SEEN:
            del self._seen[next(iter(self._seen))]


class Throughput:
    """How many jobs have ended lately, from counts of what has ended in all."""

    def __init__(self) -> None:
        #: When it was counted, and how many more had ended since the count before.
        self._steps: deque[tuple[float, int]] = deque()
        self._last: counts.Tally | None = None
        self._begun_at = 0.0

    def take(self, now: float, tally: counts.Tally) -> tuple[int, float]:
        """Take in a count; return how many ended in the last so many seconds, and in how many.

        What is pruned or retried meanwhile takes away from the step in which it is.
        """
        if self._last is None:
            self._begun_at = now
        elif tally is not self._last:
            self._steps.append((now, max(0, _ended(tally) - _ended(self._last))))
        self._last = tally
        while self._steps and self._steps[0][0] <= now - SPAN_SECONDS:
            self._steps.popleft()
        return sum(more for _, more in self._steps), min(now - self._begun_at, SPAN_SECONDS)


def _ended(tally: counts.Tally) -> int:
    return sum(tally.states[state] for state in domain.FINISHED)
