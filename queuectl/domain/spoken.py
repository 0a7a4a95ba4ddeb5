"""Times as people say them: which words may be said, and what a date must be to mean them.

Whoever reads dates in words takes what it knows and leaves the rest: ``tomorrow 15`` is tomorrow to
it, at this time of day. So no word gets there that is not one of these, and what comes back is held
against them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_WEEKDAY = (
    r"(?P<weekday>mon(?:day)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:rs(?:day)?)?|fri(?:day)?"
    r"|sat(?:urday)?|sun(?:day)?)"
)
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,? (?P<year>\d{4}))?"
#: Days that end in no number, so that one behind them is an hour.
_NAMED_DAYS = (
    *("yesterday", "today", "tomorrow", "day after tomorrow"),
    f"(?:this |next )?{_WEEKDAY}",
)
_DAYS = (
    *_NAMED_DAYS,
    rf"(?:{_WEEKDAY},? )?{_DAY} {_MONTH}{_YEAR}",
    rf"(?:{_WEEKDAY},? )?{_MONTH} {_DAY}{_YEAR}",
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)",
    r"in \d{1,4} (?:day|week|month|year)s?",
    r"next (?:week|month|year)",
)
_CLOCKS = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?(?: ?(?P<half>[ap]m))?",
    r"(?P<hour>\d{1,2}) ?(?P<half>[ap]m)",
    r"noon",
)
_ZONE = r"(?: ?(?P<zone>utc|gmt|z|[+-]\d\d:\d\d))?"
#: A time of day, behind the day or before it; and an hour without minutes, which needs a day.
_WITH_CLOCK = (
    *(rf"(?:(?P<rest>.+?),? )?(?:at )?{clock}{_ZONE}" for clock in _CLOCKS),
    *(rf"(?:at )?{clock}{_ZONE},? (?P<rest>.+)" for clock in _CLOCKS),
)
_WITH_HOUR = r"(?P<rest>.+?),? (?P<at>at )?(?P<hour>\d{1,2})"
_HOUR_BEFORE = r"at (?P<hour>\d{1,2}),? (?P<rest>.+)"
_SPAN = re.compile(
    r"(?:in )?((?:\d+(?:\.\d+)?"
    r" ?(?:d(?:ays?)?|h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)(?:,? (?:and )?)?)+)",
    re.ASCII,
)
_PART = re.compile(r"(\d+(?:\.\d+)?) ?([dhms])[a-z]*")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A time in words: a day, a time of day, or both. What was not said is None or empty."""

    date: str
    clock: time | None
    #: ``UTC``, or an offset like ``+02:00``; empty: this machine's.
    zone: str
    #: 0 is Monday.
    weekday: int | None
    year: int | None
    month: int | None
    day: int | None

    @property
    def text(self) -> str:
        """The same in the plainest words."""
        date = self.date
        if self.weekday is not None:  # not all short names are known to all who read them
            date = date.replace(date.split()[-1], _WEEKDAYS[self.weekday])
        if self.month is not None:
            date = f"{self.day} {_MONTHS[self.month - 1]} {self.year or ''}".rstrip()
        clock = "" if self.clock is None else f"{self.clock:%H:%M:%S}"
        return " ".join(filter(None, (date, clock, self.zone)))

    @property
    def is_weekday(self) -> bool:
        """Whether the day is nothing but one of the week, the next one there is."""
        return self.weekday is not None and self.day is None and " " not in self.date

    def is_meant_by(self, found: datetime) -> bool:
        """Whether all that was said is true of this date, in the zone that it has."""
        pairs = [
            (self.clock, found.time().replace(microsecond=0)),
            (self.weekday, found.weekday()),
            (self.year, found.year),
            (self.month, found.month),
            (self.day, found.day),
        ]
        return all(said is None or said == is_so for said, is_so in pairs)


def read_span(text: str) -> str | None:
    """Return ``in 3 hours`` as ``3h``, the form of other durations; None: it is something else."""
    whole = _SPAN.fullmatch(_plain(text))
    return "".join(map("".join, _PART.findall(whole[1]))) if whole else None


def read_spoken(text: str) -> Spoken:
    """Return what was said; raises ValueError with the reason for what is no time."""
    plain = _plain(text)
    if plain and (day := _read_day(plain, _DAYS)):
        return _spoken(day, None)
    for form in _WITH_CLOCK:
        if (clock := _match(form, plain)) and (day := _read_day(clock["rest"] or "", _DAYS)):
            return _spoken(day, clock)
    behind, before = _match(_WITH_HOUR, plain), _match(_HOUR_BEFORE, plain)
    if behind and (day := _read_day(behind["rest"], _DAYS if behind["at"] else _NAMED_DAYS)):
        return _spoken(day, behind)
    if before and (day := _read_day(before["rest"], _DAYS)):
        return _spoken(day, before)
    raise ValueError("names no time")


def _plain(text: str) -> str:
    plain = " ".join(text.lower().split())
    plain = re.sub(r"\b(?:the|of) ", "", plain)
    return re.sub(r"^(\d{4}-\d\d-\d\d)t(?=\d)", r"\1 ", plain)


def _match(form: str, text: str) -> re.Match[str] | None:
    return re.fullmatch(form, text, re.ASCII)


def _read_day(text: str, days: Sequence[str]) -> re.Match[str] | None:
    """Return what fits a day; nothing at all is one too: the next on which it is so late."""
    found = (_match(f"(?:on )?(?P<date>{day})", text) for day in ("", *days))
    return next(filter(None, found), None)


def _spoken(day: re.Match[str], clock: re.Match[str] | None) -> Spoken:
    parts = day.groupdict()
    weekday, month, year, number = (parts.get(name) for name in ("weekday", "month", "year", "day"))
    zone = "" if clock is None else clock.groupdict().get("zone") or ""
    return Spoken(
        date=parts["date"],
        clock=None if clock is None else _clock(clock.groupdict()),
        zone="UTC" if zone.isalpha() else zone,
        weekday=None if weekday is None else _number(weekday, _WEEKDAYS),
        year=None if year is None else int(year),
        month=None if month is None else _month(month),
        day=None if number is None else int(number),
    )


def _number(text: str, names: Sequence[str]) -> int:
    """Return the place of the name that begins with the same three letters."""
    return next(place for place, name in enumerate(names) if name[:3] == text[:3])


def _month(text: str) -> int:
    if not text.isdigit():
        return _number(text, _MONTHS) + 1
    if not 1 <= int(text) <= 12:
        raise ValueError("names no time: months are 01 to 12")
    return int(text)


def _clock(parts: Mapping[str, str | None]) -> time:
    hour, half = int(parts.get("hour") or 12), parts.get("half")
    if half is not None and not 1 <= hour <= 12:
        raise ValueError(f"has no such time of day: {hour} {half}")
    if half is not None:
        hour = hour % 12 + 12 * (half == "pm")
    minute, second = int(parts.get("minute") or 0), int(parts.get("second") or 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("has no such time of day: hours are 0 to 23, minutes and seconds 0 to 59")
    return time(hour, minute, second)
