"""Schedules: when the next tick is, what becomes of ticks that were missed, and of overlaps.

A tick is an instant at which a schedule is due. Those of a cron expression are read in a time zone,
as Debian's cron reads them: a time that a change of the clocks leaves out comes right after the
gap, one that comes twice is taken once; expressions whose minutes or hours begin with a star count
hours as they pass. Those of an interval are its multiples since the schedule began, so they do not
drift, however late each is noticed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from queuectl.domain.durations import parse_duration

#: A missed tick older than this is no longer run with ``--catch-up none``, in seconds.
LATE_SECONDS = 60.0
#: Missed ticks that ``--catch-up all`` makes up for at most: the newest.
MOST_CAUGHT_UP = 100
#: The shortest interval, in seconds.
SHORTEST_SECONDS = 1.0
_LONGEST_CRON = 256
#: What Vixie's cron has words for; ``@reboot`` is no time.
_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_CRON_RULE = (
    "a cron expression is five fields, minute hour day month weekday: '*/5 8-18 * * MON-FRI'"
)
_MOMENT = timedelta(microseconds=1)
_FIRST_WINDOW = timedelta(minutes=1)


class CatchUp(StrEnum):
    """Which ticks are made up for that were missed while no worker ran."""

    NONE = "none"  #: none but one that is hardly late
    LAST = "last"  #: the newest
    ALL = "all"  #: all of them, up to the newest hundred


class Overlap(StrEnum):
    """What a tick does while a job of its schedule still waits or runs."""

    SKIP = "skip"  #: it makes no job
    QUEUE = "queue"  #: its job waits like any other
    CANCEL_OLD = "cancel-old"  #: it cancels the others


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule is due: by a cron expression in a time zone, or every so many seconds."""

    cron: str | None
    every_seconds: float | None
    timezone: str
    #: Where an interval counts from.
    starts_at: datetime

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the ticks after an instant, in order, in UTC; a cron expression's may end."""
        if self.cron is None:
            return self._multiples_after(instant)
        return self._matches_after(instant, self.cron)

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first tick after an instant; None: there is none in fifty years."""
        return next(self.after(instant), None)

    def newest(self, first: datetime, now: datetime, most: int) -> list[datetime]:
        """Return the newest ticks from ``first`` up to ``now``, at most so many, oldest first.

        A look back that doubles finds them without counting all of a year's half million minutes.
        """
        window = _FIRST_WINDOW
        while True:
            begin = max(first, now - window)
            found: deque[datetime] = deque(maxlen=most)
            for tick in self.after(begin - _MOMENT):
                if tick > now:
                    break
                found.append(tick)
            if begin == first or len(found) == most:
                return list(found)
            window *= 2

    def _multiples_after(self, instant: datetime) -> Iterator[datetime]:
        step = round((self.every_seconds or 0.0) * 1_000_000)
        # Whole microseconds: a float would be off by some after a few years.
        passed = (instant - self.starts_at) // _MOMENT
        count = max(passed // step + 1, 1)
        while True:
            try:
                yield self.starts_at + _MOMENT * (count * step)
            except OverflowError:  # the years end
                return
            count += 1

    def _matches_after(self, instant: datetime, cron: str) -> Iterator[datetime]:
        from cronsim import CronSim  # here: only schedules need it

        matches = CronSim(
            _WORDS.get(cron.lower(), cron), instant.astimezone(ZoneInfo(self.timezone))
        )
        last = instant
        for match in matches:
            tick = match.astimezone(UTC)
            # In an hour that comes twice, the first of two equal times is meant, and may be over.
            if tick > last:
                last = tick
                yield tick


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule as it stands in the store. Instants are UTC."""

    name: str
    cron: str | None
    every_seconds: float | None
    timezone: str
    starts_at: datetime
    catch_up: CatchUp
    overlap: Overlap
    #: The fields of the jobs that it makes, as ``JobRequest`` has them in JSON.
    request: dict[str, Any]
    #: The next tick; None: it is paused, or has none any more.
    next_at: datetime | None
    #: The newest tick that made a job.
    last_at: datetime | None
    paused_at: datetime | None
    #: Why it was paused by a worker: what it says can no longer be read.
    problem: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def timing(self) -> Timing:
        """When it is due."""
        return Timing(self.cron, self.every_seconds, self.timezone, self.starts_at)

    def next_ticks(self, now: datetime, count: int) -> list[datetime]:
        """Return the next ticks from now on; of a paused one, as if it were resumed now."""
        begin = now if self.next_at is None else self.next_at - _MOMENT
        return list(islice(self.timing.after(begin), count))

    def resumes_at(self, now: datetime) -> datetime | None:
        """Return the next tick from now on, as if it were not paused; None: there is none.

        Raises ValueError with the reason where it can no longer be read.
        """
        check_timezone(self.timezone)
        return next(iter(self.next_ticks(now, 1)), None)


def due_ticks(timing: Timing, catch_up: CatchUp, first: datetime, now: datetime) -> list[datetime]:
    """Return the ticks from ``first`` up to ``now`` that are to make jobs, oldest first."""
    most = MOST_CAUGHT_UP if catch_up is CatchUp.ALL else 1
    ticks = timing.newest(first, now, most)
    if catch_up is CatchUp.NONE:
        late = timedelta(seconds=LATE_SECONDS)
        return [tick for tick in ticks if now - tick <= late]
    return ticks


def let_in(ticks: list[datetime], overlap: Overlap, *, busy: bool) -> list[datetime]:
    """Return those of the due ticks that make a job; ``busy``: an earlier one waits or runs.

    Where one job must end before the next begins, one of several ticks is enough: the newest.
    """
    if overlap is Overlap.QUEUE:
        return ticks
    if overlap is Overlap.SKIP and busy:
        return []
    return ticks[-1:]


def check_cron(text: str) -> str:
    """Return a cron expression as it is; raises ValueError with the reason for a wrong one."""
    from cronsim import CronSim, CronSimError

    if text.startswith("@"):
        if text.lower() not in _WORDS:
            raise ValueError(f"is no time; there are {', '.join(_WORDS)}")
        return text
    count = len(text.split())
    if len(text) > _LONGEST_CRON or not text.isprintable():
        raise ValueError(f"must be one line of at most {_LONGEST_CRON} characters")
    if count != 5:
        raise ValueError(f"has {count} field{'s' * (count != 1)}; {_CRON_RULE}")
    try:
        found = next(CronSim(text, datetime(2000, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        raise ValueError(
            f"has a {str(error).lower().replace('bad', 'wrong')}; {_CRON_RULE}"
        ) from error
    except (ValueError, OverflowError) as error:  # a number of thousands of digits
        raise ValueError(_CRON_RULE) from error
    if found is None:
        raise ValueError("names a day that never comes")
    return text


def check_timezone(text: str) -> str:
    """Return the name of a time zone as it is; raises ValueError if there is none of that name."""
    try:
        ZoneInfo(text)
    # A folder of zones, such as Europe, is none; nor is a path that leads out of them.
    except (OSError, ValueError, LookupError) as error:
        raise ValueError("is no time zone; write one like Europe/Berlin or UTC") from error
    return text


def parse_interval(text: object) -> float:
    """Return the seconds of ``90s``; raises ValueError with the reason for anything else."""
    seconds = parse_duration(text)
    if seconds < SHORTEST_SECONDS:
        raise ValueError(f"must be at least {SHORTEST_SECONDS:.0f} second")
    return round(seconds, 6)
