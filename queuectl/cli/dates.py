"""Dates as people say them: ``tomorrow 9:00``, ``friday at 14:30``, ``in 3h``."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from queuectl.cli import render
from queuectl.domain import durations, request, spoken
from queuectl.errors import InvalidInput


def parse_when(text: str, option: str) -> str:
    """Return the instant as RFC 3339, with its zone; raises InvalidInput.

    Words are read as English, in this machine's zone, and mean the next such time. What is not
    understood as a whole is refused.
    """
    try:
        request.parse_instant(text)
        return text
    except ValueError:
        pass
    try:
        found = _read_words(text)
    except ValueError as error:
        raise InvalidInput(
            f"{option}: {text[:40]!r} {error}",
            hint="write 18:00, tomorrow 15:00, friday at 14:30, in 3h, or 2026-11-24T18:00:00Z",
        ) from error
    if found <= datetime.now(UTC):
        raise InvalidInput(
            f"{option}: {text[:40]!r} is over: it was {tell(found)}", hint="name a time to come"
        )
    return found.isoformat()


def parse_deadline(text: str, option: str = "--deadline") -> str:
    """Return a duration as it is, an instant as RFC 3339; raises InvalidInput for one in the past.

    Words are read as ``parse_when`` reads them.
    """
    with suppress(ValueError):
        durations.parse_duration(text)
        return text
    found = parse_when(text, option)
    instant = request.parse_instant(found)
    if instant is not None and instant <= datetime.now(UTC):
        raise InvalidInput(
            f"{option}: {text[:40]!r} is over: {tell(instant)}", hint="name a time to come, or 3h"
        )
    return found


def _read_words(text: str) -> datetime:
    """Return the instant that words mean, all of them; raises ValueError with the reason."""
    if (span := spoken.read_span(text)) is not None:
        return datetime.now(UTC) + timedelta(seconds=durations.parse_duration(span))
    said = spoken.read_spoken(text)
    found = _resolve(said)
    if found is None or not said.is_meant_by(found):
        raise ValueError("names no time")
    if not said.is_meant_by(found.astimezone(UTC).astimezone(found.tzinfo)):
        raise ValueError("names no time: the clocks are put forward then, and leave it out")
    return found


def _resolve(said: spoken.Spoken) -> datetime | None:
    import dateparser  # here: it takes 0.2 s

    found = None
    with suppress(ValueError, OverflowError):  # in 9999 years
        found = dateparser.parse(
            said.text,
            languages=["en"],
            settings={"PREFER_DATES_FROM": "future", "RETURN_AS_TIMEZONE_AWARE": True},
        )
    if found is not None and said.is_weekday and said.clock is not None:
        today = found - timedelta(days=7)  # to dateparser, a Friday is never today
        return today if today > datetime.now(UTC) else found
    return found


def tell(instant: datetime) -> str:
    """Return an instant for people, in this machine's zone, and how far away it is."""
    local = instant.astimezone()
    return f"{local:%a %Y-%m-%d %H:%M:%S %Z} ({render.relative(instant)})"
