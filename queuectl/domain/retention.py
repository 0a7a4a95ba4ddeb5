"""Retention: what time it surely is, when history is about to be deleted by it.

A clock that has leapt ahead must not delete what it takes for old. So a worker counts no more time
than it can vouch for: from the newest change that it found in the store when it started, it counts
a day, and the time that it has run itself, by a clock that nobody sets. A store that was left alone
for two months keeps its last jobs until it is in use again, and no longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from queuectl.domain.job import State

#: What may lie between the newest change and the start of a worker.
_SPARE = timedelta(days=1)
#: How far the store's clock and the machine's may differ before neither is believed.
_APART = timedelta(hours=1)


def believable_now(
    store_now: datetime, own_now: datetime, newest: datetime | None, watched_seconds: float
) -> datetime | None:
    """Return the latest time that it may be; None: the clocks differ, or nothing was ever done.

    ``newest`` is the newest change that was in the store ``watched_seconds`` ago.
    """
    if newest is None or abs(store_now - own_now) > _APART:
        return None
    return min(store_now, newest + _SPARE + timedelta(seconds=watched_seconds))


def horizons(now: datetime, retention: Mapping[State, float]) -> dict[State, datetime]:
    """Return, for each state that is not kept for ever, before when a job must have ended."""
    return {state: now - timedelta(seconds=kept) for state, kept in retention.items()}
