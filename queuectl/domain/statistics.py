"""What is told of many durations, and the spans of time into which their ends are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

#: The percentiles that are told.
PERCENTS = (50, 95, 99)
#: The upper bounds of a histogram's bars, in seconds; behind the last comes whatever is longer.
BOUNDS_SECONDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36_000.0)
#: Spans that throughput is counted in, in seconds: from a minute to a year.
SPANS_SECONDS = (60, 300, 900, 3600, 21_600, 86_400, 604_800, 2_592_000, 31_536_000)
#: Spans that are shown side by side at most.
MOST_SPANS = 48


@dataclass(frozen=True, slots=True)
class Times:
    """Many durations, in seconds. Without any of them all but ``count`` is None or empty."""

    count: int
    mean: float | None
    median: float | None
    percentile_95: float | None
    percentile_99: float | None
    longest: float | None
    #: How many lie below each of BOUNDS_SECONDS and not below the one before; the last: the others.
    histogram: tuple[int, ...]


NO_TIMES = Times(0, None, None, None, None, None, (0,) * (len(BOUNDS_SECONDS) + 1))


def rank(percent: int, count: int) -> int:
    """Return which of ``count`` sorted values is the percentile: the nearest rank, from 1.

    It is a value that occurred, the smallest that so many percent of all do not exceed.
    """
    return max(1, -(-percent * count // 100))


def choose_span(begins: datetime, ends: datetime) -> int:
    """Return the shortest span, in seconds, of which MOST_SPANS cover the time."""
    seconds = (ends - begins).total_seconds()
    return next((span for span in SPANS_SECONDS if seconds <= span * MOST_SPANS), SPANS_SECONDS[-1])


def per_hour(count: int, seconds: float) -> float:
    """Return how many there were an hour in so many seconds."""
    return count * 3600 / seconds if seconds > 0 else 0.0


def spread(counts: dict[int, int], first: int, last: int) -> Sequence[int]:
    """Return the counts of all spans from one number to another; where none is, 0."""
    return [counts.get(number, 0) for number in range(first, last + 1)]
