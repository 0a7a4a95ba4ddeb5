"""Rates: how many jobs of a queue may start in a time of any length, and when the next one may.

A window that slides ("sliding window log": every start is remembered until it is as old as the
window is long) and not a bucket of tokens or its equal, the generic cell rate algorithm (ITU-T
I.371): a bucket that was full lets almost twice as many start in a window, and whoever says ten a
minute for another one's sake counts on ten. Up to MOST_MOMENTS starts are remembered exactly; where
a rate allows more, their moments are rounded up to that part of the window, so that there may be
fewer, never more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from queuectl.domain.durations import format_duration, parse_duration

#: What of a window is remembered at most: moments, each with how many started then.
MOST_MOMENTS = 100
MOST_STARTS = 1_000_000
LONGEST_SECONDS = 30 * 86_400
_UNITS = {
    "s": ("s", "sec", "second"),
    "m": ("m", "min", "minute"),
    "h": ("h", "hour"),
    "d": ("d", "day"),
}
_WORDS = {word: f"1{unit}" for unit, words in _UNITS.items() for word in words}
#: A queue is not closed for longer than this, in windows: a moment may have been rounded up.
_LONGEST_CLOSED = 1 + 2 / MOST_MOMENTS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RULE = "is no rate: write 10/m, 2/s, 500/h, 1000/d, 1/5m, or none"

#: When something started, in microseconds since 1970, and how many.
Moment = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many starts in any window of so many seconds."""

    count: int
    seconds: int

    def __str__(self) -> str:
        length = format_duration(self.seconds)
        return f"{self.count}/{length[1:] if length in _WORDS.values() else length}"


def parse_rate(text: str) -> Rate | None:
    """Return what ``10/m``, ``1/5m`` or ``none`` says; raises ValueError for anything else."""
    if text.strip().lower() == "none":
        return None
    count, slash, length = (part.strip() for part in text.partition("/"))
    if not slash or not re.fullmatch(r"[0-9]{1,9}", count):
        raise ValueError(_RULE)
    if not 1 <= int(count) <= MOST_STARTS:
        raise ValueError(f"must allow 1 to {MOST_STARTS} starts")
    try:
        seconds = parse_duration(_WORDS.get(length.lower(), length))
    except ValueError as error:
        raise ValueError(_RULE) from error
    if seconds != int(seconds) or not 1 <= seconds <= LONGEST_SECONDS:
        raise ValueError("must be of whole seconds, up to 30d")
    return Rate(int(count), int(seconds))


def is_closed(opens_at: datetime | None, seconds: int | None, now: datetime) -> bool:
    """Whether a queue of such windows is closed, given when it was to open.

    None can open much later than a window from now: where that stands, a clock has been set back.
    """
    if opens_at is None or seconds is None:
        return False
    return now < opens_at <= now + timedelta(seconds=seconds * _LONGEST_CLOSED)


def decode_starts(text: str | None) -> list[Moment]:
    """Return the moments of a stored text; raises ValueError for one that holds something else."""
    found = json.loads(text) if text else []
    if not isinstance(found, list) or not all(map(_is_moment, found)):
        raise ValueError("must be a list of moments in microseconds, each with a number of starts")
    return [(moment, count) for moment, count in found]


def _is_moment(pair: object) -> bool:
    if not isinstance(pair, list) or [type(number) for number in pair] != [int, int]:
        return False
    moment, count = map(int, pair)
    return 0 <= moment < 1 << 53 and 1 <= count <= MOST_STARTS


class Window:
    """The starts of a queue that still count at one instant; oldest first."""

    def __init__(self, rate: Rate, starts: Sequence[Moment], now: datetime) -> None:
        self._rate = rate
        self._length = rate.seconds * 1_000_000
        self._grain = 1 if rate.count <= MOST_MOMENTS else -(-self._length // MOST_MOMENTS)
        self._now = (now - _EPOCH) // _MICROSECOND
        # What was noted by a clock that has been set back since counts as if it were now: it holds
        # the queue up for one window at most.
        latest = self._round_up(self._now)
        since = self._now - self._length
        self._starts: dict[int, int] = {}
        for moment, count in sorted(starts):
            if moment > since:
                self._add(min(moment, latest), count)

    def _round_up(self, moment: int) -> int:
        return -(-moment // self._grain) * self._grain

    def _add(self, moment: int, count: int) -> None:
        self._starts[moment] = self._starts.get(moment, 0) + count

    @property
    def room(self) -> int:
        """How many may start now."""
        return max(0, self._rate.count - sum(self._starts.values()))

    @property
    def opens_at(self) -> datetime | None:
        """When the next may start; None: now."""
        if not self._starts or self.room:
            return None
        excess = sum(self._starts.values()) - self._rate.count
        for moment, count in self._starts.items():
            if count > excess:
                return _EPOCH + (moment + self._length) * _MICROSECOND
            excess -= count
        return None

    def note(self, count: int) -> None:
        """So many start now."""
        self._add(self._round_up(self._now), count)

    def give_back(self, count: int) -> None:
        """So many that were noted never started.

        The oldest ones are forgotten, whichever they were, so that what is left never counts for a
        shorter time than it should.
        """
        for moment in list(self._starts):
            if count <= 0:
                return
            taken = min(count, self._starts[moment])
            count -= taken
            self._starts[moment] -= taken
            if not self._starts[moment]:
                del self._starts[moment]

    def encode(self) -> str | None:
        """Return the text that ``decode_starts`` reads; None: nothing counts."""
        if not self._starts:
            return None
        return json.dumps(list(self._starts.items()), separators=(",", ":"))
